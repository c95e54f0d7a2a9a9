"""rewards.safetensors and rewards.json: discriminator heads, their losses and rewards, and the metrics over feature sets.

A head is Linear, GELU (erf), Linear to 1, named as torch.nn.Sequential names it: HEAD/{0.weight,0.bias,2.weight,2.bias}.
Feature tensors are what a backbone would give: raw, with norms well above 1. Losses carry the gradient of every head parameter
as CASE/grad/PARAMETER. `real` are references, `fake` generated images.
"""
import json

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F

from common import FIXTURES, SEED, normal, randomize, rng, save_json, save_tensors, versions
from heads import accuracy, gather, hinge, unit

WIDTH, HIDDEN, BATCH, PATCHES = 12, 10, 5, 25
tensors, metrics = {}, {}


def make_head(name):
    head = torch.nn.Sequential(torch.nn.Linear(WIDTH, HIDDEN), torch.nn.GELU(), torch.nn.Linear(HIDDEN, 1))
    randomize(head, name)
    return head.double()


def indices_of(name, *shape):
    return torch.from_numpy(rng(name).integers(0, PATCHES, shape).astype(np.int32))


def record(name, module, loss, **values):
    """Stores a scalar loss, the module's parameters and their gradients, and whatever else the case shows."""
    module.zero_grad()
    loss.backward()
    tensors[f"{name}/loss"] = loss.reshape(1)
    for key, parameter in module.named_parameters():
        tensors[f"{name}/{key}"], tensors[f"{name}/grad/{key}"] = parameter, parameter.grad.clone()
    tensors.update({f"{name}/{key}": value for key, value in values.items()})


# ---------------------------------------------------------------- losses on logits

real, fake = normal("hinge/real", 9, scale=1.5).requires_grad_(), normal("hinge/fake", 7, scale=1.5).requires_grad_()
hinge(real, fake).backward()
tensors.update({"hinge/real": real, "hinge/fake": fake, "hinge/loss": hinge(real, fake).reshape(1), "hinge/grad_real": real.grad,
                "hinge/grad_fake": fake.grad, "hinge/accuracy": accuracy(real, fake).reshape(1)})

# PickScore's pairwise logistic loss on L2-normalised embeddings, pair i = i-th reference and i-th generated image of one text.
names = ("text", "real", "fake")
text, real, fake = (normal(f"pickscore/{part}", 4, 8).requires_grad_() for part in names)
scale = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)  # stored as its logarithm, as CLIP does
score_real, score_fake = (scale.exp() * (unit(text) * unit(image)).sum(-1) for image in (real, fake))
loss = F.softplus(-(score_real - score_fake)).mean()
loss.backward()
tensors.update({"pickscore/score_real": score_real, "pickscore/score_fake": score_fake, "pickscore/reward_fake": score_fake / 26,
                "pickscore/loss": loss.reshape(1), "pickscore/logit_scale": scale.reshape(1), "pickscore/grad_logit_scale": scale.grad.reshape(1)})
tensors.update({f"pickscore/{part}": leaf for part, leaf in zip(names, (text, real, fake))})
tensors.update({f"pickscore/grad_{part}": leaf.grad for part, leaf in zip(names, (text, real, fake))})


# ---------------------------------------------------------------- CLS and patch heads

def features(name, *shape, shift=0.0):
    """Tokens that differ from each other in direction and length; `shift` tells real from fake."""
    return normal(f"{name}/features", *shape, scale=2.0, offset=shift)


cls_real, cls_fake = features("cls/real", BATCH, WIDTH, shift=0.3), features("cls/fake", BATCH, WIDTH)
patch_real, patch_fake = features("patch/real", BATCH, PATCHES, WIDTH, shift=0.3), features("patch/fake", BATCH, PATCHES, WIDTH)

for name, normalise in (("dino_cls", lambda f: f), ("dino_cls.unit", unit)):
    head = make_head("dino_cls")
    real, fake = head(normalise(cls_real))[..., 0], head(normalise(cls_fake))[..., 0]
    record(name, head, hinge(real, fake), cls_real=cls_real, cls_fake=cls_fake, logits_real=real, logits_fake=fake,
           accuracy=accuracy(real, fake).reshape(1), reward_real=head(unit(cls_real))[..., 0], reward_fake=head(unit(cls_fake))[..., 0])

loss_indices = [indices_of(f"dino_patch/{side}", BATCH, 8) for side in ("real", "fake")]
reward_indices = indices_of("dino_patch/reward", BATCH, 8)
for name, normalise in (("dino_patch", lambda f: f), ("dino_patch.unit", lambda f: unit(f, 1e-6))):
    head = make_head("dino_patch")
    real, fake = head(normalise(cls_real))[..., 0], head(normalise(cls_fake))[..., 0]
    local_real, local_fake = (head(normalise(gather(p, i)))[..., 0] for p, i in zip((patch_real, patch_fake), loss_indices))
    score = lambda c, p: 0.7 * head(unit(c, 1e-6))[..., 0] + 0.3 * head(unit(gather(p, reward_indices), 1e-6))[..., 0].mean(1)
    record(name, head, hinge(real, fake) + 0.3 * hinge(local_real, local_fake), cls_real=cls_real, cls_fake=cls_fake, patch_real=patch_real,
           patch_fake=patch_fake, indices_real=loss_indices[0], indices_fake=loss_indices[1], reward_indices=reward_indices,
           accuracy=accuracy(real, fake).reshape(1), reward_real=score(cls_real, patch_real), reward_fake=score(cls_fake, patch_fake))


