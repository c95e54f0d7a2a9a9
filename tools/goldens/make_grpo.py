"""grpo.safetensors: the policy update of Adv-GRPO on mmdit-a with its LoRA adapter, in plain PyTorch, float64.

`input/*`: a window of 2 steps for 4 members: `latents` [4, 3, C, H, W] (before step 0, after it, after step 1), `old_log_probability` [4, 2],
`sigmas` [3], `timesteps` [2], `text`, `pooled` (a row a member), `negative_text`, `negative_pooled` (one row), `advantages` [4].
`step/*`: one update from mmdit-a-lora's weights with the method's constants: `velocity.J`, `log_probability`, `ratio`, `loss`, `grad_norm`,
`grad/TENSOR` (before clipping), `updated/TENSOR`. `curve/*`: ten updates on the same window, wide clip range: `loss`, `grad_norm`,
`clip_fraction`, `ratio` (one row an update, before it), `final/TENSOR`. Constants are in the metadata.
"""
import json
import math

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from peft import PeftModel

from common import FIXTURES, SEED, normal, save_tensors, versions

MEMBERS, WINDOW, STEPS, GUIDANCE, NOISE_LEVEL = 4, (0, 1), 10, 4.5, 0.8
SHAPE = (4, 8, 8)
METHOD = dict(clip_range=1e-5, learning_rate=3e-4, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-4, grad_norm_limit=1.0, advantage_limit=5.0)
CURVE = {**METHOD, "clip_range": 0.08, "learning_rate": 4e-3, "grad_norm_limit": 0.04}


class Policy:
    """mmdit-a with mmdit-a-lora; `parameters` are the adapter's tensors under their file names."""

    def __init__(self, dtype=torch.float64):
        base = SD3Transformer2DModel.from_pretrained(FIXTURES / "mmdit-a")
        self.model = PeftModel.from_pretrained(base, FIXTURES / "mmdit-a-lora", is_trainable=True).to(dtype).eval()
        self.parameters = {key.replace(".default.", "."): p for key, p in self.model.named_parameters() if p.requires_grad}
        assert len(self.parameters) == 30

    def velocity(self, latents, timestep, conditioning):
        """Classifier-free guidance in one batch [negative; positive]; the gradient flows through both."""
        count = len(latents)
        text = torch.cat([conditioning["negative_text"].expand(count, -1, -1), conditioning["text"]])
        pooled = torch.cat([conditioning["negative_pooled"].expand(count, -1), conditioning["pooled"]])
        output = self.model(hidden_states=latents.repeat(2, 1, 1, 1), timestep=timestep.float().expand(2 * count), encoder_hidden_states=text,
                            pooled_projections=pooled, return_dict=False)[0]
        negative, positive = output.chunk(2)
        return negative + GUIDANCE * (positive - negative)


def cps_mean(latents, velocity, sigma, sigma_next):
    """(mean, s): the predicted endpoints recombined at the next sigma, less the noise that will be added."""
    s = sigma_next * math.sin(NOISE_LEVEL * math.pi / 2)
    clean, noise = latents - sigma * velocity, latents + (1 - sigma) * velocity
    return (1 - sigma_next) * clean + (sigma_next ** 2 - s ** 2) ** 0.5 * noise, s


def log_probability(policy, data, step):
    sigma, sigma_next = (float(value) for value in data["sigmas"][step:step + 2])
    velocity = policy.velocity(data["latents"][:, step], data["timesteps"][step], data)
    mean, _ = cps_mean(data["latents"][:, step], velocity, sigma, sigma_next)
    return -((data["latents"][:, step + 1] - mean) ** 2).mean((1, 2, 3)), velocity


