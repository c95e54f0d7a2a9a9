"""Pooled statistics of pixel tokens and every dino/ block for the base images and their references."""
from common import *
x, meta = torch.load(W / "base_samples.pt")
prompts = [m[0] for m in meta]; uniq = list(dict.fromkeys(prompts))
refs = torch.from_numpy(np.concatenate([ref_u8(p) for p in uniq])).permute(0, 3, 1, 2)
rp = [p for p in uniq for _ in range(4)]
@torch.no_grad()
def stats(m, u8):
    out = []
    for c in u8.split(64):
        ts, nf = tokens(m, c.float() / 255)
        px = c.float() / 255; n = len(px)
        raw = px.reshape(n, 3, 8, 8, 8, 8).permute(0, 2, 4, 1, 3, 5).reshape(n, 64, 192)
        row = []
        for i, t in enumerate([raw] + ts + [nf]):
            t = t if i < 2 else t[:, 1:]
            row.append(torch.stack([t.mean(1), t.std(1), t.amax(1), t.amin(1)], 1))
        cls = torch.stack([t[:, 0] for t in ts[1:] + [nf]], 1)
        out.append((torch.stack(row, 1), cls))
    return torch.cat([a for a, _ in out]), torch.cat([b for _, b in out])   # [N, 9(raw,0..6,norm), 4, 192], [N, 7, 192]
if __name__ == "__main__":
    m = load_backbone(M / "dino")
    torch.save(dict(fake=stats(m, x), real=stats(m, refs), fp=prompts, rp=rp, refs=refs, fakes=x, meta=meta), W / "feats.pt")
    g = Image.new("RGB", (16 * 66, 8 * 66))
    for i in range(64):
        j=i*5
        g.paste(Image.fromarray(x[j].permute(1, 2, 0).numpy()), ((i % 16) * 66, (i // 16) * 132))
        k=rp.index(prompts[j]); g.paste(Image.fromarray(refs[k].permute(1, 2, 0).numpy()), ((i % 16) * 66, (i // 16) * 132+66))
    g.save("base_sheet.png")
