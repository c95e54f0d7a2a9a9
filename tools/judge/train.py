"""Train a judge of captions: an image -> which caption, read only by `advgrpo evaluate --judge`, by no reward.

usage: train.py --emoji EMOJI_DIR [EMOJI_DIR ...] --out JUDGE_DIR [--steps N] [--threads N] [--seed N]

Models/emoji-judge: `--emoji data/emoji data/emojione --steps 7000`, the folders as `advgrpo prepare-emoji` writes them, the
second with `--style emojione`; an hour of half a core. On the renderings held out, top-1 0.882 and top-5 0.982 for Noto's,
0.853 and 0.976 for EmojiOne's.

EMOJI_DIR is what `advgrpo prepare-emoji` writes; several have the same captions in several styles, and a caption is one
class whoever drew it. Held-out captions are classes as well: a judge has to know what is asked of the model. What the
training never sees is the last rendering of every picture (`_ref3`), on which the accuracies are measured.

A vision transformer of timm (`vit_tiny_patch16_224`) with other sizes than the reward's and the evaluation's backbones:
patches of 16 pixels. Cross-entropy with smoothed labels under affine, colour, blur, noise and cut-out augmentation; no
mirroring, since arrows and hands have a side. A second head, for training only, names the style, so that the features
keep what the captions do not need. Weights are averaged; the learning rate is constant after a warm-up, so that a run
of N steps is the beginning of any longer one, and N alone (not the time) says what comes out.

Writes OUT/{config.json, classes.json, model.safetensors}: timm's names, fp16, with `head.weight` [classes, width] and
`head.bias`; row k is the k-th caption of classes.json.
"""
import argparse
import json
import pathlib
import time

import numpy
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

SIZE = 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def load(folders):
    """Renderings to train on and held out, each (images uint8 [N, 3, 64, 64], caption [N], style [N]), and the captions."""
    tables = [json.loads((folder / "prompt2img.json").read_text()) for folder in folders]
    captions = sorted(set().union(*tables))
    number = {caption: index for index, caption in enumerate(captions)}
    parts = {True: ([], [], []), False: ([], [], [])}
    for style, (folder, table) in enumerate(zip(folders, tables)):
        for caption, files in sorted(table.items()):
            plain = files[0].rsplit("_ref", 1)[0] + ".png"
            for file in [plain, *files]:
                image = numpy.asarray(Image.open(folder / "images" / file).convert("RGB"))
                for column, value in zip(parts[file == files[-1]], (image, number[caption], style)):
                    column.append(value)
    as_tensors = lambda p: (torch.from_numpy(numpy.stack(p[0])).permute(0, 3, 1, 2).contiguous(), torch.tensor(p[1]), torch.tensor(p[2]))
    return as_tensors(parts[False]), as_tensors(parts[True]), captions


def augmented(images, rng):
    """Another placement, other colours, and damage that must not matter: images in [0, 1] -> the same shape."""
    n = len(images)
    uniform = lambda low, high, *shape: low + (high - low) * torch.rand(*shape, generator=rng)
    angle, scale, ratio = uniform(-0.22, 0.22, n), uniform(0.85, 1.45, n), uniform(-0.15, 0.15, n).exp()
    shear = uniform(-0.12, 0.12, n)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos() * scale * ratio, -angle.sin() * scale + shear
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin() * scale, angle.cos() * scale / ratio
    theta[:, :, 2] = uniform(-0.2, 0.2, n, 2)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    cells = F.interpolate(torch.randn(n, 2, 6, 6, generator=rng), (SIZE, SIZE), mode="bilinear")
    grid = grid + cells.permute(0, 2, 3, 1) * uniform(0, 0.03, n, 1, 1, 1)
    # White beyond the edge, as around the pictures.
    view = 1 - F.grid_sample(1 - images, grid, align_corners=False, padding_mode="zeros")
    view = view * uniform(0.85, 1.12, n, 3, 1, 1) + uniform(-0.06, 0.06, n, 1, 1, 1)
    grey = view.mean(1, keepdim=True)
    view = grey + (view - grey) * uniform(0.6, 1.25, n, 1, 1, 1)
    soft = torch.rand(n, generator=rng) < 0.3
    small = F.avg_pool2d(view[soft], 2)
    view[soft] = F.interpolate(small, (SIZE, SIZE), mode="bilinear")
    view = view + torch.randn(view.shape, generator=rng) * uniform(0, 0.08, n, 1, 1, 1)
    row, column = (torch.arange(SIZE)[None, :] for _ in range(2))
    top, left = (torch.randint(-12, SIZE, (n, 1), generator=rng) for _ in range(2))
    side = torch.randint(0, 22, (n, 1), generator=rng)
    hole = ((row >= top) & (row < top + side))[:, None, :, None] & ((column >= left) & (column < left + side))[:, None, None, :]
    return torch.where(hole, uniform(0, 1, n, 3, 1, 1), view).clamp(0, 1)


