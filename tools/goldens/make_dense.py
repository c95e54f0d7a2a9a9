"""dense.safetensors: advantages of patches, their loss, attribution, from PyTorch in float64.

Nothing here follows the Swift code: areas are averaged over a grid that both grids divide, the blur is a convolution of a mirrored
image, gradients are autograd's, and attribution is held to an integral by 24 Gauss-Legendre points.
"""
import itertools
import json
import math

import numpy as np
import torch
import torch.nn.functional as F

from common import FIXTURES, SEED, normal, rng, save_tensors, versions

tensors = {}
GROUPS, MEMBERS, GRID = 3, 4, (4, 6)             # tokens: 4 rows of 6
LIMIT, EPSILON = 2.0, 0.02                       # clamp of A, clip range
PATCH_WEIGHT, BLUR = 0.7, 0.8


# ---------------------------------------------------------------- maps

def area_mean(maps, rows, columns):
    """Each cell repeated until the target's cells are whole blocks of cells."""
    fine = maps.repeat_interleave(rows, -2).repeat_interleave(columns, -1)
    h, w = maps.shape[-2:]
    return fine.reshape(*maps.shape[:-2], rows, h, columns, w).mean((-3, -1))


def blurred(maps, deviation):
    radius = int(4 * deviation + 0.5)
    kernel = torch.exp(-torch.arange(-radius, radius + 1, dtype=torch.float64) ** 2 / (2 * deviation ** 2))
    kernel = kernel / kernel.sum()
    h, w = maps.shape[-2:]
    padded = np.pad(maps.reshape(-1, h, w).numpy(), ((0, 0), (radius, radius), (radius, radius)), mode="symmetric")
    rows = F.conv2d(torch.from_numpy(padded)[:, None], kernel.view(1, 1, -1, 1))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1)).reshape(maps.shape)


maps = normal("dense.maps", GROUPS, MEMBERS, 6, 9) + normal("dense.places", GROUPS, 1, 6, 9, scale=2.0)
tensors["maps"] = maps
for name, (rows, columns) in {"down": (4, 6), "up": (8, 12), "mixed": (5, 18), "one": (1, 1)}.items():
    tensors[f"resampled.{name}"] = area_mean(maps, rows, columns)
for deviation in (0.8, 5.0):
    tensors[f"blurred.{deviation}"] = blurred(maps, deviation)


# ---------------------------------------------------------------- advantages

rewards = maps.mean((-2, -1)) + normal("dense.rewards", GROUPS, MEMBERS, scale=0.1)
tensors["rewards"] = rewards


def advantages(mode, scope, blur):
    """[groups, members, rows, columns]; the image's own at every token."""
    def scaled(difference, of):
        deviation = of.std(correction=0) if scope == "global" else of.flatten(1).std(1, correction=0).view(-1, *[1] * (of.ndim - 1))
        return difference / (deviation + 1e-4)
    image = scaled(rewards - rewards.mean(1, keepdim=True), rewards)[..., None, None].expand(-1, -1, *GRID)
    on_tokens = area_mean(maps, *GRID)
    if blur:
        on_tokens = blurred(on_tokens, blur)
    difference = on_tokens - on_tokens.mean(1, keepdim=True)
    patch = scaled(difference, difference)
    return {"image": image, "patch": patch, "both": image + PATCH_WEIGHT * patch}[mode]


MODES = list(itertools.product(("image", "patch", "both"), ("global", "group"), (0.0, BLUR)))
for mode, scope, blur in MODES:
    if mode != "image" or not blur:
        tensors[f"advantages.{mode}.{scope}.{blur}"] = advantages(mode, scope, blur)


# ---------------------------------------------------------------- log-probabilities, loss, gradient of the velocity

