"""What users' folders hold beside weights: schedules.json, and tokenizer-whole/, a CLIP tokenizer saved by transformers 5.

schedules.json: `entries[]` of `shift`, `shift_terminal`, `num_train_timesteps`, `steps`, and diffusers' `sigmas` and `timesteps` for them.
tokenizer-whole/: `tokenizer.json` and `tokenizer_config.json` as `save_pretrained` leaves them, nothing else, of the base model's second
tokenizer, cut to a few hundred tokens; `golden.json`: `entries[]` of random texts with `ids` and `padded`.
"""
import json
import random
import shutil

from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import CLIPTokenizer

from common import BASE_MODEL, FIXTURES, save_json, versions


def schedules():
    draw = random.Random(20)
    entries = []
    for index in range(24):
        numbers = {
            "shift": round(10 ** draw.uniform(-0.6, 1.1), 3),
            "shift_terminal": round(draw.uniform(0.01, 0.6), 3) if index % 2 else None,
            "num_train_timesteps": draw.choice([1000, 1000, 1000, 100, 500, 4000]),
        }
        steps = draw.choice([2, 3, 4, 10, 28, 50])
        scheduler = FlowMatchEulerDiscreteScheduler(**numbers)
        scheduler.set_timesteps(steps)
        entries.append({**numbers, "steps": steps, "sigmas": scheduler.sigmas.double().tolist(),
                        "timesteps": scheduler.timesteps.double().tolist()})
    save_json(FIXTURES / "schedules.json", {"versions": versions("diffusers"), "entries": entries}, indent=None, separators=(",", ":"))


def random_text(draw):
    alphabets = [
        "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", " \t\n\r\u00a0\u2028\u3000", ".,;:!?'\"()-_/\\#@&%$*+=<>|[]{}~^`",
        "\u00e9\u00e8\u00fc\u00df\u00f1\u00c5\u00d8\u0130\u0131", "e\u0301a\u0308o\u0302", "\u0410\u0411\u0432\u0433\u0394\u03b1\u03c3\u03c2", "\u4f60\u597d\u30ab\u30ca\ud55c\uae00", "\u0905\u0939\u0940\u0627\u0644",
        "\U0001F600\U0001F44D\U0001F3FD\u200d\u2764\ufe0f", "\u00bd\u00b2\u2163\u0664\u200b\ufeff\u00ad\u0001",
    ]
    words = ["red", "heart", "face", "<|endoftext|>", "'s", "I'm", "<|startoftext|>", "smiling", "</w>", "don't", "!"]
    text = ""
    for _ in range(draw.randint(1, 8)):
        alphabet = draw.choice(alphabets)
        text += draw.choice([draw.choice(words), "".join(draw.choice(alphabet) for _ in range(draw.randint(1, 6)))]) + draw.choice(["", " "])
    return text


def whole_tokenizer():
    folder = FIXTURES / "tokenizer-whole"
    shutil.rmtree(folder, ignore_errors=True)
    source = BASE_MODEL / "tokenizer_2"
    vocabulary = json.loads((source / "vocab.json").read_text())
    merges = [line for line in (source / "merges.txt").read_text().split("\n")[1:] if line][:200]
    results = {line.replace(" ", "") for line in merges}
    kept = [token for token in vocabulary if len(token.removesuffix("</w>")) == 1 or token in results or token.startswith("<|")]
    settings = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!", "model_max_length": 16}
    tokenizer = CLIPTokenizer(vocab={token: index for index, token in enumerate(kept)}, merges=[tuple(line.split(" ")) for line in merges], **settings)
    tokenizer.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    draw = random.Random(4)
    entries = []
    for _ in range(150):
        text = random_text(draw)
        entries.append({"text": text, "ids": tokenizer(text).input_ids,
                        "padded": tokenizer(text, padding="max_length", max_length=16, truncation=True).input_ids})
    save_json(folder / "golden.json", {"versions": versions("transformers", "tokenizers"), "entries": entries}, indent=None, separators=(",", ":"))


if __name__ == "__main__":
    schedules()
    whole_tokenizer()
