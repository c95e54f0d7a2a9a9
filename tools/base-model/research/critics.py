"""Follow the exact gradient of any critic and watch both terms of the distance: what follow.py asks, for populations matched by prompt.

With --signal N: instead, how much of one GRPO update is signal. The gradients of N updates (--groups of --group images, --window steps from --start,
branching) against the exact gradient of the same reward over N/2 batches, layer by layer, for all weights, a random A of rank 32, and biases.

usage: RESEARCH_DIR=DIR python critics.py --terms [WEIGHT*]KIND:FEATURES[:RIDGE[:STEPS]],... [--lr X] [--start STEP] [--updates N] [--signal N]
KIND: lda, w2, w2raw (against all references); w2m, gap, gapn, gaplda, cond (against those of the fakes' own prompts); mlp; sim.
FEATURES, joined by +: cls, ucls, pmean, pstat, blkN, tex, texm, eng, thumb, rgb; eval is the evaluation backbone, an upper bound only.
Sizes matter: 2e-5 to 6e-5. docs/decisions/007-learning.md has what came out; --prompts changes the distance's scale.
"""
import argparse, pathlib, random

from common import *
ap = argparse.ArgumentParser()
ap.add_argument("--terms", default="w2:cls:1")
ap.add_argument("--updates", type=int, default=30); ap.add_argument("--prompts", type=int, default=64)
ap.add_argument("--fakes", type=int, default=512); ap.add_argument("--batch", type=int, default=16)
ap.add_argument("--lr", type=float, default=3e-4); ap.add_argument("--start", type=int, default=6)
ap.add_argument("--recent", type=int, default=12); ap.add_argument("--every", type=int, default=5)
ap.add_argument("--threads", type=int, default=1); ap.add_argument("--decoded", action="store_true")
ap.add_argument("--signal", type=int, default=0); ap.add_argument("--groups", type=int, default=4)
ap.add_argument("--group", type=int, default=16); ap.add_argument("--window", type=int, default=2)
o = ap.parse_args()
torch.set_num_threads(o.threads)
HELD = [l for l in (E / "validation.txt").read_text().split("\n") if l]
POOL = [p for p in TRAIN if p not in set(HELD)]; HELD = HELD[:o.prompts]
base, B, R, sg = Base(), load_backbone(M / "dino-evaluation"), load_backbone(M / "dino"), sigmas()
torch.set_num_threads(o.threads)
pixels = lambda prompts: torch.from_numpy(np.concatenate([ref_u8(p) for p in prompts])).permute(0, 3, 1, 2)

def feats(name, images):  # images 0..255
    x = (images.float() / 255 - MEAN) / STD
    parts = []
    for n in name.split("+"):
        if n == "cls": parts.append(R.forward_features(x)[:, 0])
        elif n == "ucls": parts.append(F.normalize(R.forward_features(x)[:, 0], dim=-1) * 14)
        elif n == "pmean": parts.append(R.forward_features(x)[:, 1:].mean(1))
        elif n == "pstat": t = R.forward_features(x)[:, 1:]; parts += [t.mean(1), t.std(1)]
        elif n.startswith("blk"):
            h = R.norm_pre(R._pos_embed(R.patch_embed(x)))
            for b in R.blocks[:int(n[3:])]: h = b(h)
            parts += [h[:, 1:].mean(1), h[:, 1:].std(1)]
        elif n == "tex": parts.append(texture(images).flatten(1))
        elif n == "texm": parts.append(texture(images)[:, 0])
        elif n == "eval": parts.append(B(x))
        elif n == "eng": parts.append(texture(images)[:, :, :15].flatten(1))
        elif n == "thumb": parts.append(F.avg_pool2d(images.float() / 255, 8).flatten(1))
        elif n == "rgb": v = images.float() / 255; parts += [v.mean((2, 3)), v.std((2, 3))]
    return torch.cat(parts, 1)

def batched(f, u8): 
    with torch.no_grad(): return torch.cat([f(c) for c in u8.split(64)])
