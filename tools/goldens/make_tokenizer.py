"""tokenizer.json: token ids of tricky strings with the base model's two CLIP tokenizers, and tokenizer-tiny/ with a hand-sized
vocabulary whose merges can be followed on paper (tokenizer-tiny/golden.json).

Each entry: `text`, `ids` (begin ... end, uncut), `padded` (cut and padded to 16 as the pipeline does); `ids_2` and `padded_2`
for the second tokenizer. Its pad token "!" is a special token, so a "!" anywhere in a text becomes id 0 and splits the text
before the words are found: `ids_2` differs from `ids` exactly where a text holds one.
"""
import json
import shutil

from transformers import CLIPTokenizer

from common import BASE_MODEL, FIXTURES, save_json, versions

TEXTS = [
    "", " ", "grinning face", "Grinning Face", "GRINNING FACE WITH BIG EYES", "  leading and trailing  ", "tabs\tand\nnew\r\nlines", "many     spaces   between",
    "a", "!", "!!", "!!!", "...", "hello, world!", "hello,world", "it's", "don't we'll they're I'm you've he'd", "IT'S", "'s", "''s", "rock 'n' roll", "o'clock",
    "the dog's bone", "cats' eyes", "\u2019s curly apostrophe it\u2019s", "1", "42", "2026", "3.14", "1,000,000", "5x5", "x2y3z", "covid19", "\u00bd \u00b2 \u2163 \u0664\u0662",
    "#hashtag @user", "email@example.com", "https://example.com/a?b=c&d=e", "under_score", "hyphen-ated", "em\u2014dash", "(parentheses) [brackets] {braces}",
    "quote \"double\" 'single'", "back\\slash /slash", "50% off $9.99", "caf\u00e9", "cafe\u0301", "na\u00efve \u00dcber \u00c5ngstr\u00f6m", "\u00c0\u00c9\u00ce\u00d5\u00dc", "stra\u00dfe STRASSE",
    "\u0130stanbul", "\u039f\u0394\u039f\u03a3", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u4f60\u597d\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f", "\uc548\ub155", "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001F600", "\U0001F44D\U0001F3FD", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\u2764\ufe0f", "\U0001F1E9\U0001F1EA flag", "face\U0001F600face",
    "zero\u200bwidth", "no\u00a0break", "ideographic\u3000space", "soft\u00adhyphen", "\ufeffbom", "control\u0001char", "\ufb01ligature", "\u2126 ohm \u212a kelvin \u212b",
    "<|startoftext|>", "<|endoftext|>", "a <|endoftext|> b", "<|ENDOFTEXT|>", "<|endoftext", "</w>", "a</w> b", "supercalifragilisticexpialidocious",
    "smiling face with smiling eyes and three hearts and a party hat in front of a very large green tree", "a " * 40, "z" * 100, "word, " * 12,
]


def entries(tokenizer, texts):
    length = tokenizer.model_max_length
    return [{"text": text, "ids": tokenizer(text).input_ids,
             "padded": tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids} for text in texts]


def base_model():
    document = {"versions": versions("transformers", "tokenizers"), "entries": []}
    first, second = (CLIPTokenizer.from_pretrained(BASE_MODEL / name) for name in ("tokenizer", "tokenizer_2"))
    assert (first.pad_token, second.pad_token) == ("<|endoftext|>", "!")
    for one, other in zip(entries(first, TEXTS), entries(second, TEXTS)):
        assert len(one["padded"]) == len(other["padded"]) == 16
        document["entries"].append({"text": one["text"], "ids": one["ids"], "padded": one["padded"], "ids_2": other["ids"], "padded_2": other["padded"]})
    assert all((e["ids"] != e["ids_2"]) == ("!" in e["text"]) for e in document["entries"])
    print(len(TEXTS), "strings;", sum(e["ids"].count(first.eos_token_id) > 1 for e in document["entries"]), "hold an unknown or literal end of text")
    save_json(FIXTURES / "tokenizer.json", document, indent=None, separators=(",", ":"))


def hand_sized():
    """abc and its merges: 'abc' -> a b c</w> -> ab c</w> -> abc</w>; 'cab' -> c a b</w> -> ca b</w> (rank 2 before rank 4)."""
    folder = FIXTURES / "tokenizer-tiny"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    merges = ["a b", "ab c</w>", "c a", "b c</w>", "a b</w>", "ca b</w>", "1 2</w>"]
    letters = ["!", "a", "b", "c", "1", "2"]
    tokens = [*letters, *[f"{letter}</w>" for letter in letters], *[merge.replace(" ", "") for merge in merges], "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}) + "\n")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 8, "do_lower_case": True}) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    texts = ["", "abc", "cab", "ABC cab", "abcabc", "aabbcc", "bc", "ab", "abc!", "12", "a1b2", "x", "abx", "!!", "c a b a b c c a b a b c"]
    document = {"versions": versions("transformers", "tokenizers"), "entries": []}
    for entry in entries(tokenizer, texts):
        document["entries"].append({**entry, "tokens": tokenizer.convert_ids_to_tokens(entry["ids"])})
        print(" ", entry["text"], document["entries"][-1]["tokens"])
    save_json(folder / "golden.json", document, indent=None, separators=(",", ":"))


if __name__ == "__main__":
    base_model()
    hand_sized()
