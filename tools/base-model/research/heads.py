"""Held-out AUC of pooled-statistics heads over blocks, raw tokens and the texture layer."""
from common import *
from sklearn.metrics import roc_auc_score
S = torch.load(W / "S.pt")
names = ["raw", 0, 1, 2, 3, 4, 5, 6, "norm"]
def feat(s, layers, st=(0, 1, 2, 3)):
    ix = [names.index(l) for l in layers if l != "tex"]
    parts = [s[0][:, ix][:, :, list(st)].flatten(1)] if ix else []
    if "tex" in layers: parts.append(s[1][:, list(st)].flatten(1))
    return torch.cat(parts, 1)
def run(layers, augf=0, allref=True, steps=400, lr=1e-3, hidden=128, wd=0.01, drop=0.0, noise=0.0, st=(0,1,2,3), seed=0, nf=496, depth=2, ens=1, verbose=True, augr=False, report=(100, 200, 400, 800)):
    tr = feat(S["rt"], layers, st); tr = tr if allref else tr[:960]
    if augr: tr = torch.cat([tr, feat(S["rta"], layers, st)])
    tf = torch.cat([feat(S["ft"][i], layers, st)[:nf] for i in range(augf + 1)])
    hr, hf = feat(S["rh"], layers, st), feat(S["fh"], layers, st)
    hra, hfa = feat(S["rha"], layers, st), feat(S["fha"], layers, st)
    a, b = torch.cat([tr, ]), tf
    mu = (a.mean(0) + b.mean(0)) / 2; sd = ((a.var(0) + b.var(0)) / 2).sqrt() + 1e-4
    tr, tf, hr, hf, hra, hfa = [((v - mu) / sd).clamp(-8, 8) for v in (tr, tf, hr, hf, hra, hfa)]
    torch.manual_seed(seed)
    D = tr.shape[1]
    mk = lambda: torch.nn.Sequential(torch.nn.Dropout(drop), torch.nn.Linear(D, hidden), torch.nn.GELU(), *([torch.nn.Linear(hidden, hidden), torch.nn.GELU()] * (depth - 1)), torch.nn.Linear(hidden, 1)) if depth else torch.nn.Linear(D, 1)
    h = mk(); o = torch.optim.AdamW(h.parameters(), lr=lr, weight_decay=wd)
    res = []; t = time.time()
    for s in range(steps):
        x = tr[torch.randint(0, len(tr), (128,))]; y = tf[torch.randint(0, len(tf), (128,))]
        if noise: x = x + noise * torch.randn_like(x); y = y + noise * torch.randn_like(y)
        l = F.relu(1 - h(x)).mean() + F.relu(1 + h(y)).mean()
        o.zero_grad(); l.backward(); o.step()
        if s + 1 in report:
            h.eval()
            with torch.no_grad():
                p, q = h(hr).flatten(), h(hf).flatten(); p2, q2 = p + h(hra).flatten(), q + h(hfa).flatten()
                au = roc_auc_score([1] * len(p) + [0] * len(q), torch.cat([p, q])); au2 = roc_auc_score([1] * len(p) + [0] * len(q), torch.cat([p2, q2]))
            h.train(); res.append((s + 1, round(au, 3), round(au2, 3)))
    if verbose: print(layers, dict(augf=augf, allref=allref, lr=lr, hidden=hidden, wd=wd, drop=drop, noise=noise, st=st, nf=nf, depth=depth, augr=augr), D, res, f"{time.time()-t:.1f}s", flush=True)
    return res
if __name__ == "__main__":
    L = [0, 1, 2, 3]
    run(["tex"]); run(["tex"], augf=4)
    run(L); run(L, allref=False); run(L, augf=4); run(L, augf=4, augr=True)
    run(["raw", 0, 1, 2, 3], augf=4); run(["raw", 0, 1, 2, 3], augf=4, drop=0.5); run(["raw", 0, 1, 2, 3], augf=4, noise=0.5)
    run(["raw", 0, 1, 2, 3, 4, 5, 6], augf=4, drop=0.5); run(["raw", 0, 1, 2, 3], augf=4, depth=1, drop=0.5); run(["raw", 0, 1, 2, 3], augf=4, depth=0)
    run(["raw", "tex", 0, 1, 2, 3], augf=4); run(["raw", "tex"], augf=4); run(["tex", 2, 4], augf=4, drop=0.5); run(["raw"], augf=4); run([0], augf=4)
    run(["raw", 0, 1, 2, 3], augf=4, nf=248); run(["raw", 0, 1, 2, 3], augf=4, nf=124)