def rollout(policy):
    """The window of an on-policy rollout; latents and log-probabilities are rounded to float32, which is what is stored."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(STEPS)
    data = {"sigmas": scheduler.sigmas[:3].double(), "timesteps": scheduler.timesteps[:2].double(), "text": normal("grpo/text", MEMBERS, 5, 24),
            "pooled": normal("grpo/pooled", MEMBERS, 20), "negative_text": normal("grpo/negative_text", 1, 5, 24),
            "negative_pooled": normal("grpo/negative_pooled", 1, 20), "advantages": torch.tensor([1.5, -0.75, 0.5, -0.9], dtype=torch.float64)}
    latents = [normal("grpo/initial", MEMBERS, *SHAPE)]
    with torch.no_grad():
        for step in WINDOW:
            sigma, sigma_next = (float(value) for value in data["sigmas"][step:step + 2])
            mean, s = cps_mean(latents[-1], policy.velocity(latents[-1], data["timesteps"][step], data), sigma, sigma_next)
            latents.append((mean + s * normal(f"grpo/noise/{step}", MEMBERS, *SHAPE)).float().double())
        data["latents"] = torch.stack(latents, 1)
        data["old_log_probability"] = torch.stack([log_probability(policy, data, step)[0] for step in WINDOW], 1).float().double()
    return data


def update(policy, optimizer, data, options):
    """One optimizer step on the whole window: the clipped loss, averaged over members and window steps."""
    optimizer.zero_grad()
    columns, velocities, loss = [], [], 0.0
    advantages = data["advantages"].clamp(-options["advantage_limit"], options["advantage_limit"])
    for step in WINDOW:
        value, velocity = log_probability(policy, data, step)
        ratio = (value - data["old_log_probability"][:, step]).exp()
        clipped = ratio.clamp(1 - options["clip_range"], 1 + options["clip_range"])
        part = torch.maximum(-advantages * ratio, -advantages * clipped).mean() / len(WINDOW)
        part.backward()
        loss += float(part)
        columns.append((value.detach(), ratio.detach()))
        velocities.append(velocity.detach())
    gradients = {key: p.grad.clone() for key, p in policy.parameters.items()}
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters.values(), options["grad_norm_limit"])
    optimizer.step()
    ratio = torch.stack([r for _, r in columns], 1)
    return {"loss": loss, "grad_norm": float(norm), "gradients": gradients, "velocities": velocities, "ratio": ratio,
            "log_probability": torch.stack([v for v, _ in columns], 1), "clip_fraction": float(((ratio - 1).abs() > options["clip_range"]).double().mean())}


def optimizer_of(policy, options):
    return torch.optim.AdamW(policy.parameters.values(), lr=options["learning_rate"], betas=(options["beta1"], options["beta2"]), eps=options["eps"],
                             weight_decay=options["weight_decay"])


def scalars(values):
    return torch.tensor(values, dtype=torch.float64)


if __name__ == "__main__":
    policy = Policy()
    data = rollout(policy)
    tensors = {f"input/{key}": value for key, value in data.items()}
    report = update(policy, optimizer_of(policy, METHOD), data, METHOD)
    assert float((report["ratio"] - 1).abs().max()) < 1e-6
    tensors |= {f"step/velocity.{step}": velocity for step, velocity in zip(WINDOW, report["velocities"])}
    tensors |= {"step/log_probability": report["log_probability"], "step/ratio": report["ratio"], "step/loss": scalars([report["loss"]]),
                "step/grad_norm": scalars([report["grad_norm"]])}
    tensors |= {f"step/grad/{key}": value for key, value in report["gradients"].items()}
    tensors |= {f"step/updated/{key}": p.detach().clone() for key, p in policy.parameters.items()}
    print(f"  step: loss {report['loss']:.6f} norm {report['grad_norm']:.4f}")

    policy = Policy()
    optimizer = optimizer_of(policy, CURVE)
    reports = [update(policy, optimizer, data, CURVE) for _ in range(10)]
    for name in ("loss", "grad_norm", "clip_fraction"):
        tensors[f"curve/{name}"] = scalars([r[name] for r in reports])
    tensors["curve/ratio"] = torch.stack([r["ratio"] for r in reports])
    tensors |= {f"curve/final/{key}": p.detach() for key, p in policy.parameters.items()}
    edge = float(((tensors["curve/ratio"] - 1).abs() - CURVE["clip_range"]).abs().min())
    print("  curve:", *(f"{r['loss']:.4f}/{r['grad_norm']:.3f}/{r['clip_fraction']:.2f}" for r in reports), f"nearest ratio to the clip edge {edge:.1e}")
    save_tensors(FIXTURES / "grpo.safetensors", tensors, seed=SEED, versions=versions("diffusers", "peft"), computed="float64, stored as float32",
                 tolerance="velocity, log_probability 2e-5; gradients 5e-5 * max(1, largest); updated 1e-6; curve loss and norm 1e-4, final 1e-4",
                 constants=json.dumps({"guidance": GUIDANCE, "noise_level": NOISE_LEVEL, "steps": STEPS, "shift": 3.0, "method": METHOD, "curve": CURVE}))
