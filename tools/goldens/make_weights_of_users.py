"""Weights as people have them, with what the library that knows them makes of them.

dino-meta: a DINOv3 in Meta's names (storage_tokens, ls1.gamma, rope_embed.periods, attn.qkv.bias with its mask), whose keys' bias the mask
takes away; golden.safetensors: `input` (normalised pixels) and timm's `tokens`, after timm loaded the very file through its own filter.
dino-head: a DINOv2 of transformers with a classifier; golden.safetensors: `input`, `tokens` (the last hidden state).
"""
import math
import shutil

import timm
import torch
from safetensors.torch import save_file
from timm.models.eva import checkpoint_filter_fn
from transformers import Dinov2Config, Dinov2ForImageClassification

from common import FIXTURES, MODEL_TOLERANCE, SEED, normal, randomize, save_json, save_tensors, versions

WIDTH, DEPTH, HEADS, SIDE = 16, 2, 2, 32


def save(name, weights, configuration, pixels, tokens):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    save_json(folder / "config.json", configuration)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})  # may hold NaN, which save_tensors refuses
    save_tensors(folder / "golden.safetensors", {"input": pixels, "tokens": tokens}, seed=SEED, versions=versions("timm", "transformers"),
                 tolerance=MODEL_TOLERANCE, computed="float64, stored as float32")


def meta():
    model = timm.create_model("vit_small_patch16_dinov3_qkvb", pretrained=False, num_classes=0, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, img_size=SIDE).eval()
    randomize(model, "dino-meta")
    names = {"reg_token": "storage_tokens"}
    weights = {}
    for key, value in model.state_dict().items():
        if not key.endswith(("q_bias", "k_bias", "v_bias")):
            weights[names.get(key, key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma"))] = value.clone()
    for index, block in enumerate(model.blocks):
        keys = normal(f"dino-meta/keys/{index}", WIDTH).float()  # what the mask takes away
        weights[f"blocks.{index}.attn.qkv.bias"] = torch.cat([block.attn.q_bias.detach(), keys, block.attn.v_bias.detach()])
        # In the second block as the module is made, before the training code fills it.
        weights[f"blocks.{index}.attn.qkv.bias_mask"] = (torch.cat([torch.ones(WIDTH), torch.zeros(WIDTH), torch.ones(WIDTH)]) if index == 0
                                                         else torch.full((3 * WIDTH,), math.nan))
    weights["mask_token"] = torch.zeros(1, WIDTH)
    quarter = WIDTH // HEADS // 4
    weights["rope_embed.periods"] = (100 ** (torch.arange(quarter, dtype=torch.float64) / quarter)).to(torch.bfloat16).float()  # as rounded as Meta's
    weights["local_cls_norm.weight"], weights["local_cls_norm.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    pixels = normal("dino-meta/input", 2, 3, SIDE, SIDE)
    model.load_state_dict(checkpoint_filter_fn({key: value.clone() for key, value in weights.items()}, model))
    with torch.no_grad():
        tokens = model.double().forward_features(pixels.double())
    save("dino-meta", weights, {"num_heads": HEADS, "img_size": SIDE}, pixels, tokens)


def head():
    configuration = Dinov2Config(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=SIDE, patch_size=8, num_labels=5)
    model = Dinov2ForImageClassification(configuration).eval()
    randomize(model, "dino-head")
    pixels = normal("dino-head/input", 2, 3, SIDE, SIDE)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        tokens = model.double().dinov2(pixels.double()).last_hidden_state
    save("dino-head", weights, {key: value for key, value in configuration.to_dict().items() if value is not None}, pixels, tokens)


if __name__ == "__main__":
    meta()
    head()
