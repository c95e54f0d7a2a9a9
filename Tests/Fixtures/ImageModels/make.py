"""t5/: a tiny T5 v1.1 encoder as transformers saves and computes it. t5-tokenizer/: a small unigram tokenizer with a precompiled character
map, as transformers saves it, and its ids for difficult texts. t5-spiece/: the ids of a folder with spiece.model alone.

usage: make.py CAPTIONS.txt (one caption a line, to train the vocabulary on)
"""
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import sentencepiece
import torch
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from transformers import T5Config, T5EncoderModel, T5Tokenizer

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).resolve().parent

RULES = [("\u00a0", " "), ("\u3000", " "), ("\t", " "), ("\ufb01", "fi"), ("\u00bd", "1\u20442"), ("\uff21", "A"), ("\uff22", "B"),
         ("e\u0301", "\u00e9"), ("\u2126", "\u03a9"), ("\u00ad", ""), ("\u200b", " "), ("\u2026", "..."), ("\u212b", "\u00c5")]

TEXTS = ["", " ", "grinning face", "A red heart", "  two   blanks ", "tabs\tand\nlines", "half \u00bd or \u2026", "\ufb01ne \ufb01ligree", "e\u0301t\u00e9 caf\u00e9",
         "\uff21\uff22\uff21", "no\u00a0break\u3000space", "soft\u00adhyphen zero\u200bwidth", "\u2126 and \u212b", "hello, world!", "don't", "3.14 42",
         "\u4f60\u597d", "x\u4f60\u597dy", "\U0001f600 face", "\u2581literal a\u2581b", "</s> end", "<pad> <unk>", "UPPER lower", "<extra_id_0> sentinel",
         "smiling face with smiling eyes and three hearts and a very long tail of words that is cut"]


def encoder() -> None:
    torch.manual_seed(11)
    config = T5Config(vocab_size=40, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
                      relative_attention_max_distance=12, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model = T5EncoderModel(config).eval()
    generator = np.random.default_rng(5)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.4 if parameter.ndim == 2 else 1.0
            parameter.copy_(torch.from_numpy(generator.standard_normal(parameter.shape) * scale + (parameter.ndim == 1)))
    model.save_pretrained(HERE / "t5")
    ids = torch.from_numpy(generator.integers(0, 40, (2, 20)))
    with torch.no_grad():
        states = model(input_ids=ids).last_hidden_state
    save_file({"input_ids": ids.int(), "last_hidden_state": states}, HERE / "t5" / "golden.safetensors")
    print(sorted(name for name in model.state_dict()), states.abs().max())


def tokenizer(captions: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder) / "rules.tsv"
        rules.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in RULES))
        lines = pathlib.Path(folder) / "lines.txt"  # the texts too, so that their letters, digits and signs are known
        lines.write_text(pathlib.Path(captions).read_text() + "\n".join(TEXTS[:19] * 3))
        sentencepiece.SentencePieceTrainer.train(input=str(lines), model_prefix=folder + "/m", vocab_size=300, model_type="unigram",
                                                 normalization_rule_tsv=str(rules), pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1,
                                                 character_coverage=1.0, minloglevel=2)
        model = sentencepiece_model_pb2.ModelProto()
        model.ParseFromString(pathlib.Path(folder, "m.model").read_bytes())
    vocabulary = [(piece.piece, piece.score) for piece in model.pieces]
    made = T5Tokenizer(vocab=vocabulary, _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap, extra_ids=3, model_max_length=512)
    made.save_pretrained(HERE / "t5-tokenizer")
    entries = [{"text": text, "ids": made(text).input_ids,
                "padded": made(text, padding="max_length", max_length=12, truncation=True).input_ids} for text in TEXTS]
    (HERE / "t5-tokenizer" / "golden.json").write_text(json.dumps({"entries": entries}) + "\n")
    for entry in entries:
        print(repr(entry["text"]), made.convert_ids_to_tokens(entry["ids"]))


def sentence_piece() -> None:
    """As the reference reads a folder with spiece.model alone: the file is SigLIP's fixture."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE.parent / "siglip-a" / "spiece.model", folder)
        made = T5Tokenizer.from_pretrained(folder)
    texts = TEXTS + ["a bear<extra_id_0>and <extra_id_17><pad></s><unk>x", "<extra_id_100>"]
    entries = [{"text": text, "ids": made(text).input_ids,
                "padded": made(text, padding="max_length", max_length=12, truncation=True).input_ids} for text in texts]
    (HERE / "t5-spiece").mkdir(exist_ok=True)
    (HERE / "t5-spiece" / "golden.json").write_text(json.dumps({"entries": entries}) + "\n")


encoder()
tokenizer(sys.argv[1])
sentence_piece()
