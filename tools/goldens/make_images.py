"""Tests/Fixtures/images: small files as Pillow writes them, and beside each NAME.FORMAT the pixels that Pillow reads, NAME.FORMAT.rgb
(upright, transparency on white), with the size in sizes.json."""
import json

import numpy as np
from common import FIXTURES
from PIL import Image, ImageOps

FOLDER = FIXTURES / "images"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    y, x = np.mgrid[0:19, 0:27]
    rgb = np.stack([x * 9, y * 13, 128 + 100 * np.sin(x / 3 + y / 5)], -1).astype(np.uint8)
    picture = Image.fromarray(rgb)
    clear = Image.fromarray(np.concatenate([rgb, (x * y % 256).astype(np.uint8)[..., None]], -1))
    for number in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        picture.save(FOLDER / f"turned-{number}.jpg", exif=exif)
        picture.save(FOLDER / f"turned-{number}.png", exif=exif)
    exif[0x0112] = 6
    for name, image, options in [
        ("gray.jpg", picture.convert("L"), {}), ("print.jpg", picture.convert("CMYK"), {}), ("full.jpg", picture, {"subsampling": 0}),
        ("half.jpg", picture, {"subsampling": 1}), ("progressive.jpg", picture, {"progressive": True}), ("rgb.jpg", picture, {"keep_rgb": True}),
        ("lossy.webp", picture, {}), ("lossless.webp", picture, {"lossless": True}), ("clear.webp", clear, {"lossless": True}),
        ("clear-lossy.webp", clear, {}), ("turned.webp", picture, {"exif": exif}),
    ]:
        image.save(FOLDER / name, **options)
    sizes = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in (".rgb", ".json") or path.stem == "moving":
            continue
        image = ImageOps.exif_transpose(Image.open(path))
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
        sizes[path.name] = image.size
        path.with_name(path.name + ".rgb").write_bytes(image.tobytes())
    (FOLDER / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")
    picture.save(FOLDER / "moving.webp", save_all=True, append_images=[picture.rotate(90)])


if __name__ == "__main__":
    main()
