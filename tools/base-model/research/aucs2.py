"""Statistics of augmented fakes and of all references, split by prompt, for heads.py."""
from common import *
from feats import stats
from texture import texture
from sklearn.metrics import roc_auc_score
d = torch.load(W / "feats.pt")
uniq = list(dict.fromkeys(d["fp"])); hold = set(uniq[:80])
fm = torch.tensor([p in hold for p in d["fp"]]); rm = torch.tensor([p in hold for p in d["rp"]])
m = load_backbone(M / "dino")
extra = [p for p in TRAIN if p not in set(uniq)]
extra_refs = torch.from_numpy(np.concatenate([ref_u8(p) for p in extra])).permute(0, 3, 1, 2)
def aug(u8, seed):
    g = torch.Generator().manual_seed(seed)
    out = []
    for c in u8:
        if torch.rand((), generator=g) < 0.5: c = c.flip(-1)
        a, b = torch.randint(-4, 5, (2,), generator=g).tolist()
        p = F.pad(c[None].float(), (4,) * 4, mode="replicate")[0]
        out.append(p[:, 4 + a:68 + a, 4 + b:68 + b].byte())
    return torch.stack(out)
t0 = time.time()
real_tr = torch.cat([d["refs"][~rm], extra_refs]); real_h = d["refs"][rm]; fake_tr = d["fakes"][~fm]; fake_h = d["fakes"][fm]
S = dict()
f = lambda u: (stats(m, u)[0], texture(u))
S["rt"] = f(real_tr); S["rh"] = f(real_h); S["rha"] = f(real_h.flip(-1)); S["fh"] = f(fake_h); S["fha"] = f(fake_h.flip(-1))
print("real", len(real_tr), time.time() - t0, flush=True)
S["ft"] = [f(fake_tr)] + [f(aug(fake_tr, s)) for s in range(4)]
S["rta"] = f(aug(real_tr, 99))
print("feats", time.time() - t0, flush=True)
torch.save(S, W / "S.pt")