def token_means(x):
    B, C, H, W = x.shape
    return x.reshape(B, C, GRID[0], H // GRID[0], GRID[1], W // GRID[1]).mean((1, 3, 5))


SIGMA, NEXT, ETA = (float(np.float32(s)) for s in (0.790368, 0.707278, 0.8))


def step(kind, x, v):
    """(mean, deviation) of a stochastic step, in predicted endpoints."""
    if kind == "cps":
        s, k = NEXT * math.sin(ETA * math.pi / 2), math.cos(ETA * math.pi / 2)
        return (1 - NEXT) * (x - SIGMA * v) + k * NEXT * (x + (1 - SIGMA) * v), s
    dt, g = NEXT - SIGMA, ETA * math.sqrt(SIGMA / (1 - SIGMA))
    drift = v + g * g / (2 * SIGMA) * (x + (1 - SIGMA) * v)
    return x + drift * dt, g * math.sqrt(-dt)


def log_probability(kind, following, mean, deviation):
    squares = token_means((following - mean) ** 2)
    return -squares if kind == "cps" else -squares / (2 * deviation ** 2) - math.log(deviation) - 0.5 * math.log(2 * math.pi)


shape = (MEMBERS, 3, 8, 12)
x, sampled_v = normal("dense.x", *shape), normal("dense.v", *shape)
v = sampled_v + normal("dense.moved", *shape, scale=0.5)
reference = normal("dense.reference", *shape)
tensors |= {"step/x": x, "step/sampled_velocity": sampled_v, "step/velocity": v, "step/reference_mean": reference,
            "step/sigmas": torch.tensor([SIGMA, NEXT]), "step/noise_level": torch.tensor([ETA])}
for kind in ("cps", "sde"):
    mean, deviation = step(kind, x, sampled_v)
    following = torch.from_numpy((mean + deviation * normal(f"dense.noise.{kind}", *shape)).numpy().astype(np.float32).astype(np.float64))
    old = log_probability(kind, following, mean, deviation)
    tensors |= {f"{kind}/next": following, f"{kind}/old": old,
                f"{kind}/old_image": log_probability(kind, following, mean, deviation).mean((1, 2))}
    for mode, weight in itertools.product(("patch", "both"), (0.0, 0.3)):
        velocity = v.clone().requires_grad_(True)
        current_mean, _ = step(kind, x, velocity)
        ratio = torch.exp(log_probability(kind, following, current_mean, deviation) - old)
        a = advantages(mode, "global", BLUR)[1].clamp(-LIMIT, LIMIT)
        loss = torch.maximum(-a * ratio, -a * ratio.clamp(1 - EPSILON, 1 + EPSILON)).mean((1, 2))
        distance = ((current_mean - reference) ** 2).mean((1, 2, 3))
        loss = loss + weight * (distance / (2 * deviation ** 2) if kind == "sde" else distance)
        loss.mean().backward()
        name = f"{kind}/{mode}.{weight}"
        tensors |= {f"{name}/loss": loss, f"{name}/grad_velocity": velocity.grad}
        outside = ((ratio - 1).abs() > EPSILON).double().mean()
        assert 0.1 < outside < 0.9, (kind, (ratio - 1).abs().quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)))
        tensors[f"{name}/clip_fraction"] = outside


# ---------------------------------------------------------------- attribution

SIMPSON = [(0.0, 1 / 6), (0.5, 4 / 6), (1.0, 1 / 6)]
nodes, weights = np.polynomial.legendre.leggauss(24)
EXACT = [((n + 1) / 2, w / 2) for n, w in zip(nodes, weights)]


def contributions(inputs, reward, points):
    base = inputs.mean(0, keepdim=True)
    total = torch.zeros_like(inputs)
    for t, weight in points:
        at = (base + t * (inputs - base)).detach().requires_grad_(True)
        reward(at).sum().backward()
        total += weight * at.grad
    return total * (inputs - base)


def attribution(name, inputs, reward, tolerance=1e-12):
    simpson, exact = contributions(inputs, reward, SIMPSON), contributions(inputs, reward, EXACT)
    with torch.no_grad():
        difference = reward(inputs) - reward(inputs.mean(0, keepdim=True))
    dims = tuple(range(1, inputs.ndim))
    assert (exact.sum(dims) - difference).abs().max() < tolerance * max(1, difference.abs().max())
    tensors.update({f"{name}/contributions": simpson, f"{name}/exact": exact, f"{name}/difference": difference})
    return simpson


# A network of an image: 4 x 4 patches -> GELU -> one logit each, and a score that is not their mean.
images = torch.sigmoid(normal("dense.images", 5, 12, 8, 3))
images = torch.from_numpy(images.numpy().astype(np.float32).astype(np.float64))
first, bias = normal("dense.conv", 7, 3, 4, 4, scale=0.4), normal("dense.conv.bias", 7, scale=0.3)
second = normal("dense.logit", 1, 7, scale=0.8)


