"""What the probes of this folder share: data, backbones, the base model, the rollout with a CPS window (method.md 1.4, 1.5).

RESEARCH_DIR holds emoji/ (prepare_emoji.py) and receives every result; BASE_MODEL is the model folder.
"""
import json, os, pathlib, time, sys
import numpy as np, torch, torch.nn.functional as F, timm
from safetensors.torch import load_file
from PIL import Image
torch.set_num_threads(1)
W = pathlib.Path(os.environ.get("RESEARCH_DIR", "."))
M = pathlib.Path(os.environ.get("BASE_MODEL", pathlib.Path(__file__).parents[3] / "Models/emoji-sd3-tiny"))
E = W / "emoji"
REF = json.loads((E / "prompt2img.json").read_text())
TRAIN = [l for l in (E / "train.txt").read_text().split("\n") if l]
TEST = [l for l in (E / "test.txt").read_text().split("\n") if l]

def ref_u8(prompt):
    return np.stack([np.asarray(Image.open(E / "images" / f).convert("RGB")) for f in REF[prompt]])

def load_backbone(folder):
    c = json.loads((pathlib.Path(folder) / "config.json").read_text())
    m = timm.create_model(c["architecture"], pretrained=False, num_classes=0, img_size=c["img_size"], patch_size=c["patch_size"],
        embed_dim=c["embed_dim"], depth=c["depth"], num_heads=c["num_heads"], init_values=1.0 if c["layer_scale"] else None)
    m.load_state_dict({k: v.float() for k, v in load_file(pathlib.Path(folder) / "model.safetensors").items()})
    return m.eval().requires_grad_(False)

MEAN = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None]; STD = torch.tensor([0.229, 0.224, 0.225])[None, :, None, None]

def tokens(m, x, layers=None):
    """x [N,3,64,64] in [0,1]; list of [N,1+64,D] for layer 0 (patch embedding output, +cls/pos), 1.. depth; and final norm."""
    x = m.patch_embed((x - MEAN) / STD); pe = x
    x = m._pos_embed(x); out = [pe]
    x = m.norm_pre(x)
    for b in m.blocks:
        x = b(x); out.append(x)
    return out, m.norm(x)

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
    @torch.no_grad()
    def decode(self, z):
        x = self.vae.decode(z / self.vae.config.scaling_factor + self.vae.config.shift_factor, return_dict=False)[0]
        return (x / 2 + 0.5).clamp(0, 1)

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

import math
def cps_mean(x, v, s, s2, eta):
    k, sn = math.cos(eta * math.pi / 2), s2 * math.sin(eta * math.pi / 2)
    return (1 - s2) * (x - s * v) + k * s2 * (x + (1 - s) * v), sn

@torch.no_grad()
def rollout(tr, base, prompts, gen, window=None, eta=0.8, n=10, g=4.5, branch=0):
    sg = sigmas(n)
    x = torch.randn(len(prompts), 16, 16, 16, generator=gen)
    store = []
    if branch: x = x[:1]
    for i in range(n):
        if branch and i == window: x = x.expand(len(prompts), -1, -1, -1).contiguous()
        v = velocity(tr, base, x, sg[i], prompts[:len(x)], g)
        if window is not None and window <= i < window + 2:
            mu, sn = cps_mean(x, v, sg[i], sg[i + 1], eta)
            x2 = mu + sn * torch.randn(x.shape, generator=gen)
            store.append((i, x, x2, -((x2 - mu) ** 2).mean(dim=(1, 2, 3))))
            x = x2
        else:
            x = x + (sg[i + 1] - sg[i]) * v
    return x, store
