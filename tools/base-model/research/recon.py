"""What the VAE alone gives away: references against their own VAE round trips."""
from common import *
from texture import texture
import random
base = Base()
rng = random.Random(3); P = TRAIN[:]; rng.shuffle(P)
u = torch.from_numpy(np.concatenate([ref_u8(p)[:1] for p in P[:600]])).permute(0, 3, 1, 2)
t = time.time(); out = []
with torch.no_grad():
    for c in u.split(20):
        z = base.vae.encode(c.float() / 127.5 - 1).latent_dist.mean
        out.append(((base.vae.decode(z, return_dict=False)[0] / 2 + .5).clamp(0, 1) * 255).round().byte())
r = torch.cat(out); print(time.time() - t)
torch.save((P[:600], u, r), "recon.pt")
from sklearn.metrics import roc_auc_score
tr, tu = texture(r).flatten(1), texture(u).flatten(1)
S = torch.load("S.pt"); ff = torch.cat([S["ft"][0][1], S["fh"][1]]).flatten(1); allr = S["rt"][1].flatten(1)
mu, sd = allr.mean(0), allr.std(0) + 1e-4
def train(A, B, a, b, steps=300):
    torch.manual_seed(0); h = torch.nn.Sequential(torch.nn.Linear(80, 256), torch.nn.GELU(), torch.nn.Linear(256, 1)); o = torch.optim.Adam(h.parameters(), 3e-3)
    A, B, a, b = [((v - mu) / sd).clamp(-8, 8) for v in (A, B, a, b)]
    for _ in range(steps):
        l = F.relu(1 - h(A[torch.randint(0, len(A), (128,))])).mean() + F.relu(1 + h(B[torch.randint(0, len(B), (128,))])).mean()
        o.zero_grad(); l.backward(); o.step()
    with torch.no_grad(): return h, roc_auc_score([1] * len(a) + [0] * len(b), torch.cat([h(a), h(b)]).flatten())
h, a = train(allr, tr[:450], tu[450:], tr[450:]); print("recon vs refs", a)
h, a = train(tr[:450], ff[:496], tr[450:], ff[496:]); print("fakes vs recon", a)
h, a = train(allr, ff[:496], tu[450:], ff[496:]); print("fakes vs refs", a)
with torch.no_grad(): print("logits of refs, recon, fakes", [float(h((v - mu) / sd).mean()) for v in (tu, tr, ff[496:])])
h, a = train(torch.cat([allr[:450], tr[:450]]), ff[:496], tr[450:], ff[496:]); print("both positive; AUC recon vs fakes", a)
