"""ops.safetensors: each operation's output, and its inputs' gradients for a given upstream gradient.

Tensors are CASE/{input,...,output,grad_output,grad_NAME}; constants of a case are in the metadata entry `constants`.
"""
import json
import math

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding

from common import FIXTURES, SEED, normal, rng, save_tensors, versions

tensors, constants = {}, {}


def case(name, function, **inputs):
    """Runs `function(**inputs)` in float64 and records inputs, output, upstream gradient and gradients. `_x` inputs are constants."""
    constants[name] = {key[1:]: value for key, value in inputs.items() if key.startswith("_")}
    arguments = {key.lstrip("_"): value for key, value in inputs.items()}
    leaves = {key: value.requires_grad_() for key, value in arguments.items() if isinstance(value, torch.Tensor) and value.is_floating_point()}
    output = function(**arguments)
    upstream = normal(f"{name}/grad_output", *output.shape)
    output.backward(upstream)
    for key, value in arguments.items():
        if isinstance(value, torch.Tensor):
            tensors[f"{name}/{key}"] = value
    for key, leaf in leaves.items():
        tensors[f"{name}/grad_{key}"] = leaf.grad
    tensors[f"{name}/output"], tensors[f"{name}/grad_output"] = output, upstream


def x(name, *shape, **options):
    return normal(f"ops/{name}", *shape, **options)


def spread(name):
    """Values on both sides of every knee, far tails included."""
    return (torch.cat([torch.linspace(-8, 8, 33), torch.tensor([-30.0, 30.0])]) + x(name, 35, scale=0.01).float()).double()


def attention(query, key, value, bias=None, causal=False):
    """Batch, heads, tokens, head width; scale 1/sqrt(width); written out, not a fused kernel."""
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if bias is not None:
        logits = logits + bias
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    output = logits.softmax(-1) @ value
    reference = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=causal)
    assert torch.allclose(output, reference, atol=1e-12)
    return output


