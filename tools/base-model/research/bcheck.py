"""Frechet distance of base images and of degraded references, in both backbones."""
from common import *
from fid import frechet, emb
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import train_evaluation as T
P, u, r = torch.load("recon.pt"); x, meta = torch.load("base_samples.pt")
# references of the same prompts as base samples
pr = [m[0] for m in meta][:320]
refs = torch.from_numpy(np.concatenate([ref_u8(p) for p in pr])).permute(0, 3, 1, 2)
rng = torch.Generator().manual_seed(0)
f = refs[0::4].float() / 255
sets = dict(other_ref=refs[1::4], fakes=x[:320])
for d in T.DEGRADATIONS: sets[d.__name__] = (d(f, rng) * 255).byte()
for name, folder in dict(B=M / "dino-evaluation", dino=M / "dino").items():
    m = load_backbone(folder); R = emb(m, refs[0::4]); 
    print(name, {k: round(frechet(emb(m, v), R), 3) for k, v in sets.items()}, flush=True)
