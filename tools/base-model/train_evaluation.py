"""Train the backbone that measures results: Frechet distance and similarity, never the reward.

usage: train_evaluation.py --emoji EMOJI_DIR --out MODEL_DIR [--more-images DIR ...] [--minutes N] [--threads N]
                           [--width N --depth N --heads N --patch N] [--seed N] [--colour X]

Unlike the reward's DINO (train_base.py dino) it shall see image quality. So it is trained by contrast (InfoNCE):
two lightly cropped views of a picture attract each other; all other pictures and a *degraded* view of the same
picture (blur, low resolution, wavy shapes, noise, washed-out colour, misplaced pieces) repel; a linear head on the same
features names the degradation. Nothing that the base model generates is used.
The weights in the repository: seed 100, 40 minutes at nice 10 on a crowded 2-core machine (400 to 425 steps of 48;
stopped by time, so a rerun comes out similar, not equal). The naming head's accuracy stayed at 0 in that log: it only ever said "clean". Writes OUT/dino-evaluation/{model.safetensors (bf16, timm names), config.json}.
"""
import argparse
import json
import math
import pathlib
import time

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from train_base import SIZE, cosine, knn, load_images, progress

MEAN, STD = (torch.tensor(v)[None, :, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def uniform(rng, low, high, *shape):
    return low + (high - low) * torch.rand(*shape, generator=rng)


def views(batch, rng, colour):
    """One randomly cropped (50-100 % of the area), lightly recoloured view of every picture."""
    n = len(batch)
    side, ratio = uniform(rng, 0.5, 1.0, n).sqrt(), uniform(rng, -0.15, 0.15, n).exp().sqrt()
    theta = torch.zeros(n, 2, 3)
    h, w = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
    theta[:, 0, 0], theta[:, 1, 1] = w, h
    theta[:, 0, 2], theta[:, 1, 2] = uniform(rng, -1, 1, n) * (1 - w), uniform(rng, -1, 1, n) * (1 - h)
    view = F.grid_sample(batch, F.affine_grid(theta, batch.shape, align_corners=False), align_corners=False, padding_mode="border")
    return (view * uniform(rng, 1 - colour, 1 + colour, n, 3, 1, 1) + uniform(rng, -colour / 2, colour / 2, n, 1, 1, 1)).clamp(0, 1)


def blur(view, rng):
    sigma = float(uniform(rng, 0.7, 2.0, 1))
    x = torch.arange(-5, 6).float()
    k = torch.exp(-x * x / (2 * sigma * sigma))
    k = (k / k.sum()).repeat(3, 1)
    view = F.conv2d(F.pad(view, (5, 5, 0, 0), mode="replicate"), k[:, None, None, :], groups=3)
    return F.conv2d(F.pad(view, (0, 0, 5, 5), mode="replicate"), k[:, None, :, None], groups=3)


def coarse(view, rng):
    size = int(SIZE / float(uniform(rng, 1.7, 3.5, 1)))
    small = F.interpolate(view, (size, size), mode="bilinear", antialias=True)
    return F.interpolate(small, (SIZE, SIZE), mode="bicubic").clamp(0, 1)


def wavy(view, rng):
    cells, reach = int(torch.randint(5, 14, (1,), generator=rng)), float(uniform(rng, 1.0, 3.0, 1))
    flow = F.interpolate(torch.randn(len(view), 2, cells, cells, generator=rng), (SIZE, SIZE), mode="bicubic") * reach * 2 / SIZE
    grid = F.affine_grid(torch.eye(2, 3).repeat(len(view), 1, 1), view.shape, align_corners=False)
    return F.grid_sample(view, grid + flow.permute(0, 2, 3, 1), align_corners=False, padding_mode="border")


def noisy(view, rng):
    cells = int(torch.randint(16, 65, (1,), generator=rng))
    noise = F.interpolate(torch.randn(len(view), 3, cells, cells, generator=rng), (SIZE, SIZE), mode="bilinear")
    return (view + noise * float(uniform(rng, 0.04, 0.15, 1))).clamp(0, 1)


def washed(view, rng):
    grey = view.mean(1, keepdim=True)
    smooth = blur(view - grey, rng)
    return (grey + smooth * float(uniform(rng, 0.2, 0.8, 1))).clamp(0, 1)


def misplaced(view, rng):
    out = view.clone()
    for _ in range(4):
        s = int(torch.randint(8, 21, (1,), generator=rng))
        a, b, c, d = (int(v) for v in torch.randint(4, SIZE - s - 3, (4,), generator=rng))
        out[:, :, a:a + s, b:b + s] = view[:, :, c:c + s, d:d + s]
    return out


DEGRADATIONS = [blur, coarse, wavy, noisy, washed, misplaced]


def degraded(view, rng):
    """One kind of degradation for every sixth of the pictures, and which (from 1)."""
    order = torch.randperm(len(DEGRADATIONS), generator=rng).tolist()
    chunks = [DEGRADATIONS[o](c, rng) for o, c in zip(order, view.chunk(len(order)))]
    kinds = torch.cat([torch.full((len(c),), o + 1) for o, c in zip(order, chunks)])
    return torch.cat(chunks), kinds


def main(options):
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=SIZE, patch_size=options.patch,
                              embed_dim=options.width, depth=options.depth, num_heads=options.heads, init_values=1.0,
                              dynamic_img_size=True, patch_drop_rate=0.5)
    head = torch.nn.Sequential(torch.nn.Linear(options.width, 512), torch.nn.GELU(), torch.nn.Linear(512, 128))
    kind_of = torch.nn.Linear(options.width, len(DEGRADATIONS) + 1)
    print("backbone", sum(p.numel() for p in model.parameters()) / 1e6, "M", flush=True)
    images = load_images(options)
    parameters = [*model.parameters(), *head.parameters(), *kind_of.parameters()]
    average = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.04)
    rng, start, count = torch.Generator().manual_seed(options.seed + 1), time.time(), options.batch
    for step in range(options.steps):
        done = progress(options, step, start)
        for group in optimizer.param_groups:
            group["lr"] = cosine(done, step, options.lr, warm=100)
        if done > 0.85:
            model.patch_drop = torch.nn.Identity()
        batch = images[torch.randint(0, len(images), (count,), generator=rng)].float() / 255
        flip = torch.rand(count, generator=rng) < 0.5
        batch[flip] = batch[flip].flip(-1)
        a, b, c = (views(batch, rng, options.colour) for _ in range(3))
        c, kinds = degraded(c, rng)
        features = model((torch.cat([a, b, c]) - MEAN) / STD)
        z = F.normalize(head(features), dim=-1)
        a, b, c = z.chunk(3)
        own = torch.eye(count, dtype=torch.bool)
        def contrast(one, other):
            same = (one @ one.T).masked_fill(own, -1e9)
            return F.cross_entropy(torch.cat([one @ other.T, one @ c.T, same], dim=1) / 0.12, torch.arange(count))
        loss = (contrast(a, b) + contrast(b, a)) / 2
        named = kind_of(features)
        kinds = torch.cat([torch.zeros(2 * count, dtype=torch.long), kinds])
        loss = loss + 0.5 * F.cross_entropy(named, kinds)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 3.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(0.99, (1 + step) / (10 + step))
            for e, p in zip(average, model.parameters()):
                e.lerp_(p, 1 - decay)
            hit = ((a @ b.T).argmax(1) == torch.arange(count)).float().mean()
            right = (named.argmax(1) == kinds)[2 * count:].float().mean()
            beats = ((a * b).sum(1) > (a * c).sum(1)).float().mean()
        if step % 25 == 0:
            print(step, f"loss {loss:.3f} finds its own view {hit:.2f}, before its degraded view {beats:.2f}, names the degradation {right:.2f} {time.time() - start:.0f}s", flush=True)
        last = done == 1 or step == options.steps - 1
        if step % 100 == 99 or last:
            live = [p.detach().clone() for p in model.parameters()]
            with torch.no_grad():
                for p, e in zip(model.parameters(), average):
                    p.copy_(e)
            folder = options.out / "dino-evaluation"
            folder.mkdir(parents=True, exist_ok=True)
            save_file({k: v.bfloat16().contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
            config = dict(architecture="vit_tiny_patch16_224", img_size=SIZE, patch_size=options.patch, embed_dim=options.width,
                          depth=options.depth, num_heads=options.heads, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225],
                          layer_norm_eps=1e-6, act="gelu", layer_scale=True, num_register_tokens=0)
            (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
            knn(model, options)
            with torch.no_grad():
                for p, e in zip(model.parameters(), live):
                    p.copy_(e)
        if last:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--emoji", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--more-images", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=100000)
    parser.add_argument("--minutes", type=float, default=34)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--colour", type=float, default=0.08, help="strength of the colour augmentation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    main(options)