def normalized(images):
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (MEAN, STD))
    return (images - mean) / std


@torch.no_grad()
def accuracy(model, held_out, styles):
    """Top-1 and top-5 of every style's held-out renderings, in words."""
    images, captions, style = held_out
    logits = torch.cat([model(normalized(part.float() / 255)) for part in images.split(256)])
    best = logits.topk(5).indices == captions[:, None]
    words = []
    for index, name in enumerate(styles):
        mine = best[style == index]
        words.append(f"{name} top-1 {mine[:, 0].float().mean():.4f} top-5 {mine.any(1).float().mean():.4f}")
    return ", ".join(words) + f", log-probability {-F.cross_entropy(logits, captions):.4f}"


def main(options):
    train, held_out, captions = load(options.emoji)
    styles = [folder.name for folder in options.emoji]
    network = lambda: timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=len(captions), img_size=SIZE, patch_size=options.patch,
        embed_dim=options.width, depth=options.depth, num_heads=options.heads)
    model, average = network(), network().eval().requires_grad_(False)
    average.load_state_dict(model.state_dict())
    style_head = torch.nn.Linear(options.width, len(styles))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(captions)} captions, "
          f"{len(train[0])} renderings", flush=True)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1] + [*style_head.parameters()]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=0.05), dict(params=plain, weight_decay=0.0)], lr=options.lr)
    rng, start, order = torch.Generator().manual_seed(options.seed + 1), time.time(), torch.empty(0, dtype=torch.long)
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(1, (step + 1) / 200)
        if len(order) < options.batch:
            order = torch.cat([order, torch.randperm(len(train[0]), generator=rng)])
        rows, order = order[: options.batch], order[options.batch:]
        images = augmented(train[0][rows].float() / 255, rng)
        tokens = model.forward_features(normalized(images))
        loss = F.cross_entropy(model.forward_head(tokens), train[1][rows], label_smoothing=0.05)
        loss = loss + 0.1 * F.cross_entropy(style_head(tokens[:, 0]), train[2][rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*decayed, *plain], 1.0)
        optimizer.step()
        with torch.no_grad():
            rate = max(1 - options.decay, 1 / (1 + step))
            for mean, value in zip(average.parameters(), model.parameters()):
                mean.lerp_(value, rate)
        done = step + 1
        if done % 100 == 0:
            print(f"{done} loss {loss.item():.3f} {time.time() - start:.0f}s", flush=True)
        if done % 500 == 0 or done == options.steps:
            write(average, captions, options)
            print(f"{done} held out: {accuracy(average, held_out, styles)}", flush=True)


def write(model, captions, options):
    options.out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, options.out / "model.safetensors")
    config = dict(architecture="vit_tiny_patch16_224", img_size=SIZE, patch_size=options.patch, embed_dim=options.width,
                  depth=options.depth, num_heads=options.heads, num_classes=len(captions), mean=MEAN, std=STD,
                  layer_norm_eps=1e-6, act="gelu", layer_scale=False, num_register_tokens=0)
    (options.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (options.out / "classes.json").write_text(json.dumps(captions, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--emoji", type=pathlib.Path, required=True, nargs="+")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.998, help="of the average of the weights, a step")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=19)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    main(options)
