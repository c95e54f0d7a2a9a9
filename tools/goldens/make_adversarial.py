"""adversarial.safetensors: Adv-GRPO in miniature, rollouts to updates, in plain PyTorch: eight epochs that alternate discriminator and policy.

Policy mmdit-a + mmdit-a-lora, decoder vae-b, backbone dino-a, head `head/*`. An epoch: 2 prompts x 3 members sampled in 4 steps (CPS in
the window {0, 1}, Euler after it), decoded, scored together with 3 references a prompt by the current head (0.7 CLS + 0.3 patches, unit
features), advantages with the epoch's deviation; then even epochs take one discriminator step (hinge, raw features, CLS + 0.3 patches) and
odd ones two policy steps (one a prompt). Both paths use the tensor resize 16 -> 32 (bicubic, no antialias) and ImageNet statistics.

Noise and drawn patches are those of a run of this seed (philox.py). `input/*`: `text`, `pooled` (a row a prompt), `negative_*`, `references`
[6, 3, 16, 16], three a prompt; `sigmas`; `head/*` (initial). Outputs, a row an epoch: `rewards`, `advantages` [8, 6], `log_probability` [8, 6, 2];
`discriminator/{loss,accuracy}` [4]; `policy/{loss,grad_norm}` [4, 2], `policy/ratio` [4, 2, 3, 2]; `after/N/{head,adapter}/*`, both players' weights after
epoch N (a player's only where it moved), `final/ema/*`.
"""
import json
import math

import numpy as np
import torch
import torch.nn.functional as F
import timm
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

import philox
from common import FIXTURES, SEED, float32_error, normal, randomize, save_tensors, versions
from heads import accuracy, gather, hinge, unit
from make_dino import MODELS as BACKBONES
from make_grpo import NOISE_LEVEL, SHAPE, Policy, cps_mean

PROMPTS, MEMBERS, EPOCHS, STEPS, WINDOW, PATCHES, SAMPLED, HIDDEN = 2, 3, 8, 4, 2, 16, 6, 10
IMAGES = PROMPTS * MEMBERS
OPTIONS = dict(clip_range=1e-5, learning_rate=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-4, grad_norm_limit=0.02, advantage_limit=5.0,
               advantage_eps=1e-4, discriminator_learning_rate=3e-2, discriminator_beta1=0.5, discriminator_beta2=0.999, patch_loss_weight=0.3,
               cls_reward_weight=0.7, ema_decay=0.9, ema_interval=1, guidance=4.5, noise_level=NOISE_LEVEL, steps=STEPS, shift=3.0)


def member(image):
    """The coordinate of an image of an epoch: its group's index and its number in it."""
    return image // MEMBERS * philox.MEMBERS + image % MEMBERS


def draws(coordinates):
    """Patches of the epoch's images."""
    return torch.from_numpy(np.stack([philox.integers(SEED, philox.PATCHES, coordinates(image), SAMPLED, PATCHES) for image in range(IMAGES)]))


def noise(purpose, epoch, step):
    count = math.prod(SHAPE)
    rows = [philox.normals(SEED, purpose, (epoch, member(image), step), count).reshape(SHAPE) for image in range(IMAGES)]
    return torch.from_numpy(np.stack(rows)).double()


def inputs():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(STEPS)
    smooth = F.interpolate(normal("adversarial/references", IMAGES, 3, 4, 4, scale=0.35, offset=0.5), (16, 16), mode="bicubic", align_corners=False)
    return {"sigmas": scheduler.sigmas.double(), "timesteps": scheduler.timesteps.double(),
            "text": normal("adversarial/text", PROMPTS, 5, 24), "pooled": normal("adversarial/pooled", PROMPTS, 20),
            "negative_text": normal("adversarial/negative_text", 1, 5, 24), "negative_pooled": normal("adversarial/negative_pooled", 1, 20),
            "references": ((smooth.clamp(0, 1) * 255).round() / 255).float().double()}


