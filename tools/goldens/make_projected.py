"""projected.safetensors: `dino_projected`, the discriminator of StyleGAN-T as the product has it, in plain PyTorch.

Two heads on tokens [B, 1 + N, D] of blocks 1 and 2 (N = 9, a grid of 3 x 3), 16 channels, prompts 10 wide: patches plus class token,
1 x 1 convolution, group norm (2 groups), leaky ReLU 0.2, the same with a 3 x 3 convolution added over root 2, then the projection on the
prompt (64 wide). Spectral norms are torch.nn.utils.parametrizations.spectral_norm: one power iteration before a step, none in scores.

`tokens.{1,2}.{real,fake}`, `prompt.{real,fake}`; `parameter/NAME` and `vector/NAME.{left,right}` before the step; `logits_{real,fake}` [B, heads * N],
`loss`, `grad/NAME`, `stepped/NAME` (Adam, options in the metadata `constants`), `stepped_vector/NAME.{left,right}`, `score_{real,fake}` after it.

`augmentation/*`: DiffAugment's functions (github.com/mit-han-lab/data-efficient-gans) with given draws: `images` [4, H, W, 3] in [0, 1], `draws` [4, 7]
(brightness, saturation, contrast, shift down and right, the square's first row and column) -> `output`.
"""
import json

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.parametrizations import spectral_norm

from common import FIXTURES, float32_error, normal, randomize, rng, save_tensors, versions
from heads import hinge

BLOCKS, PATCHES, WIDTH, CHANNELS, GROUPS, PROMPT, MAP = (1, 2), 9, 12, 16, 2, 10, 64
OPTIONS = dict(lr=3e-3, betas=(0.5, 0.999), eps=1e-8)


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(WIDTH, CHANNELS, 1)
        self.firstNorm = torch.nn.GroupNorm(GROUPS, CHANNELS)
        self.second = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.secondNorm = torch.nn.GroupNorm(GROUPS, CHANNELS)
        self.out = torch.nn.Conv2d(CHANNELS, MAP, 1)
        self.map = torch.nn.Linear(PROMPT, MAP)

    def forward(self, tokens, prompt):
        x = (tokens[:, 1:] + tokens[:, :1]).transpose(1, 2).unflatten(2, (3, 3))
        h = F.leaky_relu(self.firstNorm(self.first(x)), 0.2)
        h = (h + F.leaky_relu(self.secondNorm(self.second(h)), 0.2)) / 2 ** 0.5
        prompt = prompt / prompt.square().mean(1, keepdim=True).sqrt()
        return (self.out(h) * self.map(prompt)[..., None, None]).sum(1).flatten(1) / MAP ** 0.5


SPECTRAL = ("first", "second", "out")


def run(dtype):
    heads = torch.nn.ModuleList([Head() for _ in BLOCKS])
    randomize(heads, "projected")
    heads.to(dtype)
    data = {"prompt.real": normal("projected/prompt.real", 3, PROMPT), "prompt.fake": normal("projected/prompt.fake", 2, PROMPT)}
    for block in BLOCKS:
        data[f"tokens.{block}.real"] = normal(f"projected/tokens.{block}.real", 3, 1 + PATCHES, WIDTH, offset=0.2)
        data[f"tokens.{block}.fake"] = normal(f"projected/tokens.{block}.fake", 2, 1 + PATCHES, WIDTH)
    out = dict(data)
    data = {key: value.to(dtype) for key, value in data.items()}

    for number, head in enumerate(heads):
        for key, value in head.state_dict().items():
            # 1 x 1 convolutions are stored as matrices, as the product has them.
            out[f"parameter/heads.{number}.{key}"] = matrix(key, value.clone())
        for name in SPECTRAL:
            layer = spectral_norm(getattr(head, name))
            norm = layer.parametrizations.weight[0]
            for side, part in (("left", "_u"), ("right", "_v")):
                vector = normal(f"projected/{number}.{name}.{side}", getattr(norm, part).numel())
                vector = (vector / vector.norm()).float().double()
                getattr(norm, part).copy_(vector.to(dtype))
                out[f"vector/heads.{number}.{name}.{side}"] = vector

    def logits(side):
        return torch.cat([head(data[f"tokens.{block}.{side}"], data[f"prompt.{side}"]) for head, block in zip(heads, BLOCKS)], 1)

    # One iteration before the step, then both batches with the same vectors.
    heads.train()
    with torch.no_grad():
        for head in heads:
            for name in SPECTRAL:
                getattr(head, name).weight
    heads.eval()
    real, fake = logits("real"), logits("fake")
    loss = hinge(real, fake)
    optimizer = torch.optim.Adam(heads.parameters(), **OPTIONS)
    loss.backward()
    out |= {"logits_real": real, "logits_fake": fake, "loss": loss}
    for number, head in enumerate(heads):
        for key, parameter in head.named_parameters():
            out[f"grad/heads.{number}.{renamed(key)}"] = matrix(renamed(key), parameter.grad.clone())
    optimizer.step()
    for number, head in enumerate(heads):
        for key, parameter in head.named_parameters():
            out[f"stepped/heads.{number}.{renamed(key)}"] = matrix(renamed(key), parameter.detach().clone())
        for name in SPECTRAL:
            norm = getattr(head, name).parametrizations.weight[0]
            out[f"stepped_vector/heads.{number}.{name}.left"], out[f"stepped_vector/heads.{number}.{name}.right"] = norm._u.clone(), norm._v.clone()
    with torch.no_grad():
        out |= {f"score_{side}": logits(side).mean(1) for side in ("real", "fake")}
    return out