# ---------------------------------------------------------------- one head a layer, top-k patches, gated fusion

LAYERS, SAMPLED, FRACTION, TEMPERATURE = 2, 16, 0.2, 2.0


class LayerHeads(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.heads = torch.nn.ModuleList(make_head(f"{name}/{layer}") for layer in range(LAYERS))
        self.fusion = torch.nn.Linear(LAYERS, LAYERS)
        randomize(self.fusion, f"{name}/fusion")
        self.double()

    def fuse(self, scores):
        """[B, T] -> [B]: softmax of a linear map of the scores weighs the scores themselves."""
        return (self.fusion(scores).softmax(-1) * scores).sum(-1)

    def patches(self, tokens):
        """tokens[t] [B, n, D]: per layer the mean of the floor(0.2 n) highest logits, fused."""
        logits = [head(t)[..., 0] for head, t in zip(self.heads, tokens)]
        return self.fuse(torch.stack([l.topk(max(1, int(l.shape[1] * FRACTION)), dim=1).values.mean(1) for l in logits], 1))

    def cls(self, tokens):
        return self.fuse(torch.stack([head(t)[..., 0] for head, t in zip(self.heads, tokens)], 1))


heads = LayerHeads("dino_multi")
layers = {side: [features(f"multi/{side}/{layer}", BATCH, 1 + PATCHES, WIDTH, shift=shift) for layer in range(LAYERS)]
          for side, shift in (("real", 0.2), ("fake", 0.0))}
chosen = {side: [indices_of(f"multi/{side}/{layer}", BATCH, SAMPLED) for layer in range(LAYERS)] for side in layers}
sampled = {side: heads.patches([gather(t[:, 1:], i) for t, i in zip(layers[side], chosen[side])]) for side in layers}
image = {side: heads.cls([t[:, 0] for t in layers[side]]) for side in layers}
record("dino_multi", heads, hinge(sampled["real"], sampled["fake"]) + 1.0 * hinge(image["real"], image["fake"]),
       accuracy=accuracy(sampled["real"], sampled["fake"]).reshape(1),
       **{f"tokens_{side}": torch.stack(layers[side]) for side in layers},  # [T, B, 1 + N, D], CLS first
       **{f"indices_{side}": torch.stack(chosen[side]) for side in layers},  # [T, B, n] into the patches
       **{f"logits_{side}": sampled[side] for side in layers}, **{f"cls_logits_{side}": image[side] for side in layers},
       **{f"reward_{side}": torch.sigmoid(heads.patches([t[:, 1:] for t in layers[side]]) / TEMPERATURE) for side in layers})


# ---------------------------------------------------------------- metrics

similarity = unit(cls_fake) @ unit(cls_real).T
tensors.update({"image_similarity/generated": cls_fake, "image_similarity/references": cls_real, "image_similarity/pairwise": similarity,
                "image_similarity/reward": similarity.max(1).values, "image_similarity/own_reference": similarity.diagonal()})

first, second = normal("frechet/first", 40, 6), normal("frechet/second", 55, 6, scale=1.3, offset=0.2)
second = (second @ normal("frechet/mix", 6, 6, scale=0.4) + 0.5 * second).float().double()
tensors.update({"frechet/first": first, "frechet/second": second, "frechet/mean_first": first.mean(0), "frechet/covariance_first": torch.cov(first.T)})
covariances = [np.cov(f.numpy(), rowvar=False) for f in (first, second)]
gap = (first.mean(0) - second.mean(0)).numpy()
root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
assert np.abs(np.imag(root)).max() < 1e-8
metrics["frechet_distance"] = float(gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * np.real(root)))


def area_under_curve(positive, negative):
    """Mann-Whitney: the share of (positive, negative) pairs in the right order, ties counting one half."""
    difference = positive[:, None] - negative[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


for name, digits in (("plain", 6), ("ties", 0)):
    positive, negative = (np.round(normal(f"auc/{name}/{side}", n, offset=offset).numpy(), digits).astype(np.float32)
                          for side, n, offset in (("positive", 23, 0.6), ("negative", 31, 0.0)))
    tensors.update({f"auc.{name}/positive": positive, f"auc.{name}/negative": negative})
    metrics[f"auc.{name}"] = area_under_curve(positive, negative)

pairs = np.triu_indices(len(first), 1)
metrics["pairwise_diversity"] = {  # means over all unordered pairs of `frechet/first`
    "cosine_distance": float((1 - (unit(first) @ unit(first).T).numpy()[pairs]).mean()),
    "euclidean_distance": float(torch.cdist(first, first, compute_mode="donot_use_mm_for_euclid_dist").numpy()[pairs].mean())}
metrics["constants"] = {"sampled_top_k": int(SAMPLED * FRACTION), "patch_top_k": int(PATCHES * FRACTION), "temperature": TEMPERATURE,
                        "patch_loss_weight": 0.3, "cls_reward_weight": 0.7, "unit_epsilon": 1e-6, "cls_loss_weight": 1.0}

save_tensors(FIXTURES / "rewards.safetensors", tensors, seed=SEED, versions=versions("numpy", "scipy"), computed="float64, stored as float32",
             tolerance="atol 1e-5 + rtol 1e-5", constants=json.dumps(metrics["constants"], sort_keys=True))
save_json(FIXTURES / "rewards.json", metrics)