def network(x):
    hidden = F.gelu(F.conv2d(x.permute(0, 3, 1, 2), first, bias, stride=4))
    logits = F.conv2d(hidden, second.view(1, 7, 1, 1)).flatten(1)
    return 3 * torch.sigmoid(logits.mean(1)) + (torch.softmax(logits, 1) * logits).sum(1)


tensors |= {"network/images": images, "network/first": first.flatten(1), "network/bias": bias, "network/second": second}
attributed = attribution("network", images, network)
# a map of 8 x 8 squares, or a little less: 12 rows in two, 8 columns in one; its mean is the difference
pixels = attributed.sum(-1) * 12 * 8
tensors["network/map"] = area_mean(pixels, 2, 1)

# Statistics of tokens, then a head: which token made the score. Along the way the maximum passes from token to token: kinks.
B, N, D, HIDDEN = 4, 9, 5, 6
tokens = normal("dense.tokens", B, N, D)
tokens[:, 3] = tokens[:, 5]                      # equal tokens share a maximum
constant_mean, inverse = normal("dense.mean", 4 * D, scale=0.2), normal("dense.inverse", 4 * D, scale=0.1, offset=1.0)
w0, b0 = normal("dense.0.weight", HIDDEN, 4 * D, scale=0.4), normal("dense.0.bias", HIDDEN, scale=0.2)
w2, b2 = normal("dense.2.weight", 1, HIDDEN, scale=0.6), normal("dense.2.bias", 1, scale=0.2)


def statistics(x):
    return torch.cat([x.mean(1), x.std(1, correction=0), x.amax(1), x.amin(1)], -1)


def head(x):
    f = ((statistics(x) - constant_mean) * inverse).clamp(-8, 8)
    return F.linear(F.gelu(F.linear(f, w0, b0)), w2, b2)[:, 0]


tensors |= {"statistics/tokens": tokens, "statistics/vector": statistics(tokens), "statistics/mean": constant_mean,
            "statistics/inverseDeviation": inverse, "statistics/0.weight": w0, "statistics/0.bias": b0,
            "statistics/2.weight": w2, "statistics/2.bias": b2, "statistics/score": head(tokens)}
tensors["statistics/map"] = attribution("statistics", tokens, head, tolerance=0.1).sum(-1).reshape(B, 3, 3) * N

# ---------------------------------------------------------------- the many-block head's map

PATCHES, FRACTION, TEMPERATURE = 16, 0.25, 2.0
logits = normal("dense.multi", 2, 3, PATCHES)    # blocks, images, patches
fusion, fusion_bias = normal("dense.fusion", 2, 2, scale=0.5), normal("dense.fusion.bias", 2, scale=0.2)
k = int(PATCHES * FRACTION)
best = logits.topk(k, -1)
scores = best.values.mean(-1).T                                                   # images, blocks
share = torch.softmax(F.linear(scores, fusion, fusion_bias), -1)
z = (share * scores).sum(-1)
place = torch.zeros(3, PATCHES, dtype=torch.float64)
for image, block in itertools.product(range(3), range(2)):
    threshold = best.values[block, image, -1]
    over = torch.zeros(PATCHES, dtype=torch.float64)
    over[best.indices[block, image]] = best.values[block, image] - threshold
    place[image] += share[image, block] * (threshold + over * PATCHES / k)
score = torch.sigmoid(z / TEMPERATURE)
multi = score[:, None] + (score * (1 - score) / TEMPERATURE)[:, None] * (place - z[:, None])
assert (multi.mean(1) - score).abs().max() < 1e-12
tensors |= {"multi/logits": logits, "multi/fusion.weight": fusion, "multi/fusion.bias": fusion_bias, "multi/score": score,
            "multi/map": multi.reshape(3, 4, 4)}

save_tensors(FIXTURES / "dense.safetensors", tensors, seed=SEED, versions=versions("numpy"), tolerance="1e-5",
             constants=json.dumps({"limit": LIMIT, "epsilon": EPSILON, "patch_weight": PATCH_WEIGHT, "blur": BLUR, "klWeight": 0.3,
                        "top_fraction": FRACTION, "temperature": TEMPERATURE}))
