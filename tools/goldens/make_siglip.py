"""siglip-a: a tiny SiglipModel with tokenizer and image processor, as google/siglip-base-patch16-* are folders of.

golden.safetensors: `input_ids`, `pixel_values`; `vision_last_hidden_state` and `text_last_hidden_state` (after the final norms), `image_embeds`
and `text_embeds` (not of unit length), `logits_per_image`; `grad_logits` and `grad/PARAMETER` of sum(logits_per_image * grad_logits).
images.safetensors and scores.json: as clip-dual-a's. tokens.json: `entries[]` of `text` and `ids` (padded to 40) of SiglipTokenizer.
"""
import os
import pathlib
import shutil
import tempfile

import sentencepiece
import torch
from PIL import Image
from transformers import SiglipConfig, SiglipModel, SiglipTokenizer
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from common import FIXTURES, MODEL_TOLERANCE, SEED, float32_error, normal, randomize, rng, save_json, save_tensors, versions
from make_clip_model import SIZES, picture

FOLDER = FIXTURES / "siglip-a"
VOCABULARY, TOKENS, SIDE = 56, 12, 24
CORPUS = """a photo of a red apple on a wooden table
two cats sleeping on a blue sofa in the sun
an oil painting of the sea at night with a small boat
the quick brown fox jumps over the lazy dog
a drawing of three birds in a tree, black and white
portrait of an old man reading a newspaper"""
PROMPTS = ["a photo of a red apple", "Two cats!", "", "an oil painting of the sea at night with a small boat and many more words"]
TEXTS = PROMPTS + [
    "A PHOTO", "  leading and   inner  blanks ", "tab\tand\nnew line", "don't stop, e.g. here...", "caf\u00e9 cr\u00e8me br\u00fbl\u00e9e", "cafe\u0301", "\uff21\uff22\uff23 \uff11\uff12", "\ufb01ne",
    "\u732b\u306e\u5199\u771f", "emoji \U0001f600 here", "\u2581marked \u2581 twice", "123 4,567.89", "x" * 30, "!!!", "_under_score_", "\u00dcBER \u00c5ngstr\u00f6m", "na\u00efve\u00a0space", "\u2026 ellipsis", "semi;colon:dash-ed",
]


def train_tokenizer():
    """The file records the names it was trained from, so they are relative."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pathlib.Path("corpus.txt").write_text("\n".join(line.replace(",", "") for line in CORPUS.splitlines() * 4))
        sentencepiece.SentencePieceTrainer.train(
            input="corpus.txt", model_prefix="spiece", vocab_size=VOCABULARY, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            normalization_rule_name="nmt_nfkc", num_threads=1, minloglevel=2, character_coverage=1.0)
        shutil.copy("spiece.model", FOLDER / "spiece.model")
        os.chdir(here)


def run(model, ids, pixels, upstream, dtype):
    model.to(dtype).zero_grad()
    output = model(input_ids=ids.long(), pixel_values=pixels.to(dtype))
    (output.logits_per_image * upstream.to(dtype)).sum().backward()
    return {"vision_last_hidden_state": output.vision_model_output.last_hidden_state.detach(),
            "text_last_hidden_state": output.text_model_output.last_hidden_state.detach(),
            "image_embeds": output.vision_model_output.pooler_output.detach(), "text_embeds": output.text_model_output.pooler_output.detach(),
            "logits_per_image": output.logits_per_image.detach(), **{f"grad/{key}": p.grad.clone() for key, p in model.named_parameters()}}


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    train_tokenizer()
    tokenizer = SiglipTokenizer(str(FOLDER / "spiece.model"))
    sizes = dict(num_hidden_layers=2, num_attention_heads=2)
    model = SiglipModel(SiglipConfig(
        text_config=dict(**sizes, vocab_size=VOCABULARY, hidden_size=12, intermediate_size=20, max_position_embeddings=TOKENS, projection_size=16),
        vision_config=dict(**sizes, hidden_size=16, intermediate_size=28, image_size=SIDE, patch_size=8))).eval()
    randomize(model, "siglip-a")
    with torch.no_grad():
        model.logit_scale.fill_(2.5)
        model.logit_bias.fill_(-3.0)
    model.save_pretrained(FOLDER)
    ids = torch.tensor(rng("siglip-a/ids").integers(0, VOCABULARY, (3, TOKENS)), dtype=torch.int32)
    pixels, upstream = normal("siglip-a/pixels", 2, 3, SIDE, SIDE), normal("siglip-a/grad_logits", 2, 3)
    approximate, exact = (run(model, ids, pixels, upstream, dtype) for dtype in (torch.float32, torch.float64))
    save_tensors(FOLDER / "golden.safetensors", {"input_ids": ids, "pixel_values": pixels, "grad_logits": upstream, **exact}, seed=SEED,
                 versions=versions("transformers"), computed="float64, stored as float32", tolerance=MODEL_TOLERANCE,
                 reference_float32_error=float32_error(exact, approximate))
    print(" ", float32_error(exact, approximate))

    processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    processor.save_pretrained(FOLDER)
    padding = dict(padding="max_length", truncation=True, max_length=TOKENS)
    save_json(FOLDER / "tokens.json", {"entries": [{"text": text, "ids": tokenizer(text, **{**padding, "max_length": 40}).input_ids} for text in TEXTS]}, indent=None)
    pictures = [picture(f"siglip-a/image.{i}", *size) for i, size in enumerate(SIZES)]
    prepared = [processor(Image.fromarray(image), return_tensors="pt")["pixel_values"] for image in pictures]
    prompt_ids = torch.tensor([tokenizer(prompt, **padding).input_ids for prompt in PROMPTS])
    with torch.no_grad():
        logits = model.double()(input_ids=prompt_ids, pixel_values=torch.cat(prepared).double()).logits_per_image
    save_json(FOLDER / "scores.json", {"prompts": PROMPTS})
    save_tensors(FOLDER / "images.safetensors", {**{f"image.{i}": image for i, image in enumerate(pictures)}, **{f"pixels.{i}": p for i, p in enumerate(prepared)},
                                                 "prompt_ids": prompt_ids.int(), "logits": logits}, seed=SEED,
                 versions=versions("transformers", "pillow", "sentencepiece"), computed="pixels by Pillow and float32, logits float64")
