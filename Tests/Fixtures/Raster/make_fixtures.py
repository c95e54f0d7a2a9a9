"""Writes what Pillow makes of small images, for Tests/RasterTests: run in this folder, Pillow 13.0.0."""
import random

from PIL import Image

rng = random.Random(7)
source = Image.new("RGB", (37, 29))
for y in range(29):
    for x in range(37):
        noise = rng.randrange(256)
        source.putpixel((x, y), (x * 7 % 256, noise, 255 if (x // 3 + y // 5) % 2 else 0))
source.save("source.png")
for name in ("box", "bilinear", "bicubic", "lanczos"):
    for size in ((16, 12), (64, 64), (37, 11), (5, 29), (50, 20), (36, 21)):
        source.resize(size, getattr(Image.Resampling, name.upper())).save(f"{name}-{size[0]}x{size[1]}.png")
for angle in (7.3, -4.25, 133.0):
    source.rotate(angle, Image.Resampling.BICUBIC, fillcolor=(255, 250, 10)).save(f"rotated{angle}.png")
clear = Image.new("RGBA", (32, 24))
for y in range(24):
    for x in range(32):
        clear.putpixel((x, y), (rng.randrange(256), rng.randrange(256), rng.randrange(256), (y * 32 + x) % 256))
clear.save("alpha.png")
for name, color in (("white", (255, 255, 255)), ("sand", (200, 31, 7))):
    behind = Image.new("RGBA", clear.size, color)
    behind.alpha_composite(clear)
    behind.convert("RGB").save(f"alpha-on-{name}.png")
palette = clear.convert("RGB").quantize(16)
palette.save("palette.png", transparency=3)
behind = Image.new("RGBA", clear.size, "white")
behind.alpha_composite(Image.open("palette.png").convert("RGBA"))
behind.convert("RGB").save("palette-on-white.png")
source.convert("L").save("gray.png")
source.convert("L").convert("RGB").save("gray-as-rgb.png")
for name, quality in (("source", 95), ("bicubic-64x64", 95), ("bicubic-64x64", 30)):
    Image.open(f"{name}.png").save(f"{name}-{quality}.jpg", quality=quality)
