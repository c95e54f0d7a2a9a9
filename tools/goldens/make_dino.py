"""Tiny vision transformers as timm names and computes them, and the same weights as transformers names them.

dino-a: patch 8, layer scale (as the base model's); dino-b: DINOv2 (patch 14); dino-b-hf: dino-b as HF Dinov2Model; dino-reg: DINOv2
with 4 registers; dino-reg-hf: the same as HF Dinov2WithRegistersModel; dino-swiglu: packed SwiGLU (DINOv2 giant); dino-v3: DINOv3
(rotary positions, 4 registers, no query/key/value bias); dino-swiglu-hf: HF Dinov2Model with SwiGLU; dino-v3-hf: HF DINOv3ViTModel (biases
of query and value, as published), which two have weights of their own and no gradients.
golden.safetensors: `input` (normalised pixels), `blocks.N` (every token after block N, before the final norm), `tokens` (after the final
norm), `cls`, `grad_output` for `tokens`, `grad_input`, `grad/PARAMETER`; `resized/{input,tokens,position_embedding}` at another size,
the position table interpolated by the library's own rule.
"""
import shutil
from functools import partial

import timm
import torch
from safetensors import safe_open
from timm.layers import SwiGLUPacked
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.eva import Eva
from transformers import (Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel, DINOv3ViTConfig,
                          DINOv3ViTModel)

from common import FIXTURES, MODEL_TOLERANCE, SEED, float32_error, normal, randomize, save_json, save_tensors, versions

WIDTH, DEPTH, HEADS = 16, 2, 2
SHARED = dict(pretrained=False, num_classes=0, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, dynamic_img_size=True)
MODELS = {  # name: (model, image side, other size, extra configuration)
    "dino-a": (partial(timm.create_model, "vit_tiny_patch16_224", **SHARED, img_size=32, patch_size=8, init_values=1.0, mlp_ratio=3), 32, (48, 40), {}),
    "dino-b": (partial(timm.create_model, "vit_small_patch14_dinov2", **SHARED, img_size=42), 42, (56, 70), {}),
    "dino-reg": (partial(timm.create_model, "vit_small_patch14_reg4_dinov2", **SHARED, img_size=42), 42, (28, 56), {"num_register_tokens": 4}),
    "dino-swiglu": (partial(timm.create_model, "vit_small_patch14_dinov2", **SHARED, img_size=28, mlp_ratio=3, mlp_layer=SwiGLUPacked,
                            act_layer=torch.nn.SiLU), 28, (42, 28), {"act": "swiglu"}),
    "dino-v3": (partial(timm.create_model, "vit_small_patch16_dinov3", pretrained=False, num_classes=0, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS,
                        img_size=32), 32, (48, 64), {"num_register_tokens": 4, "position": "rope", "rope_temperature": 100, "layer_norm_eps": 1e-5, "qkv_bias": False}),
}


def configuration_of(architecture, model, side, extra):
    """The fields of Models/emoji-sd3-tiny/dino/config.json, and what else the variants need."""
    return {"architecture": architecture, "img_size": side, "patch_size": model.patch_embed.patch_size[0], "embed_dim": WIDTH, "depth": DEPTH,
            "num_heads": HEADS, "mlp_hidden": model.blocks[0].mlp.fc2.in_features, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
            "layer_norm_eps": 1e-6, "act": "gelu", "layer_scale": True, "num_register_tokens": 0, **extra}


def run_timm(model, pixels, other, grad_output, dtype):
    model.to(dtype).zero_grad()
    blocks = {}
    hooks = [block.register_forward_hook(lambda _, __, out, i=i: blocks.__setitem__(f"blocks.{i}", out.detach())) for i, block in enumerate(model.blocks)]
    leaf = pixels.to(dtype, copy=True).requires_grad_()
    tokens = model.forward_features(leaf)
    for hook in hooks:
        hook.remove()
    tokens.backward(grad_output.to(dtype))
    with torch.no_grad():
        resized = model.forward_features(other.to(dtype))
    return {**blocks, "tokens": tokens.detach(), "cls": tokens[:, 0].detach(), "grad_input": leaf.grad, "resized/tokens": resized,
            **{f"grad/{key}": p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}}


