"""Writes what prepare_emoji.py makes, for Tests/DatasetsTests. Run in this folder with Python 3.11, Pillow 13.0.0, fontTools.

six.ttf: a subset of Noto Color Emoji (SIL Open Font License 1.1) with six emoji of the data set and five that it leaves out.
six/: the script's lists and plain images of that font.
pictures/, styled/: another style, made here.
noto.json: of Debian 12's whole font: FNV-1a (64 bits) of the file, the lists and the pixels of all plain images in order.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from fontTools import subset
from PIL import Image, ImageDraw

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "tools/base-model/prepare_emoji.py"
# Left out: number sign (below U+2000), regional indicator, emoji modifier, combining keycap (no caption prefix), Unicode 15.
POINTS = [0x23, 0x203C, 0x1F1E6, 0x1F3FB, 0x1F40D, 0x1F600, 0x1F680, 0x1F9CC, 0x2764, 0x1FAE8, 0x1FAF8]


def fingerprint(*parts):
    value = 0xCBF29CE484222325
    for part in parts:
        for byte in part:
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def run(font, out):
    subprocess.run([sys.executable, SCRIPT, font, out], check=True)


# The name table stays: it carries the copyright and licence.
options = subset.Options(layout_features=[], notdef_outline=True, drop_tables=["GSUB", "vmtx", "vhea"])
font = subset.load_font(FONT, options)
subsetter = subset.Subsetter(options)
subsetter.populate(unicodes=POINTS)
subsetter.subset(font)
subset.save_font(font, "six.ttf", options)
with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder)
    run("six.ttf", out / "six")
    for image in (out / "six/images").glob("*_ref*"):
        image.unlink()
    shutil.rmtree("six", ignore_errors=True)
    shutil.copytree(out / "six", "six")
    run(FONT, out / "noto")
    captions = (out / "noto/captions.json").read_bytes()
    pixels = [Image.open(out / "noto/images" / name).convert("RGB").tobytes() for name in json.loads(captions)]
    pathlib.Path("noto.json").write_text(json.dumps({
        "font": fingerprint(pathlib.Path(FONT).read_bytes()),
        "emojiCount": len(json.loads(captions)),
        "captions": fingerprint(captions),
        "references": fingerprint((out / "noto/prompt2img.json").read_bytes()),
        "train": fingerprint((out / "noto/train.txt").read_bytes()),
        "test": fingerprint((out / "noto/test.txt").read_bytes()),
        "plainPixels": fingerprint(*pixels),
    }, indent=1) + "\n")

# pictures/: another style's drawings of three of the six, one of a sequence, and one of a name that no set has; styled/: the
# plain images that are to be made of them, by Pillow.
shutil.rmtree("pictures", ignore_errors=True)
shutil.rmtree("styled", ignore_errors=True)
for folder in ("pictures", "styled"):
    pathlib.Path(folder).mkdir()
for index, (name, width, height) in enumerate([("1F600", 64, 64), ("1F680", 64, 48), ("2764", 100, 160)]):
    picture = Image.new("RGBA", (width, height))
    drawing = ImageDraw.Draw(picture)
    drawing.ellipse((2, 4, width - 6, height - 3), fill=(230 - 60 * index, 40 + 70 * index, 90, 255))
    drawing.polygon([(9, 9), (width // 2, height - 9), (width - 9, 20)], fill=(30, 200, 50 * index, 140))
    picture.save(f"pictures/{name}.png", optimize=True)
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    longer = max(width, height)
    sides = [(side * 128 + longer // 2) // longer for side in (width, height)]
    square = Image.new("RGB", (144, 144), "white")
    square.paste(
        white.convert("RGB").resize(sides, Image.Resampling.LANCZOS), tuple((144 - side) // 2 for side in sides))
    square.resize((64, 64), Image.Resampling.LANCZOS).save(f"styled/{int(name, 16):05x}.png", optimize=True)
for name in ("1F1E6-1F1E8", "1F1E6"):
    Image.new("RGBA", (8, 8), "red").save(f"pictures/{name}.png")