def unpatchify(input, height, width, patch, channels):
    """[B, h w, (p q c)] -> [B, c, (h p), (w q)]: inside a token row, then column, then channel."""
    blocks = input.reshape(-1, height // patch, width // patch, patch, patch, channels)
    return torch.einsum("nhwpqc->nchpwq", blocks).reshape(-1, channels, height, width)


case("linear.bias", lambda input, weight, bias: F.linear(input, weight, bias), input=x("a", 2, 3, 5), weight=x("b", 4, 5), bias=x("c", 4))
case("linear.plain", lambda input, weight: F.linear(input, weight), input=x("d", 7, 6), weight=x("e", 3, 6))
case("linear.gelu_tanh", lambda input, weight, bias: F.gelu(F.linear(input, weight, bias), approximate="tanh"),
     input=x("f", 2, 3, 5), weight=x("g", 4, 5), bias=x("h", 4))
for activation, function in {
    "gelu_tanh": lambda input: F.gelu(input, approximate="tanh"), "gelu_erf": F.gelu, "quick_gelu": lambda input: input * torch.sigmoid(1.702 * input),
    "silu": F.silu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softplus": F.softplus,
}.items():
    case(f"activation.{activation}", function, input=spread(activation))

case("layer_norm.plain", lambda input, eps: F.layer_norm(input, input.shape[-1:], eps=eps), input=x("i", 2, 3, 8, offset=0.5), _eps=1e-6)
case("layer_norm.affine", lambda input, weight, bias, eps: F.layer_norm(input, input.shape[-1:], weight, bias, eps),
     input=x("j", 2, 3, 8, offset=0.5), weight=x("k", 8, offset=1), bias=x("l", 8), _eps=1e-6)
case("layer_norm.affine_1e-5", lambda input, weight, bias, eps: F.layer_norm(input, input.shape[-1:], weight, bias, eps),
     input=x("j2", 2, 3, 8, scale=0.02), weight=x("k2", 8, offset=1), bias=x("l2", 8), _eps=1e-5)
case("layer_norm.modulate", lambda input, scale, shift, eps: F.layer_norm(input, input.shape[-1:], eps=eps) * (1 + scale[:, None]) + shift[:, None],
     input=x("m", 2, 5, 8), scale=x("n", 2, 8), shift=x("o", 2, 8), _eps=1e-6)
case("gate.residual", lambda input, gate, branch: input + gate[:, None] * branch, input=x("g1", 2, 5, 8), gate=x("g2", 2, 8), branch=x("g3", 2, 5, 8))
case("rms_norm.weight", lambda input, weight, eps: F.rms_norm(input, input.shape[-1:], weight, eps),
     input=x("p", 2, 2, 5, 8), weight=x("q", 8, offset=1), _eps=1e-6)
group = dict(input=x("r", 2, 8, 4, 5, offset=0.3), weight=x("s", 8, offset=1), bias=x("t", 8), _groups=4, _eps=1e-6)
case("group_norm.affine", lambda input, weight, bias, groups, eps: F.group_norm(input, groups, weight, bias, eps), **group)
case("group_norm.silu", lambda input, weight, bias, groups, eps: F.silu(F.group_norm(input, groups, weight, bias, eps)),
     **{key: value.detach().clone() if isinstance(value, torch.Tensor) else value for key, value in group.items()})
case("l2_normalize.plain", lambda input: input / input.norm(dim=-1, keepdim=True), input=x("l2a", 3, 8))
case("l2_normalize.epsilon", lambda input, eps: input / (input.norm(dim=-1, keepdim=True) + eps), input=x("l2b", 2, 3, 8), _eps=1e-6)

case("conv2d.3x3", lambda input, weight, bias: F.conv2d(input, weight, bias, padding=1), input=x("u", 2, 3, 6, 5), weight=x("v", 4, 3, 3, 3), bias=x("w", 4))
case("conv2d.1x1", lambda input, weight, bias: F.conv2d(input, weight, bias), input=x("u1", 2, 3, 4, 5), weight=x("v1", 4, 3, 1, 1), bias=x("w1", 4))
case("conv2d.downsample", lambda input, weight, bias: F.conv2d(F.pad(input, (0, 1, 0, 1)), weight, bias, stride=2),
     input=x("u2", 2, 3, 6, 8), weight=x("v2", 4, 3, 3, 3), bias=x("w2", 4))
case("conv2d.patchify", lambda input, weight, bias: F.conv2d(input, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2),
     input=x("u3", 2, 3, 8, 6), weight=x("v3", 5, 3, 2, 2), bias=x("w3", 5))
case("unpatchify", unpatchify, input=x("u4", 2, 12, 20), _height=8, _width=6, _patch=2, _channels=5)
case("upsample.nearest2x", lambda input: F.interpolate(input, scale_factor=2.0, mode="nearest"), input=x("u5", 2, 3, 4, 5))
for name, height, width in (("up", 11, 13), ("down", 4, 3), ("same_ratio", 14, 12)):
    case(f"bicubic.{name}", lambda input, height, width: F.interpolate(input, (height, width), mode="bicubic", align_corners=False),
         input=x(f"y/{name}", 2, 3, 7, 6), _height=height, _width=width)

heads = dict(query=x("aq", 2, 2, 5, 4), key=x("ak", 2, 2, 5, 4), value=x("av", 2, 2, 5, 4))
fresh = lambda: {key: value.detach().clone() for key, value in heads.items()}
case("attention.plain", attention, **fresh())
case("attention.causal", attention, **fresh(), _causal=True)
case("attention.bias", attention, **fresh(), bias=x("ab", 1, 2, 5, 5))
case("attention.cross", attention, query=x("cq", 2, 3, 4, 8), key=x("ck", 2, 3, 6, 8), value=x("cv", 2, 3, 6, 8))
case("softmax.last", lambda input: input.softmax(-1), input=x("sm", 3, 2, 7, scale=4))
indices = torch.from_numpy(rng("ops/indices").integers(0, 6, (2, 5)).astype("int32"))
case("embedding", lambda indices, weight: weight[indices.long()], indices=indices, weight=x("em", 6, 4))

# The sinusoid is float32 in the reference: the angle's rounding is part of the specification.
timesteps = torch.tensor([1000.0, 960.129, 707.278, 278.049, 8.929, 0.0])
for width in (16, 256):
    tensors[f"timestep_embedding.{width}/input"] = timesteps
    tensors[f"timestep_embedding.{width}/output"] = get_timestep_embedding(timesteps, width, flip_sin_to_cos=True, downscale_freq_shift=0)
    constants[f"timestep_embedding.{width}"] = {"width": width, "max_period": 10000}

# Round to nearest, ties to even: halfway cases on both sides, a carry into the exponent, the largest finite value, tiny ones.
halfway = torch.tensor([1 + 2 ** -8, 1 + 3 * 2 ** -8, -(1 + 2 ** -8), 2 - 2 ** -9, 3.3895e38, 1e-30, 1e-38, 1e-40, 0.0, -0.0, 65504.0])
numbers = torch.cat([halfway, x("bf16", 53).float()])
tensors["bfloat16.round/input"], tensors["bfloat16.round/output"] = numbers, numbers.bfloat16().float()

save_tensors(FIXTURES / "ops.safetensors", tensors, seed=SEED, versions=versions("diffusers"), computed="float64, stored as float32",
             tolerance="atol 1e-5 + rtol 1e-5; timestep_embedding atol 1e-4; bfloat16 exact", constants=json.dumps(constants, sort_keys=True))