def drawn():
    """What a run draws: noise for each epoch, patches for the scores and, by the discriminator's version, for its training."""
    return {"initial_latents": torch.stack([noise(philox.INITIAL_LATENTS, epoch, 0) for epoch in range(EPOCHS)]),
            "noises": torch.stack([torch.stack([noise(philox.WINDOW_NOISE, epoch, step) for step in range(WINDOW)]) for epoch in range(EPOCHS)]),
            "score_generated": torch.stack([draws(lambda image: (epoch, member(image), 0)) for epoch in range(EPOCHS)]),
            "train_reference": torch.stack([draws(lambda image: (epoch // 2, image, 1)) for epoch in range(EPOCHS)]),
            "train_generated": torch.stack([draws(lambda image: (epoch // 2, image, 2)) for epoch in range(EPOCHS)])}


class Run:
    """The whole algorithm in one precision."""

    def __init__(self, data, dtype):
        self.dtype, self.policy = dtype, Policy(dtype)
        self.data = {key: value.to(dtype) if value.is_floating_point() and key not in ("sigmas", "timesteps") else value for key, value in data.items()}
        self.vae = AutoencoderKL.from_pretrained(FIXTURES / "vae-b").eval().to(dtype).requires_grad_(False)
        self.backbone = BACKBONES["dino-a"][0]().eval()
        self.backbone.load_state_dict(load_file(FIXTURES / "dino-a" / "model.safetensors"))
        self.backbone.to(dtype).requires_grad_(False)
        self.head = torch.nn.Sequential(torch.nn.Linear(16, HIDDEN), torch.nn.GELU(), torch.nn.Linear(HIDDEN, 1))
        randomize(self.head, "adversarial/head")
        self.initial_head = {key: value.clone() for key, value in self.head.state_dict().items()}
        self.head.to(dtype)
        self.policy_optimizer = torch.optim.AdamW(self.policy.parameters.values(), lr=OPTIONS["learning_rate"], betas=(OPTIONS["beta1"], OPTIONS["beta2"]),
                                                  eps=OPTIONS["eps"], weight_decay=OPTIONS["weight_decay"])
        self.head_optimizer = torch.optim.Adam(self.head.parameters(), lr=OPTIONS["discriminator_learning_rate"],
                                               betas=(OPTIONS["discriminator_beta1"], OPTIONS["discriminator_beta2"]))
        self.ema, self.updates = {key: p.detach().clone() for key, p in self.policy.parameters.items()}, 0
        self.out = {key: [] for key in ("rewards", "advantages", "log_probability", "discriminator/loss", "discriminator/accuracy",
                                        "policy/loss", "policy/grad_norm", "policy/ratio")}

    def sigma(self, step):
        return float(self.data["sigmas"][step]), float(self.data["sigmas"][step + 1])

    def velocity(self, latents, step, prompts):
        conditioning = {**self.data, "text": self.data["text"][prompts], "pooled": self.data["pooled"][prompts]}
        return self.policy.velocity(latents, self.data["timesteps"][step], conditioning)

    def log_probability(self, window, step, prompts):
        mean, _ = cps_mean(window[:, step], self.velocity(window[:, step], step, prompts), *self.sigma(step))
        return -((window[:, step + 1] - mean) ** 2).mean((1, 2, 3))

    @torch.no_grad()
    def rollout(self, epoch):
        latents, prompts, window = self.data["initial_latents"][epoch], torch.arange(PROMPTS).repeat_interleave(MEMBERS), []
        for step in range(STEPS):
            velocity, (sigma, following) = self.velocity(latents, step, prompts), self.sigma(step)
            if step < WINDOW:
                window.append(latents)
                mean, s = cps_mean(latents, velocity, sigma, following)
                latents = mean + s * self.data["noises"][epoch, step]
            else:
                window = [*window, latents] if len(window) == WINDOW else window
                latents = latents + (following - sigma) * velocity
        window = torch.stack(window, 1)
        scaled = latents / self.vae.config.scaling_factor + self.vae.config.shift_factor
        images = (self.vae.decode(scaled, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)
        return window, torch.stack([self.log_probability(window, step, prompts) for step in range(WINDOW)], 1), latents, images

    @torch.no_grad()
    def tokens(self, images):
        mean, std = (torch.tensor(v, dtype=self.dtype)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        resized = F.interpolate(images, (32, 32), mode="bicubic", align_corners=False)
        return self.backbone.forward_features((resized - mean) / std)

    @torch.no_grad()
    def reward(self, tokens, indices):
        weight = OPTIONS["cls_reward_weight"]
        patches = self.head(unit(gather(tokens[:, 1:], indices), 1e-6))[..., 0].mean(1)
        return weight * self.head(unit(tokens[:, 0], 1e-6))[..., 0] + (1 - weight) * patches

    def train_discriminator(self, epoch, references, generated):
        real, fake = self.head(references[:, 0])[..., 0], self.head(generated[:, 0])[..., 0]
        local_real = self.head(gather(references[:, 1:], self.data["train_reference"][epoch]))[..., 0]
        local_fake = self.head(gather(generated[:, 1:], self.data["train_generated"][epoch]))[..., 0]
        loss = hinge(real, fake) + OPTIONS["patch_loss_weight"] * hinge(local_real, local_fake)
        self.head_optimizer.zero_grad()
        loss.backward()
        self.head_optimizer.step()
        self.out["discriminator/loss"].append(loss.detach())
        self.out["discriminator/accuracy"].append(accuracy(real, fake))

    def train_policy(self, window, old, advantages):
        rows = {"loss": [], "grad_norm": [], "ratio": []}
        for prompt in range(PROMPTS):
            members = slice(prompt * MEMBERS, (prompt + 1) * MEMBERS)
            prompts, limited = torch.full((MEMBERS,), prompt), advantages[members].clamp(-OPTIONS["advantage_limit"], OPTIONS["advantage_limit"])
            values = torch.stack([self.log_probability(window[members], step, prompts) for step in range(WINDOW)], 1)
            ratio = (values - old[members]).exp()
            clipped = ratio.clamp(1 - OPTIONS["clip_range"], 1 + OPTIONS["clip_range"])
            loss = torch.maximum(-limited[:, None] * ratio, -limited[:, None] * clipped).mean()
            self.policy_optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters.values(), OPTIONS["grad_norm_limit"])
            self.policy_optimizer.step()
            decay = min((1 + self.updates) / (10 + self.updates), OPTIONS["ema_decay"])
            self.updates += 1
            for key, parameter in self.policy.parameters.items():
                self.ema[key] += (1 - decay) * (parameter.detach() - self.ema[key])
            for key, value in (("loss", loss), ("grad_norm", norm), ("ratio", ratio)):
                rows[key].append(value.detach())
        for key, values in rows.items():
            self.out[f"policy/{key}"].append(torch.stack(values))

    def run(self):
        references, after = self.tokens(self.data["references"]), {}
        for epoch in range(EPOCHS):
            window, old, latents, images = self.rollout(epoch)
            generated = self.tokens(images)
            rewards = self.reward(generated, self.data["score_generated"][epoch])
            groups = rewards.view(PROMPTS, MEMBERS)
            advantages = ((groups - groups.mean(1, keepdim=True)) / (rewards.std(correction=0) + OPTIONS["advantage_eps"])).flatten()
            for key, value in (("rewards", rewards), ("advantages", advantages), ("log_probability", old)):
                self.out[key].append(value)
            if epoch % 2 == 0:
                self.train_discriminator(epoch, references, generated)
                moved = {f"head/{key}": p for key, p in self.head.named_parameters()}
            else:
                self.train_policy(window, old, advantages)
                moved = {f"adapter/{key}": p for key, p in self.policy.parameters.items()}
            after |= {f"after/{epoch}/{key}": p.detach().clone() for key, p in moved.items()}
        return {**after, **{key: torch.stack(values) for key, values in self.out.items()},
                **{f"final/ema/{key}": value for key, value in self.ema.items()}}


if __name__ == "__main__":
    data = inputs()
    run = Run(data | drawn(), torch.float64)
    exact, approximate = run.run(), Run(data | drawn(), torch.float32).run()
    edge = ((exact["policy/ratio"] - 1).abs() - OPTIONS["clip_range"]).abs().min()
    for key in ("rewards", "discriminator/loss", "discriminator/accuracy", "policy/loss", "policy/grad_norm"):
        print(f"  {key}", [round(float(value), 4) for value in (exact[key].mean(1) if key == "rewards" else exact[key].flatten())],
              f"float32 off by {float((exact[key] - approximate[key]).abs().max()):.1e}")
    print(f"  nearest ratio to the clip edge {float(edge):.1e}; ",
          f"float32 off: weights {max(float((exact[k] - approximate[k]).abs().max()) for k in exact if k.startswith('after/')):.1e}")
    save_tensors(FIXTURES / "adversarial.safetensors", {**{f"input/{key}": value for key, value in data.items()},
                                                        **{f"head/{key}": value for key, value in run.initial_head.items()}, **exact},
                 seed=SEED, versions=versions("diffusers", "peft", "timm"), computed="float64, stored as float32", constants=json.dumps(OPTIONS),
                 reference_float32_error=float32_error(exact, approximate), tolerance="losses and rewards 1e-4; weights 5e-4")
