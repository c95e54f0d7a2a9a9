"""Does a reward lead anywhere good? Move the policy along the exact gradient of a texture head's mean score and watch the distance.

usage: RESEARCH_DIR=DIR python follow.py [--features all|energies|mean] [--steps-before N] [--steps-an-update N] [--updates N] [--lr X]
DIR/emoji is what `advgrpo prepare-emoji` makes. No GRPO, so none of its noise: the gradient goes through the decoder and the denoising steps from
step 6 on. The distance is that of `dino-evaluation` on held-out prompts; docs/decisions/007-learning.md has what came out. About four minutes.
"""
import argparse, random
from common import *
torch.set_num_threads(2)
ap = argparse.ArgumentParser()
ap.add_argument("--features", choices=["all", "energies", "mean"], default="all")
for name, default in dict(steps_before=120, steps_an_update=30, updates=40, prompts=64, fakes=512).items():
    ap.add_argument("--" + name.replace("_", "-"), type=int, default=default)
ap.add_argument("--lr", type=float, default=3e-4)
o = ap.parse_args()
HELD = [l for l in (E / "validation.txt").read_text().split("\n") if l]
POOL = [p for p in TRAIN if p not in set(HELD)]
HELD = HELD[:o.prompts]
base, B, sg = Base(), load_backbone(M / "dino-evaluation"), sigmas()
torch.set_num_threads(2)
pixels = lambda prompts: torch.from_numpy(np.concatenate([ref_u8(p) for p in prompts])).permute(0, 3, 1, 2)
statistics = {"all": 4, "energies": 4, "mean": 1}[o.features]
columns = 15 if o.features == "energies" else 20


def described(images):  # [N, 3, H, W] in 0...255, differentiable
    return texture(images)[:, :statistics, :columns].flatten(1)


@torch.no_grad()
def embedded(u8):
    return torch.cat([B((c.float() / 255 - MEAN) / STD) for c in u8.split(64)])


def decoded(z):
    vae = base.vae
    return (vae.decode(z / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)


def denoised(z, prompts, first, last=10):
    for k in range(first, last):
        z = z + (sg[k + 1] - sg[k]) * velocity(base.tr, base, z, sg[k], prompts)
    return z


@torch.no_grad()
def sampled(prompts, seed):
    g = torch.Generator().manual_seed(seed)
    parts = [prompts[i:i + 32] for i in range(0, len(prompts), 32)]
    return torch.cat([(decoded(denoised(torch.randn(len(p), 16, 16, 16, generator=g), p, 0)) * 255).round().byte() for p in parts])


# The head, trained on base images and all references of training prompts.
rng = random.Random(0)
real = described(pixels(POOL))
centre, scale = real.mean(0), real.std(0) + 1e-4
standardized = lambda v: ((v - centre) / scale).clamp(-8, 8)
real = standardized(real)
first_fakes = standardized(described(sampled(rng.choices(POOL, k=o.fakes), 1)))
torch.manual_seed(0)
head = torch.nn.Sequential(torch.nn.Linear(real.shape[1], 256), torch.nn.GELU(), torch.nn.Linear(256, 1))
head_optimizer = torch.optim.Adam(head.parameters(), 5e-4, betas=(0.5, 0.999))


def train_head(steps, fakes):
    for _ in range(steps):
        a, b = real[torch.randint(0, len(real), (128,))], fakes[torch.randint(0, len(fakes), (128,))]
        loss = F.relu(1 - head(a)).mean() + F.relu(1 + head(b)).mean()
        head_optimizer.zero_grad(); loss.backward(); head_optimizer.step()


train_head(o.steps_before, first_fakes)

from peft import LoraConfig
base.tr.add_adapter(LoraConfig(r=32, lora_alpha=64, init_lora_weights="gaussian",
    target_modules=r".*\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"))
policy = torch.optim.AdamW([p for p in base.tr.parameters() if p.requires_grad], o.lr)
references = embedded(pixels(HELD))


def measure(update):
    u8 = sampled([p for p in HELD for _ in range(2)], 5)
    features = embedded(u8)
    near = F.normalize(features, dim=-1).reshape(len(HELD), 2, -1) @ F.normalize(references, dim=-1).reshape(len(HELD), 4, -1).transpose(1, 2)
    with torch.no_grad():
        score = float(head(standardized(described(u8))).mean())
    print(f"update {update}: distance {frechet(features, references):.3f}, similarity {float(near.amax(-1).mean()):.4f}, score {score:.3f}", flush=True)


measure(0)
g, recent = torch.Generator().manual_seed(7), []
for update in range(1, o.updates + 1):
    prompts = [p for p in rng.sample(POOL, 8) for _ in range(2)]
    with torch.no_grad():
        z = denoised(torch.randn(16, 16, 16, 16, generator=g), prompts, 0, 6)
    features = standardized(described(decoded(denoised(z, prompts, 6)) * 255))
    loss = -head(features).mean()
    policy.zero_grad(); loss.backward(); policy.step()
    recent = (recent + [features.detach()])[-12:]
    if o.steps_an_update:
        train_head(o.steps_an_update, torch.cat([first_fakes[torch.randint(0, len(first_fakes), (64,))]] + recent))
    if update in (5, 10, 20, 40, 80):
        measure(update)