def renamed(key):
    return key.replace("parametrizations.weight.original", "weight")


def matrix(key, value):
    return value.flatten(1) if key in ("first.weight", "out.weight") else value


def brightness(x, draw):
    return x + (draw - 0.5)


def saturation(x, draw):
    mean = x.mean(1, keepdim=True)
    return (x - mean) * (draw * 2) + mean


def contrast(x, draw):
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (draw + 0.5) + mean


def translation(x, down, right):
    """DiffAugment's, whose shift x'[i] = x[i + t] is by -t."""
    rows, columns = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    rows, columns = torch.clamp(rows - down + 1, 0, x.shape[2] + 1), torch.clamp(columns - right + 1, 0, x.shape[3] + 1)
    return F.pad(x, [1, 1, 1, 1]).permute(0, 2, 3, 1)[:, rows, columns].permute(0, 3, 1, 2)


def cutout(x, row_offset, column_offset):
    size = int(x.shape[2] * 0.5 + 0.5), int(x.shape[3] * 0.5 + 0.5)
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    rows = torch.clamp(rows + row_offset - size[0] // 2, 0, x.shape[2] - 1)
    columns = torch.clamp(columns + column_offset - size[1] // 2, 0, x.shape[3] - 1)
    mask = torch.ones(x.shape[0], *x.shape[2:], dtype=x.dtype)
    mask[:, rows, columns] = 0
    return x * mask[:, None]


def augmentation():
    H, W = 12, 10
    generator = rng("projected/augmentation")
    images = torch.from_numpy(generator.uniform(size=(4, H, W, 3)).astype(np.float32).astype(np.float64))
    # The extremes of every draw are among them.
    whole = [(0, 0, 0, 0), (2, -1, 12, 10), (-2, 1, 0, 10), (1, 1, 6, 4)]
    factors = generator.uniform(size=(4, 3)).astype(np.float32).astype(np.float64)
    draws, outputs = [], []
    for image, (b, s, c), (down, right, row, column) in zip(images, factors, whole):
        x = (image * 2 - 1).permute(2, 0, 1)[None]
        x = contrast(saturation(brightness(x, b), s), c)
        x = cutout(translation(x, down, right), row, column)
        outputs.append(((x + 1) / 2)[0].permute(1, 2, 0))
        draws.append([(b - 0.5) / 2, s * 2, c + 0.5, down, right, row - 3, column - 2])
    return {"augmentation/images": images, "augmentation/draws": torch.tensor(draws), "augmentation/output": torch.stack(outputs)}


exact, approximate = run(torch.float64), run(torch.float32)
save_tensors(FIXTURES / "projected.safetensors", {**exact, **augmentation()}, reference_float32_error=float32_error(exact, approximate),
             constants=json.dumps({"blocks": BLOCKS, "channels": CHANNELS, "groups": GROUPS, **OPTIONS}), versions=versions(), tolerance="2e-5 relative")
