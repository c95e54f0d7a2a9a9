"""Texture tokens: 20 statistics of every 8x8 patch, pooled to 80 numbers."""
from common import *
def texture(u8):
    """pixel-statistics tokens: per 8x8 patch log std per channel, gradients, laplacian at 2 scales; pooled mean,std,max,min"""
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
