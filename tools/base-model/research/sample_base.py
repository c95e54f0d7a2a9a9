"""736 base images for the discriminator probes: 640 with a drawn CPS window, 96 plain ODE."""
from common import *
torch.manual_seed(0)
base = Base(); gen = torch.Generator().manual_seed(11)
import random
rng = random.Random(5)
prompts = TRAIN[:]; rng.shuffle(prompts); prompts = prompts[:320]   # 320 prompts x ~2-3
jobs = []   # (prompt, mode)
for r in range(2):
    for p in prompts: jobs.append((p, "cps"))
for p in prompts[:96]: jobs.append((p, "ode"))
out, meta = [], []
start = time.time()
for i in range(0, len(jobs), 16):
    b = jobs[i:i + 16]; mode = b[0][1]; w = None if mode == "ode" else rng.randint(0, 5)
    z, _ = rollout(base.tr, base, [p for p, _ in b], gen, w)
    x = base.decode(z)
    out.append((x * 255).round().byte()); meta += [(p, m, w) for p, m in b]
    if i % 160 == 0:
        print(i, time.time() - start, flush=True)
        torch.save((torch.cat(out), meta), W / "base_samples.pt")
torch.save((torch.cat(out), meta), W / "base_samples.pt")
