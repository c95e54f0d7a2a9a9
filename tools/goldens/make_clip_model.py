"""clip-dual-a (quick_gelu) and clip-dual-b (gelu, legacy eos_token_id 2, other widths in both towers): tiny CLIPModel with tokenizer and
image processor, as PickScore_v1 is a folder of.

golden.safetensors: `input_ids` and `pixel_values` (normalised); `vision_last_hidden_state` (before the final norm), `text_last_hidden_state`
(after it), `image_embeds` and `text_embeds` (projected, not of unit length), `logits_per_image`; `grad_logits` and `grad/PARAMETER`
of sum(logits_per_image * grad_logits).
images.safetensors (clip-dual-a): `image.N` [H, W, 3] of several shapes and `pixels.N`, what CLIPImageProcessor's Pillow backend makes of it;
`prompt_ids` of the prompts in scores.json; `logits` [images, prompts], from those pixels and ids; `aesthetic` [images], of the linear layers in
sac+logos+ava1-l14-linearMSE.safetensors over the image features of unit length.
"""
import shutil

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from common import FIXTURES, MODEL_TOLERANCE, SEED, float32_error, normal, randomize, rng, save_json, save_tensors, versions

VOCABULARY, TOKENS, BEGIN, END = 21, 10, 19, 20  # tokenizer-tiny's
TEXT = dict(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, bos_token_id=BEGIN, intermediate_size=24, num_attention_heads=2, num_hidden_layers=2)
VISION = dict(image_size=24, patch_size=8, intermediate_size=28, num_attention_heads=2)
MODELS = {
    "clip-dual-a": dict(projection_dim=12, text_config=dict(**TEXT, hidden_size=16, eos_token_id=END, pad_token_id=END),
                        vision_config=dict(**VISION, hidden_size=20, num_hidden_layers=3)),
    "clip-dual-b": dict(projection_dim=8, text_config=dict(**TEXT, hidden_size=12, hidden_act="gelu", eos_token_id=2, pad_token_id=1),
                        vision_config=dict(**VISION, hidden_size=16, num_hidden_layers=2, hidden_act="gelu")),
}
SIZES = [(24, 24), (62, 48), (31, 58), (16, 20)]  # height, width: as the network has it, higher with an odd margin, wider with a fraction, smaller
PROMPTS = ["abc", "cab ab 12", "", "CAB abc, 12 ab! c and whatever is cut"]


def sentences(name, pad):
    rows = [[BEGIN, *rng(f"{name}/ids/{length}").integers(0, BEGIN, length).tolist(), END] for length in (4, 0, TOKENS - 2)]
    return torch.tensor([(row + [pad] * TOKENS)[:TOKENS] for row in rows], dtype=torch.int32)


def run(model, ids, pixels, upstream, dtype):
    model.to(dtype).zero_grad()
    output = model(input_ids=ids.long(), pixel_values=pixels.to(dtype))
    (output.logits_per_image * upstream.to(dtype)).sum().backward()
    with torch.no_grad():
        image = model.get_image_features(pixel_values=pixels.to(dtype)).pooler_output
        text = model.get_text_features(input_ids=ids.long()).pooler_output
    return {"vision_last_hidden_state": output.vision_model_output.last_hidden_state.detach(),
            "text_last_hidden_state": output.text_model_output.last_hidden_state.detach(), "image_embeds": image, "text_embeds": text,
            "logits_per_image": output.logits_per_image.detach(), **{f"grad/{key}": p.grad.clone() for key, p in model.named_parameters()}}


def make(name):
    configuration = MODELS[name]
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    model = CLIPModel(CLIPConfig(**configuration)).eval()
    randomize(model, name)
    with torch.no_grad():
        model.logit_scale.fill_(2.5)
    model.save_pretrained(folder)
    ids, pixels = sentences(name, configuration["text_config"]["pad_token_id"]), normal(f"{name}/pixels", 2, 3, 24, 24)
    upstream = normal(f"{name}/grad_logits", 2, len(ids))
    approximate, exact = (run(model, ids, pixels, upstream, dtype) for dtype in (torch.float32, torch.float64))
    save_tensors(folder / "golden.safetensors", {"input_ids": ids, "pixel_values": pixels, "grad_logits": upstream, **exact}, seed=SEED,
                 versions=versions("transformers"), computed="float64, stored as float32", tolerance=MODEL_TOLERANCE,
                 reference_float32_error=float32_error(exact, approximate))
    print(" ", float32_error(exact, approximate))
    return model.double()


def picture(name, height, width):
    """Smooth enough to be an image, and reaching both ends of the range, where bicubic kernels overshoot."""
    coarse = Image.fromarray(rng(name).integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    values = np.asarray(coarse, dtype=np.int32) + rng(name + "/grain").integers(-40, 41, (height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def aesthetic_head(*widths):
    """The `layers` of improved-aesthetic-predictor's MLP as it is published, without activations; dropout does nothing here."""
    layers = [torch.nn.Linear(*pair) for pair in zip(widths, widths[1:])]
    return torch.nn.ModuleDict({"layers": torch.nn.Sequential(
        layers[0], torch.nn.Dropout(0.2), layers[1], torch.nn.Dropout(0.2), layers[2], torch.nn.Dropout(0.1), layers[3], layers[4])}).eval()


def make_images(model, name):
    """Everything a reward does: files to pixels, prompts to ids, both to scores."""
    folder = FIXTURES / name
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        if (FIXTURES / "tokenizer-tiny" / file).exists():
            shutil.copy(FIXTURES / "tokenizer-tiny" / file, folder / file)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor.save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    pictures = [picture(f"{name}/image.{i}", *size) for i, size in enumerate(SIZES)]
    pixels = [processor(Image.fromarray(image), return_tensors="pt")["pixel_values"] for image in pictures]
    ids = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").input_ids
    assert int(ids.max()) < VOCABULARY, ids
    head = aesthetic_head(model.config.projection_dim, 16, 8, 6, 4, 1)
    randomize(head, "aesthetic")
    save_tensors(folder / "sac+logos+ava1-l14-linearMSE.safetensors", head.state_dict(), format="pt")
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=torch.cat(pixels).double()).logits_per_image
        features = model.get_image_features(pixel_values=torch.cat(pixels).double()).pooler_output
        aesthetic = head.double()["layers"](features / torch.linalg.vector_norm(features, dim=-1, keepdim=True)).squeeze(1)
    save_json(folder / "scores.json", {"prompts": PROMPTS})
    save_tensors(folder / "images.safetensors", {**{f"image.{i}": image for i, image in enumerate(pictures)}, **{f"pixels.{i}": p for i, p in enumerate(pixels)},
                                                 "prompt_ids": ids.int(), "logits": logits, "aesthetic": aesthetic}, seed=SEED,
                 versions=versions("transformers", "pillow"),
                 computed="pixels by Pillow and float32, logits float64")


if __name__ == "__main__":
    models = {name: make(name) for name in MODELS}
    make_images(models["clip-dual-a"], "clip-dual-a")
