"""What follow.py and critics.py share: data, backbones, the base model, one step of CPS (method.md 1.5), texture, the distance.

RESEARCH_DIR holds emoji/ (advgrpo prepare-emoji) and receives every result; BASE_MODEL is the model folder.
"""
import json, math, os, pathlib
import numpy as np, torch, torch.nn.functional as F, timm
from safetensors.torch import load_file
from PIL import Image
torch.set_num_threads(1)
W = pathlib.Path(os.environ.get("RESEARCH_DIR", "."))
M = pathlib.Path(os.environ.get("BASE_MODEL", pathlib.Path(__file__).parents[3] / "Models/emoji-sd3-tiny"))
E = W / "emoji"
REF = json.loads((E / "prompt2img.json").read_text())
TRAIN = [l for l in (E / "train.txt").read_text().split("\n") if l]

def ref_u8(prompt):
    return np.stack([np.asarray(Image.open(E / "images" / f).convert("RGB")) for f in REF[prompt]])

def load_backbone(folder):
    c = json.loads((pathlib.Path(folder) / "config.json").read_text())
    m = timm.create_model(c["architecture"], pretrained=False, num_classes=0, img_size=c["img_size"], patch_size=c["patch_size"],
        embed_dim=c["embed_dim"], depth=c["depth"], num_heads=c["num_heads"], init_values=1.0 if c["layer_scale"] else None)
    m.load_state_dict({k: v.float() for k, v in load_file(pathlib.Path(folder) / "model.safetensors").items()})
    return m.eval().requires_grad_(False)

MEAN = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None]; STD = torch.tensor([0.229, 0.224, 0.225])[None, :, None, None]

class Base:
    def __init__(self, dtype=torch.float32):
        from diffusers import StableDiffusion3Pipeline
        self.p = StableDiffusion3Pipeline.from_pretrained(M, text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32)
        self.tr, self.vae = self.p.transformer.eval().requires_grad_(False), self.p.vae.eval().requires_grad_(False)
        self.cache = {}
    @torch.no_grad()
    def text(self, prompt):
        if prompt not in self.cache:
            e, _, pe, _ = self.p.encode_prompt(prompt, prompt, None, do_classifier_free_guidance=False, max_sequence_length=16)
            self.cache[prompt] = (e[0], pe[0])
        return self.cache[prompt]

def sigmas(n=10, shift=3.0):
    s = lambda u: shift * u / (1 + (shift - 1) * u)
    u = np.linspace(1, s(0.001), n)
    return [float(v) for v in s(u)] + [0.0]

def velocity(tr, base, x, sigma, prompts, g=4.5):
    c = [base.text(p) for p in prompts]
    n = base.text("")
    if g == 1.0:
        return tr(hidden_states=x, timestep=torch.full((len(x),), sigma * 1000), encoder_hidden_states=torch.stack([a for a, _ in c]),
                  pooled_projections=torch.stack([b for _, b in c]), return_dict=False)[0]
    e = torch.cat([n[0][None].expand(len(x), -1, -1), torch.stack([a for a, _ in c])])
    pe = torch.cat([n[1][None].expand(len(x), -1), torch.stack([b for _, b in c])])
    v = tr(hidden_states=torch.cat([x, x]), timestep=torch.full((2 * len(x),), sigma * 1000), encoder_hidden_states=e, pooled_projections=pe, return_dict=False)[0]
    a, b = v.chunk(2)
    return a + g * (b - a)

def cps_mean(x, v, s, s2, eta):
    k, sn = math.cos(eta * math.pi / 2), s2 * math.sin(eta * math.pi / 2)
    return (1 - s2) * (x - s * v) + k * s2 * (x + (1 - s) * v), sn

def texture(u8):
    """Images [N,3,H,W] in 0...255 to [N,4,20]: 20 statistics of every 8x8 patch (docs/decisions/005-discriminator.md), pooled by mean, std, max, min."""
    x = u8.float() / 255
    def lg(e, k): return (F.avg_pool2d(e, k) + 1e-5).log()
    maps = []
    mu = F.avg_pool2d(x, 8); var = F.avg_pool2d(x * x, 8) - mu * mu
    maps.append((var.clamp_min(0) + 1e-5).log())
    xp = F.pad(x, (1, 1, 1, 1), mode="replicate")
    dx = (xp[..., 1:-1, 2:] - xp[..., 1:-1, 1:-1]); dy = xp[..., 2:, 1:-1] - xp[..., 1:-1, 1:-1]
    lap = 4 * x - xp[..., 1:-1, 2:] - xp[..., 1:-1, :-2] - xp[..., 2:, 1:-1] - xp[..., :-2, 1:-1]
    maps += [lg(dx ** 2, 8), lg(dy ** 2, 8), lg(lap ** 2, 8)]
    y = F.avg_pool2d(x, 2); yp = F.pad(y, (1, 1, 1, 1), mode="replicate")
    lap2 = 4 * y - yp[..., 1:-1, 2:] - yp[..., 1:-1, :-2] - yp[..., 2:, 1:-1] - yp[..., :-2, 1:-1]
    maps.append(lg(lap2 ** 2, 4))
    ch = x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    maps.append(F.avg_pool2d(ch, 8)); maps.append(lg((ch - F.avg_pool2d(ch, 3, 1, 1)) ** 2, 8)); maps.append(mu)
    t = torch.cat(maps, 1).flatten(2).transpose(1, 2)
    return torch.stack([t.mean(1), t.std(1), t.amax(1), t.amin(1)], 1)

def frechet(a, b):
    """Frechet distance between Gaussians fitted to two sets of features [N,D]."""
    a, b = a.double(), b.double(); ma, mb = a.mean(0), b.mean(0); ca, cb = torch.cov(a.T), torch.cov(b.T)
    e, v = torch.linalg.eigh(ca); s = (v * e.clamp_min(0).sqrt()) @ v.T
    return float((ma - mb).pow(2).sum() + torch.trace(ca + cb) - 2 * torch.linalg.eigvalsh(s @ cb @ s).clamp_min(0).sqrt().sum())
