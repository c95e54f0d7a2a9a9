"""judge.json, judge.safetensors and judge-a/: what `advgrpo evaluate` says beyond single numbers.

Standard errors: features [prompts, images, width] and the deviation of similarity and Frechet distance over the resamples
that `PromptBootstrap` draws. judge-a: a tiny timm vision transformer with a classifier, six captions; its logits and CLS
features for seeded pictures. Wilson intervals by statsmodels' formula, written out.
"""
import math

import numpy as np
import timm
import torch

import philox
from common import FIXTURES, SEED, float32_error, normal, randomize, save_json, save_tensors, versions
from heads import unit

tensors, figures = {}, {}


# ---------------------------------------------------------------- standard errors

def frechet(first, second):
    covariances = [np.cov(f, rowvar=False) for f in (first, second)]
    # The trace of the product's root, as the roots of the eigenvalues of the product itself, which is not symmetric.
    roots = np.sqrt(np.maximum(np.real(np.linalg.eigvals(covariances[0] @ covariances[1])), 0))
    gap = first.mean(0) - second.mean(0)
    return float(gap @ gap + np.trace(covariances[0] + covariances[1]) - 2 * roots.sum())


def both(images, references, prompts):
    nearest = [(unit(images[p]) @ unit(references[p]).T).max(1).values.numpy() for p in prompts]
    return np.concatenate(nearest).mean(), frechet(*(np.concatenate([side[p].numpy() for p in prompts]) for side in (images, references)))


figures["bootstrap"] = {}
for name, count, images, references, width in (("few", 8, 2, 3, 20), ("many", 12, 3, 4, 6)):  # fewer and more images than features
    groups = {side: torch.stack([normal(f"bootstrap/{name}/{side}/{p}", n, width, offset=0.2 * p) for p in range(count)])
              for side, n in (("images", images), ("references", references))}
    tensors.update({f"bootstrap/{name}/{side}": values for side, values in groups.items()})
    resamples = [both(groups["images"], groups["references"], philox.integers(0, philox.BOOTSTRAP, (count, resample, 0), count, count))
                 for resample in range(100)]
    names = ("dinoSimilarity", "frechetDistance")
    figures["bootstrap"][name] = {
        "figures": dict(zip(names, both(groups["images"], groups["references"], range(count)))),
        "standardErrors": dict(zip(names, np.std(resamples, axis=0, ddof=1).tolist()))}


# ---------------------------------------------------------------- Wilson's interval

def wilson(successes, n, z=1.959963984540054):
    share, spread = successes / n, z * math.sqrt(successes / n * (1 - successes / n) / n + z * z / (4 * n * n))
    return [(share + z * z / (2 * n) + sign * spread) / (1 + z * z / n) for sign in (-1, 1)]


figures["wilson"] = [{"wins": w, "losses": l, "ties": t, "interval": wilson(w + t / 2, w + l + t)}
                     for w, l, t in ((7, 3, 0), (0, 10, 0), (10, 0, 0), (1, 0, 0), (70, 28, 30), (0, 0, 5))]


# ---------------------------------------------------------------- the judge

CAPTIONS = ["a red circle", "a green square", "a blue cross", "a red square", "a green circle", "a blue square"]
network = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=len(CAPTIONS), img_size=16, patch_size=4,
                            embed_dim=12, depth=2, num_heads=2).eval()
randomize(network, "judge-a")
pictures = (np.clip(normal("judge/images", 7, 16, 16, 3, scale=0.25, offset=0.5).numpy(), 0, 1) * 255).round().astype(np.uint8)
pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
mean, std = (torch.tensor(v)[None, :, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


@torch.no_grad()
def read(dtype):
    model = network.to(dtype)
    tokens = model.forward_features((pixels.to(dtype) - mean.to(dtype)) / std.to(dtype))
    return {"judge/features": tokens[:, 0], "judge/logProbabilities": model.forward_head(tokens).log_softmax(1)}


weights = {name: value.clone() for name, value in network.state_dict().items()}
approximate, exact = read(torch.float32), read(torch.float64)
tensors.update(exact)
tensors["judge/images"] = pictures.reshape(7, -1)
own, classes = exact["judge/logProbabilities"], torch.tensor([0, 1, 2, 3, 4, 5, 0])
rank = (own > own.gather(1, classes[:, None])).sum(1)
figures["judge"] = {"captions": CAPTIONS, "classes": classes.tolist(), "top1": float((rank < 1).double().mean()),
                    "top5": float((rank < 5).double().mean()), "logProbability": float(own.gather(1, classes[:, None]).mean())}

save_tensors(FIXTURES / "judge-a" / "model.safetensors", weights, seed=SEED)
save_json(FIXTURES / "judge-a" / "config.json", dict(
    architecture="vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=2, num_classes=len(CAPTIONS)))
save_json(FIXTURES / "judge-a" / "classes.json", CAPTIONS)
save_tensors(FIXTURES / "judge.safetensors", tensors, seed=SEED, versions=versions("numpy", "timm"),
             computed="float64, stored as float32", reference_float32_error=float32_error(exact, approximate),
             tolerance="atol 1e-5 + rtol 1e-5")
save_json(FIXTURES / "judge.json", figures)