def make_timm(name):
    make, side, size, extra = MODELS[name]
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    model = make().eval()
    if isinstance(model, Eva):
        assert model.rope is not None and model.pos_embed is None
    randomize(model, name)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    save_json(folder / "config.json", configuration_of(make.args[0], model, side, extra))
    save_tensors(folder / "model.safetensors", weights, format="pt")
    pixels, other = normal(f"{name}/input", 2, 3, side, side), normal(f"{name}/resized", 1, 3, *size)
    with torch.no_grad():
        shape = model.float().forward_features(pixels.float()).shape
    grad_output = normal(f"{name}/grad_output", *shape)
    approximate, exact = (run_timm(model, pixels, other, grad_output, dtype) for dtype in (torch.float32, torch.float64))
    inputs = {"input": pixels, "grad_output": grad_output, "resized/input": other}
    if not isinstance(model, Eva):
        patch, prefix = model.patch_embed.patch_size[0], 0 if extra.get("num_register_tokens") else 1
        grid = [edge // patch for edge in size]
        inputs["resized/position_embedding"] = resample_abs_pos_embed(weights["pos_embed"], grid, num_prefix_tokens=prefix)
    save_tensors(folder / "golden.safetensors", {**inputs, **exact}, seed=SEED, versions=versions("timm"), tolerance=MODEL_TOLERANCE,
                 computed="float64 (position interpolation float32), stored as float32", reference_float32_error=float32_error(exact, approximate),
                 resize="bicubic with antialias" if not isinstance(model, Eva) else "rotary positions of the new grid")
    print(" ", float32_error(exact, approximate))
    return weights, exact, inputs


def huggingface_state(weights, registers):
    """timm's tensors under the names of transformers' modules (its files use older names, which save_pretrained writes)."""
    state = {"embeddings.mask_token": torch.zeros(1, WIDTH)}
    cls, position = weights["cls_token"], weights["pos_embed"]
    if registers:  # timm has the CLS position folded into cls_token and no table row for it
        cls_position = normal("dino-reg-hf/cls_position", 1, 1, WIDTH, scale=0.2).float()
        cls, position = cls - cls_position, torch.cat([cls_position, position], 1)
        state["embeddings.register_tokens"] = weights["reg_token"]
    state |= {"embeddings.cls_token": cls, "embeddings.position_embeddings": position}
    for end in ("weight", "bias"):
        state[f"embeddings.patch_embeddings.projection.{end}"] = weights[f"patch_embed.proj.{end}"]
        state[f"layernorm.{end}"] = weights[f"norm.{end}"]
        for i in range(DEPTH):
            source, target = f"blocks.{i}", f"encoder.layer.{i}"
            for letter, rows in zip("qkv", weights[f"{source}.attn.qkv.{end}"].chunk(3)):
                state[f"{target}.attention.{letter}_proj.{end}"] = rows
            state[f"{target}.attention.o_proj.{end}"] = weights[f"{source}.attn.proj.{end}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                state[f"{target}.{part}.{end}"] = weights[f"{source}.{part}.{end}"]
    for i in range(DEPTH):
        for n in (1, 2):
            state[f"encoder.layer.{i}.layer_scale{n}.lambda1"] = weights[f"blocks.{i}.ls{n}.gamma"]
    return state


def make_huggingface(name, source, registers):
    weights, exact, inputs = source
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    shared = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, mlp_ratio=4, patch_size=14, image_size=42, attn_implementation="sdpa")
    model = (Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**shared, num_register_tokens=4)) if registers else Dinov2Model(Dinov2Config(**shared))).eval()
    model.load_state_dict(huggingface_state(weights, registers))
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert "encoder.layer.0.attention.attention.query.weight" in file.keys()
    with torch.no_grad():
        model.double()
        tokens = model(pixel_values=inputs["input"]).last_hidden_state
        resized = model(pixel_values=inputs["resized/input"]).last_hidden_state
        edge = torch.zeros(1, 1 + (inputs["resized/input"].shape[2] // 14) * (inputs["resized/input"].shape[3] // 14), WIDTH)
        position = model.embeddings.interpolate_pos_encoding(edge, *inputs["resized/input"].shape[-2:])
    difference = float((tokens - exact["tokens"]).abs().max())
    assert difference < (1e-6 if registers else 1e-10), difference
    print(f"  {name} against timm: tokens {difference:.1e}, resized {float((resized - exact['resized/tokens']).abs().max()):.1e} (another interpolation)")
    save_tensors(folder / "golden.safetensors", {"input": inputs["input"], "tokens": tokens, "resized/input": inputs["resized/input"], "resized/tokens": resized,
                                                 "resized/position_embedding": position}, seed=SEED, versions=versions("transformers"),
                 computed="float64 (position interpolation float32), stored as float32", tolerance=MODEL_TOLERANCE,
                 resize="bicubic with antialias" if registers else "bicubic without antialias")


def make_own(name, model, side, other):
    """A transformers model with weights of its own; `resized` is a square image of side `other`."""
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    model.eval()
    randomize(model, name)
    model.save_pretrained(folder)
    pixels, resized = normal(f"{name}/input", 2, 3, side, side), normal(f"{name}/resized", 1, 3, other, other)

    def run(dtype):
        with torch.no_grad():
            model.to(dtype)
            output = model(pixel_values=pixels.to(dtype), output_hidden_states=True)
            # The last hidden state is before the final norm in one class and after it in the other: `tokens` is after it in both.
            return {**{f"blocks.{i}": output.hidden_states[i + 1] for i in range(DEPTH - 1)}, "tokens": output.last_hidden_state,
                    "cls": output.pooler_output, "resized/tokens": model(pixel_values=resized.to(dtype)).last_hidden_state}

    approximate, exact = run(torch.float32), run(torch.float64)
    save_tensors(folder / "golden.safetensors", {"input": pixels, "resized/input": resized, **exact}, seed=SEED, versions=versions("transformers"),
                 computed="float64 (positions float32), stored as float32", tolerance=MODEL_TOLERANCE,
                 reference_float32_error=float32_error(exact, approximate))
    print(" ", float32_error(exact, approximate))


if __name__ == "__main__":
    made = {name: make_timm(name) for name in MODELS}
    make_huggingface("dino-b-hf", made["dino-b"], registers=False)
    make_huggingface("dino-reg-hf", made["dino-reg"], registers=True)
    sizes = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, attn_implementation="sdpa")
    make_own("dino-swiglu-hf", Dinov2Model(Dinov2Config(**sizes, mlp_ratio=3, use_swiglu_ffn=True, patch_size=14, image_size=28)), 28, 42)
    make_own("dino-v3-hf", DINOv3ViTModel(DINOv3ViTConfig(**sizes, intermediate_size=40, patch_size=16, image_size=32, num_register_tokens=4)), 32, 48)