embedded = lambda u8: batched(lambda c: B((c.float() / 255 - MEAN) / STD), u8)
def decoded(z):
    v = base.vae
    return (v.decode(z / v.config.scaling_factor + v.config.shift_factor, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)
def denoised(z, prompts, first, last=10):
    for k in range(first, last): z = z + (sg[k + 1] - sg[k]) * velocity(base.tr, base, z, sg[k], prompts)
    return z
@torch.no_grad()
def sampled(prompts, seed):
    g = torch.Generator().manual_seed(seed)
    parts = [prompts[i:i + 32] for i in range(0, len(prompts), 32)]
    return torch.cat([(decoded(denoised(torch.randn(len(p), 16, 16, 16, generator=g), p, 0)) * 255).round().byte() for p in parts])

def gauss(f):
    m = f.mean(0); c = (f - m).T @ (f - m) / (len(f) - 1); return m, c
def msqrt(c):
    w, v = torch.linalg.eigh(c); return (v * w.clamp_min(0).sqrt()) @ v.T
def fd(a, b):
    a, b = a.double(), b.double(); (ma, ca), (mb, cb) = gauss(a), gauss(b); s = msqrt(ca)
    return float(((ma - mb) ** 2).sum()), float(ca.trace() + cb.trace() - 2 * msqrt(s @ cb @ s).trace())

rng = random.Random(0)
tag = W / f"base{o.fakes}.pt"
if tag.exists(): u0, prompts0 = torch.load(tag)
else:
    prompts0 = rng.choices(POOL, k=o.fakes); u0 = sampled(prompts0, 1); torch.save((u0, prompts0), tag)
ref_pool = pixels(POOL)
if o.decoded:
    q = W / "refdec.pt"
    if q.exists(): ref_pool = torch.load(q)
    else:
        with torch.no_grad():
            v = base.vae
            ref_pool = torch.cat([((v.decode(v.encode(c.float() / 127.5 - 1).latent_dist.mode(), return_dict=False)[0] / 2 + .5).clamp(0, 1) * 255).round().byte() for c in ref_pool.split(32)])
        torch.save(ref_pool, q)

class Sim:
    def __init__(s, *_): s.cache = {}
    def __call__(s, images, prompts):
        for p in prompts:
            if p not in s.cache: s.cache[p] = F.normalize(batched(lambda c: feats("cls", c), pixels([p])), dim=-1)
        f = F.normalize(feats("cls", images), dim=-1)
        return torch.stack([(f[i] @ s.cache[p].T).amax() for i, p in enumerate(prompts)])
    def fit(s, *r): pass
class Critic:
    def __init__(s, name, ridge=1.0, arg=None):
        s.name = name; s.arg = arg; s.ridge = float(ridge)
        real = batched(lambda c: feats(name, c), ref_pool); s.mu, s.sd = real.mean(0), real.std(0) + 1e-4
        s.nz = lambda v: (v - s.mu) / s.sd
        if s.kind_raw: s.nz = lambda v: v - s.mu
        s.table = {p: s.nz(real[4*i:4*i+4]) for i, p in enumerate(POOL)}; s.real = s.nz(real); s.firstp = prompts0; s.recp = []; s.first = s.nz(batched(lambda c: feats(name, c), u0)); s.rec = []
        s.setup(); s.update()
    kind_raw = False
    def fakes(s):
        r = torch.cat(s.rec) if s.rec else s.first[:0]
        need = max(0, o.recent * o.batch - len(r))
        s.ps = (list(s.firstp[:need]) if s.rec else list(s.firstp)) + [p for q in s.recp for p in q]
        s.mreal = torch.cat([s.table[p] for p in s.ps])
        return torch.cat([s.first[:need] if s.rec else s.first, r])
    def fit(s, images, prompts):
        s.recp = (s.recp + [prompts])[-o.recent:]
        s.rec = (s.rec + [s.nz(batched(lambda c: feats(s.name, c), images))])[-o.recent:]; s.update()
    def __call__(s, images, prompts): return s.score(s.nz(feats(s.name, images)))
    def setup(s): pass
class LDA(Critic):
    def update(s):
        f = s.fakes(); (mf, cf), (mr, cr) = gauss(f), gauss(s.real)
        s.w = torch.linalg.solve((cf + cr) / 2 + s.ridge * torch.eye(len(mf)), mr - mf)
    def score(s, v): return v @ s.w
class W2(Critic):
    def update(s):
        f = s.fakes(); (mf, cf), (mr, cr) = gauss(f.double()), gauss(s.real.double()); I = torch.eye(len(mf)).double() * s.ridge
        cf, cr = cf + I, cr + I; h = msqrt(cf); hi = torch.linalg.inv(h)
        s.A = (hi @ msqrt(h @ cr @ h) @ hi).float(); s.m, s.mr = mf.float(), mr.float()
    def score(s, v): return -0.5 * (v * v).sum(1) + 0.5 * ((v - s.m) @ s.A * (v - s.m)).sum(1) + v @ s.mr
class W2raw(W2): kind_raw = True
class W2m(Critic):
    kind_raw = True
    def update(s):
        f = s.fakes(); (mf, cf), (mr, cr) = gauss(f.double()), gauss(s.mreal.double()); I = torch.eye(len(mf)).double() * s.ridge
        cf, cr = cf + I, cr + I; h = msqrt(cf); hi = torch.linalg.inv(h)
        s.A = (hi @ msqrt(h @ cr @ h) @ hi).float(); s.m, s.mr = mf.float(), mr.float()
    score = W2.score
class Gap(Critic):
    kind_raw = True
    def update(s): f = s.fakes(); s.w = s.mreal.mean(0) - f.mean(0)
    def score(s, v): return v @ s.w
class GapN(Gap): kind_raw = False
class GapLDA(Critic):
    kind_raw = False
    def update(s):
        f = s.fakes(); r = s.mreal.reshape(len(f), 4, -1).mean(1); e = f - r; m = -e.mean(0); c = e.T @ e / len(e)
        s.w = torch.linalg.solve(c + s.ridge * torch.eye(len(m)), m)
    score = Gap.score

class MLP(Critic):
    steps_first, steps = 300, 60
    def setup(s):
        torch.manual_seed(0); s.h = torch.nn.Sequential(torch.nn.Linear(s.real.shape[1], 256), torch.nn.GELU(), torch.nn.Linear(256, 1))
        s.op = torch.optim.AdamW(s.h.parameters(), 1e-3, betas=(.5, .999), weight_decay=s.ridge)
    def update(s):
        f = s.fakes()
        for _ in range(s.steps if s.rec else s.steps_first):
            a, b = s.real[torch.randint(0, len(s.real), (128,))], f[torch.randint(0, len(f), (128,))]
            l = F.relu(1 - s.h(a.clamp(-8, 8))).mean() + F.relu(1 + s.h(b.clamp(-8, 8))).mean(); s.op.zero_grad(); l.backward(); s.op.step()
    def score(s, v): return s.h(v.clamp(-8, 8)).flatten()
class Cond(Critic):
    kind_raw = True
    first_steps, steps = 300, 20
    def residuals(s, f, ps):
        m = torch.stack([s.table[p] for p in ps]); others = (m.sum(1, keepdim=True) - m) / 3
        return ((m - others) / s.sdr).flatten(0, 1).clamp(-8, 8), ((f[:, None] - others) / s.sdr).flatten(0, 1).clamp(-8, 8)
    def setup(s):
        torch.manual_seed(0); D = s.real.shape[1]; s.h = torch.nn.Sequential(torch.nn.Linear(D, 256), torch.nn.GELU(), torch.nn.Linear(256, 1))
        s.op = torch.optim.AdamW(s.h.parameters(), 1e-3, betas=(.5, .999), weight_decay=.01)
        m = torch.stack(list(s.table.values())); s.sdr = (m - (m.sum(1, keepdim=True) - m) / 3).flatten(0, 1).std(0) + (.05 if s.ridge == 1 else s.ridge)
        if s.arg: s.steps = int(s.arg)
    def update(s):
        f = s.fakes(); rr, ff = s.residuals(f, s.ps)
        for _ in range(s.steps if s.rec else s.first_steps):
            a, b = rr[torch.randint(0, len(rr), (128,))], ff[torch.randint(0, len(ff), (128,))]
            l = F.relu(1 - s.h(a)).mean() + F.relu(1 + s.h(b)).mean(); s.op.zero_grad(); l.backward(); s.op.step()
    def __call__(s, images, prompts):
        for p in prompts:
            if p not in s.table: s.table[p] = s.nz(batched(lambda c: feats(s.name, c), pixels([p])))
        r = torch.stack([s.table[p].mean(0) for p in prompts]); return s.h(((s.nz(feats(s.name, images)) - r) / s.sdr).clamp(-8, 8)).flatten()
kinds = dict(cond=Cond, w2m=W2m, gap=Gap, gapn=GapN, gaplda=GapLDA, lda=LDA, w2=W2, w2raw=W2raw, mlp=MLP, sim=Sim)
terms = []
for t in o.terms.split(","):
    w, t = t.split("*") if "*" in t else ("1", t)
    k, *a = t.split(":"); terms.append([float(w), kinds[k](*a), 1.0])
with torch.no_grad():  # unit spread on base images
    for t in terms:
        sc = torch.cat([t[1](u0[i:i+64], prompts0[i:i+64]) for i in range(0, min(256, len(u0)), 64)]); t[2] = float(sc.std())
references = embedded(pixels(HELD))
def reward(images, prompts): return sum(w * t(images, prompts) / s for w, t, s in terms)
def signal_share():
    import re
    layers = {n: m for n, m in base.tr.named_modules() if isinstance(m, torch.nn.Linear) and re.fullmatch(
        r".*(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff\.net\.2|norm1\.linear|norm_out\.linear|proj_out)$", n)}
    for m in layers.values(): m.requires_grad_(True)
    def taken():
        g = {n: (m.weight.grad, m.bias.grad) for n, m in layers.items()}
        for m in layers.values(): m.weight.grad = m.bias.grad = None
        return g
    g, draw = torch.Generator().manual_seed(7), random.Random(7)
    exact, sampled = [], []
    for _ in range(o.signal // 2):
        prompts = draw.sample(POOL, o.batch)
        with torch.no_grad(): z = denoised(torch.randn(o.batch, 16, 16, 16, generator=g), prompts, 0, o.start)
        (-reward(decoded(denoised(z, prompts, o.start)) * 255, prompts).mean()).backward(); exact.append(taken())
    for _ in range(o.signal):
        rewards, groups = [], []
        for _ in range(o.groups):
            prompts = [draw.choice(POOL)] * o.group
            with torch.no_grad():
                z, steps = denoised(torch.randn(1, 16, 16, 16, generator=g), prompts[:1], 0, o.start).expand(o.group, -1, -1, -1), []
                for k in range(o.start, o.start + o.window):
                    mean, deviation = cps_mean(z, velocity(base.tr, base, z, sg[k], prompts), sg[k], sg[k + 1], 0.8)
                    steps.append((k, z, mean + deviation * torch.randn(z.shape, generator=g))); z = steps[-1][2]
                rewards.append(reward((decoded(denoised(z, prompts, o.start + o.window)) * 255).round(), prompts))
            groups.append((prompts, steps))
        r = torch.stack(rewards)
        for a, (prompts, steps) in zip((r - r.mean(1, keepdim=True)) / (r.std() + 1e-4), groups):
            for k, z, z2 in steps:
                mean, _ = cps_mean(z, velocity(base.tr, base, z, sg[k], prompts), sg[k], sg[k + 1], 0.8)
                (-(a * -((z2 - mean) ** 2).mean((1, 2, 3))).mean() / o.groups).backward()
        sampled.append(taken())
    torch.manual_seed(0); A = {n: torch.randn(32, m.in_features) / 32 for n, m in layers.items()}
    kinds = {"all weights": lambda n, w, b: w, "random A, rank 32": lambda n, w, b: w @ A[n].T, "bias": lambda n, w, b: b}
    sets = {"joint attention": r"\.attn\.", "feed-forward output": r"ff\.net", "modulations": r"norm1", "norm_out": r"norm_out", "proj_out": r"proj_out"}
    for title, pattern in sets.items():
        for kind, f in kinds.items():
            flat = lambda gs: torch.stack([torch.cat([f(n, *g[n]).flatten() for n in layers if re.search(pattern, n)]) for g in gs])
            e, c = flat(exact), flat(sampled); h = len(e) // 2
            one = F.cosine_similarity(c, e.mean(0)[None])
            print(f"{title}, {kind}: {e.shape[1]} numbers, one update {one.mean():.3f} +- {one.std() / len(one) ** .5:.3f}, "
                  f"all {F.cosine_similarity(c.mean(0), e.mean(0), dim=0):.3f}, halves of the exact one {F.cosine_similarity(e[:h].mean(0), e[h:].mean(0), dim=0):.2f}", flush=True)
if o.signal: signal_share(); raise SystemExit
from peft import LoraConfig
base.tr.add_adapter(LoraConfig(r=32, lora_alpha=64, init_lora_weights="gaussian",
    target_modules=r".*\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"))
params = [p for p in base.tr.parameters() if p.requires_grad]
policy = torch.optim.AdamW(params, o.lr)
def measure(update):
    u8 = sampled([p for p in HELD for _ in range(2)], 5); f = embedded(u8)
    near = F.normalize(f, dim=-1).reshape(len(HELD), 2, -1) @ F.normalize(references, dim=-1).reshape(len(HELD), 4, -1).transpose(1, 2)
    with torch.no_grad(): sc = [float(t[1](u8, [p for p in HELD for _ in range(2)]).mean()) for t in terms]
    m, c = fd(f, references)
    print(f"{o.terms} lr {o.lr} {update}: FD {m+c:.3f} = {m:.3f}+{c:.3f} sim {float(near.amax(-1).mean()):.4f} score {['%.3f'%x for x in sc]}", flush=True)
measure(0)
g = torch.Generator().manual_seed(7)
for update in range(1, o.updates + 1):
    prompts = rng.sample(POOL, o.batch)
    with torch.no_grad(): z = denoised(torch.randn(o.batch, 16, 16, 16, generator=g), prompts, 0, o.start)
    im = decoded(denoised(z, prompts, o.start)) * 255
    loss = -reward(im, prompts).mean()
    policy.zero_grad(); loss.backward(); policy.step()
    for _, t, _ in terms: t.fit(im.detach().round(), prompts) 
    if update % o.every == 0: measure(update)
