"""Compact Adv-GRPO: LoRA, CPS window, texture discriminator with replay; saves images of held-out prompts and seeds."""
import argparse, random
from common import *
from texture import texture
from sklearn.metrics import roc_auc_score
import copy
ap = argparse.ArgumentParser()
for k, v in dict(name="x", lr=3e-4, groups=4, size=16, w0=0, w1=5, wsim=0.0, wd=1.0, dsteps=20, dlr=1e-3, updates=1, clip=1e-5, epochs=20, images=1280, full=0, recon=1, seed=0, eta=0.8, minutes=1e9, beta=0.0, sreal=0, ema=0.9, mb=16, branch=0).items():
    ap.add_argument("--" + k, type=type(v), default=v)
o = ap.parse_args(); print(vars(o), flush=True)
torch.manual_seed(o.seed)
base = Base(); tr = base.tr; dino = load_backbone(M / "dino")
rng = random.Random(1234); pool = TRAIN[:]; rng.shuffle(pool); HOLD = pool[:96]; pool = pool[96:]
rng = random.Random(o.seed)
# ---- discriminator
hold = set(HOLD) | set(TEST)
SM, FAKE = torch.load("base_samples.pt"); 
cache = W / "reftex.pt"
if not cache.exists():
    torch.save({p: texture(torch.from_numpy(ref_u8(p)).permute(0, 3, 1, 2)).flatten(1) for p in TRAIN}, cache)
RT = torch.load(cache)
real = torch.cat([RT[p] for p in pool])
if o.recon:
    P, u, r = torch.load("recon.pt"); t = texture(r).flatten(1); t = torch.cat([t[i:i+1] for i, p in enumerate(P) if p not in hold]); real = torch.cat([real, t.repeat(8, 1)])
fake0 = texture(SM).flatten(1); keep = [i for i, (p, _, _) in enumerate(FAKE) if p not in hold]; fake0 = fake0[keep]
mu, sd = real.mean(0), real.std(0) + 1e-4
nrm = lambda v: ((v - mu) / sd).clamp(-8, 8)
real, replay = nrm(real), nrm(fake0)
h = torch.nn.Sequential(torch.nn.Linear(80, 256), torch.nn.GELU(), torch.nn.Linear(256, 1)); od = torch.optim.Adam(h.parameters(), o.dlr, betas=(0.5, 0.999))
def dtrain(steps, fresh=None):
    for _ in range(steps):
        a = real[torch.randint(0, len(real), (128,))]; b = replay[torch.randint(0, len(replay), (128,))]
        if fresh is not None: b = torch.cat([b[:64], fresh[torch.randint(0, len(fresh), (64,))]])
        l = F.relu(1 - h(a)).mean() + F.relu(1 + h(b)).mean(); od.zero_grad(); l.backward(); od.step()
    return float(l)
for g in od.param_groups: g["lr"] = 3e-3
dtrain(300)
for g in od.param_groups: g["lr"] = o.dlr
h0 = copy.deepcopy(h)
RE = {}
@torch.no_grad()
def emb(x): return F.normalize(dino((x - MEAN) / STD), dim=-1)
def own(p):
    if p not in RE: RE[p] = emb(torch.from_numpy(ref_u8(p)).permute(0, 3, 1, 2).float() / 255)
    return RE[p]
@torch.no_grad()
def similarity(x, p): return (emb(x) @ own(p).T).amax(1)
# ---- policy
if o.full:
    params = [p for n, p in tr.named_parameters() if ("attn." in n or "ff" in n or "attn2." in n) and "weight" in n and p.ndim == 2]
    for p in params: p.requires_grad_(True)
else:
    from peft import LoraConfig
    tr.add_adapter(LoraConfig(r=32, lora_alpha=64, init_lora_weights="gaussian", target_modules=r".*\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"))
    params = [p for p in tr.parameters() if p.requires_grad]
