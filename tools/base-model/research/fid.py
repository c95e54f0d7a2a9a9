"""Frechet distance and similarity of rl.py's images, in the evaluation backbone and in dino/."""
from common import *
import random, glob
rng = random.Random(1234); pool = TRAIN[:]; rng.shuffle(pool); PR = TEST[:96] + pool[:96]
def frechet(a, b):
    a, b = a.double(), b.double(); ma, mb = a.mean(0), b.mean(0); ca, cb = torch.cov(a.T), torch.cov(b.T)
    e, v = torch.linalg.eigh(ca); s = (v * e.clamp_min(0).sqrt()) @ v.T
    return float((ma - mb).pow(2).sum() + torch.trace(ca + cb) - 2 * torch.linalg.eigvalsh(s @ cb @ s).clamp_min(0).sqrt().sum())
@torch.no_grad()
def emb(m, u): return torch.cat([m((c.float() / 255 - MEAN) / STD) for c in u.split(64)])
if __name__ == "__main__":
    refs = torch.from_numpy(np.concatenate([ref_u8(p) for p in PR])).permute(0, 3, 1, 2)
    ms = dict(B=load_backbone(M / "dino-evaluation"), dino=load_backbone(M / "dino"))
    R = {k: emb(m, refs) for k, m in ms.items()}
    names = sys.argv[1:] or sorted(g[5:-3] for g in glob.glob("eval_*.pt"))
    if "base" not in names: names = ["base"] + names
    names.sort(key=lambda n: n != "base"); B0 = {}
    for n in names:
        u = torch.load(f"eval_{n}.pt"); row = []
        for k, m in ms.items():
            f = emb(m, u); fd = frechet(f, R[k]); ft = frechet(f[:96], R[k][:384]); fh = frechet(f[96:], R[k][384:])
            sim = (F.normalize(f, dim=-1)[:, None] * F.normalize(R[k], dim=-1).reshape(192, 4, -1)).sum(-1).amax(1)
            B0.setdefault(k, fd); B0.setdefault(k+"t", ft); B0.setdefault(k+"h", fh)
            row.append(f"{k}: FD {fd:.2f} ({100*(fd/B0[k]-1):+.1f}%; test {100*(ft/B0[k+'t']-1):+.1f}%, seen-by-base {100*(fh/B0[k+'h']-1):+.1f}%) sim {sim.mean():.4f}")
        print(f"{n:16s}", " | ".join(row), flush=True)
