"""relative.safetensors: the head `dino_relative`, its smoothed hinge and its approximated R1, from PyTorch in float64.

The backbone is a table: what its blocks say of each image is an input. Others are averaged by listing them, not by subtracting from
a sum.
"""
import torch
import torch.nn.functional as F

import philox
from common import FIXTURES, SEED, normal, save_tensors, versions

RUN_SEED, EPOCH, GROUP_INDEX = 7, 3, 5
BLOCKS, N, D, HIDDEN = 2, 9, 5, 6
REFERENCES, LONE, GENERATED = 4, 1, 3             # of the first prompt, of the second, of each
SMOOTHING, R1_WEIGHT, R1_DEVIATION = 0.2, 0.5, 0.3
REFERENCES_PURPOSE, REGULARIZATION_PURPOSE = 11, 12
WIDTH = 2 * BLOCKS * D

tensors = {}
names = {"references": REFERENCES, "generated": GENERATED, "lone": LONE, "lone_generated": GENERATED}
tokens = {name: normal(f"relative.{name}", BLOCKS, count, 1 + N, D) for name, count in names.items()}
tensors |= {f"tokens/{name}": value for name, value in tokens.items()}


def normalized(name):
    """[B, N, BLOCKS, D], without the class token."""
    return torch.stack([F.layer_norm(block[:, 1:], (D,)) for block in tokens[name]], 2)


def statistics(x):
    return torch.cat([part for b in range(BLOCKS) for part in (x[:, :, b].mean(1), x[:, :, b].std(1, correction=0))], -1)


features = {name: statistics(normalized(name)) for name in names}
own = features["references"]
others = torch.stack([torch.stack([own[j] for j in range(REFERENCES) if j != i]).mean(0) for i in range(REFERENCES)])
left_out = int(philox.integers(RUN_SEED, REFERENCES_PURPOSE, (EPOCH, GROUP_INDEX * philox.MEMBERS, 0), 1, REFERENCES)[0])
compared = {"references": others, "generated": others[left_out].expand(GENERATED, -1), "lone": None, "lone_generated": None}

mean, inverse = normal("relative.mean", 2 * WIDTH, scale=0.2), normal("relative.inverse", 2 * WIDTH, scale=0.1, offset=1.0)
weights = {"0.weight": normal("relative.0.weight", HIDDEN, 2 * WIDTH, scale=0.3), "0.bias": normal("relative.0.bias", HIDDEN, scale=0.2),
           "2.weight": normal("relative.2.weight", 1, HIDDEN, scale=0.8), "2.bias": normal("relative.2.bias", 1, scale=0.2)}
tensors |= {"mean": mean, "inverseDeviation": inverse, "left_out": torch.tensor([left_out], dtype=torch.int32)} | weights


def head(f, m, w=weights):
    vector = torch.cat([f, torch.zeros_like(f) if m is None else (f - m).abs()], -1)
    x = ((vector - mean) * inverse).clamp(-8, 8)
    return F.linear(F.gelu(F.linear(x, w["0.weight"], w["0.bias"])), w["2.weight"], w["2.bias"])[:, 0]


for name in names:
    tensors |= {f"features/{name}": features[name], f"score/{name}": head(features[name], compared[name])}
tensors["others"] = others

# maps: a token's contribution, by Simpson's rule from the mean of the group's tokens
for name in ("generated", "lone_generated"):
    x = normalized(name)
    base, total = x.mean(0, keepdim=True), torch.zeros_like(x)
    m = None if compared[name] is None else compared[name][:1]
    for t, weight in ((0.0, 1 / 6), (0.5, 4 / 6), (1.0, 1 / 6)):
        at = (base + t * (x - base)).detach().requires_grad_(True)
        head(statistics(at), m).sum().backward()
        total += weight * at.grad
    tensors[f"map/{name}"] = (total * (x - base)).sum((2, 3)).reshape(GENERATED, 3, 3) * N

# one step: hinge against labels of which a share is spread over both classes, and the approximated R1 on the references
w = {name: value.clone().requires_grad_(True) for name, value in weights.items()}
real, fake = head(own, others, w), head(features["generated"], compared["generated"], w)
hinge = lambda logits, label: F.relu(1 - label * logits).mean()
smoothed = lambda logits, label: (1 - SMOOTHING / 2) * hinge(logits, label) + SMOOTHING / 2 * hinge(logits, -label)
loss = (smoothed(real, 1) + smoothed(fake, -1)) / 2
noise = philox.normals(RUN_SEED, REGULARIZATION_PURPOSE, (0, 0, 0), own.numel()).reshape(own.shape)
near = own + R1_DEVIATION * own.std(0, correction=0) * torch.from_numpy(noise.astype("float64"))
penalty = (head(near, others, w) - real).square().mean()
assert 0.01 < penalty.item(), penalty
(loss + R1_WEIGHT * penalty).backward()
tensors |= {"step/loss": loss.reshape(1), "step/penalty": penalty.reshape(1)} | {f"step/grad.{name}": value.grad for name, value in w.items()}

save_tensors(FIXTURES / "relative.safetensors", tensors, seed=SEED, versions=versions("numpy"), tolerance="1e-5")