print(len(params), sum(p.numel() for p in params), flush=True)
ema = [p.detach().clone() for p in params]
op = torch.optim.AdamW(params, lr=o.lr, weight_decay=1e-4)
gen = torch.Generator().manual_seed(1000 + o.seed)
@torch.no_grad()
def evaluate(tag):
    live = [p.detach().clone() for p in params]
    for p, e in zip(params, ema): p.copy_(e)
    g = torch.Generator().manual_seed(77); out = []
    prompts = TEST[:96] + HOLD
    for i in range(0, 192, 16):
        z, _ = rollout(tr, base, prompts[i:i + 16], g); out.append((base.decode(z) * 255).round().byte())
    torch.save(torch.cat(out), W / f"eval_{tag}.pt")
    for p, e in zip(params, live): p.copy_(e)
if not (W / "eval_base.pt").exists(): evaluate("base")
start = time.time(); n = 0; upd = 0; ep = 0; order = []
while n < o.images and time.time() - start < 60 * o.minutes:
    data = []; R = []; T0 = time.time()
    for _ in range(o.groups):
        if not order: order = pool[:]; rng.shuffle(order)
        p = order.pop(); w = rng.randint(o.w0, o.w1)
        z, store = rollout(tr, base, [p] * o.size, gen, w, o.eta, branch=o.branch)
        x = base.decode(z); x8 = (x * 255).round().byte(); t = nrm(texture(x8).flatten(1))
        s = similarity(x8.float() / 255, p)
        with torch.no_grad(): d = h(t).flatten()
        data.append((p, store, t, d, s)); n += o.size
    D, Sm = torch.cat([q[3] for q in data]), torch.cat([q[4] for q in data])
    r = [o.wd * q[3] + o.wsim * q[4] for q in data]
    sdall = torch.cat(r).std(unbiased=False) + 1e-4
    adv = [((q - q.mean()) / sdall).clamp(-5, 5) for q in r]
    fresh = torch.cat([q[2] for q in data])
    with torch.no_grad(): d0 = float(h0(fresh).mean())
    t1 = time.time() - T0
    # policy
    ratio = []
    per = o.groups // o.updates
    for u in range(o.updates):
        part = list(range(u * per, (u + 1) * per)); op.zero_grad()
        for gi in part:
            p, store, *_ = data[gi]
            for (i, x, x2, lo) in store:
                for b in range(0, o.size, o.mb):
                    sl = slice(b, b + o.mb); sg = sigmas()
                    v = velocity(tr, base, x[sl], sg[i], [p] * len(x[sl]))
                    m, sn = cps_mean(x[sl], v, sg[i], sg[i + 1], o.eta)
                    l = -((x2[sl] - m) ** 2).mean(dim=(1, 2, 3)); rho = (l - lo[sl]).exp(); A = adv[gi][sl]
                    loss = torch.maximum(-A * rho, -A * rho.clamp(1 - o.clip, 1 + o.clip)).sum() / (len(part) * o.size * 2)
                    loss.backward(); ratio.append((rho.detach() - 1).abs().mean())
        gn = torch.nn.utils.clip_grad_norm_(params, 1.0); op.step(); upd += 1
        with torch.no_grad():
            dc = min((1 + upd) / (10 + upd), o.ema)
            for e, q in zip(ema, params): e.lerp_(q, 1 - dc)
    replay = torch.cat([replay, fresh])[-2000:]
    dtrain(o.dsteps, fresh)
    ep += 1
    with torch.no_grad():
        rr = real[torch.randint(0, len(real), (256,))]
        auc = roc_auc_score([1] * 256 + [0] * len(D), torch.cat([h(rr).flatten(), D]))
    print(ep, n, f"D {D.mean():.3f} sdD {D.std():.3f} real {h(rr).mean():.2f} auc {auc:.3f} D0 {d0:.3f} sim {Sm.mean():.4f} sdsim(in group) {torch.stack([q[4].std() for q in data]).mean():.3f} sdD(in group) {torch.stack([q[3].std() for q in data]).mean():.3f} gn {float(gn):.2e} |rho-1| {torch.stack(ratio).mean():.1e} roll {t1:.0f}s all {time.time()-T0:.0f}s", flush=True)
evaluate(o.name)
torch.save([e for e in ema], f"policy_{o.name}.pt")
print("done", time.time() - start)
