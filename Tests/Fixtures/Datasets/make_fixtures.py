"""Writes what prepare_emoji.py makes, for Tests/DatasetsTests. Run in this folder with Python 3.11, Pillow 13.0.0, fontTools.

six.ttf: a subset of Noto Color Emoji (SIL Open Font License 1.1) with six emoji of the data set and five that it leaves out.
six/: the script's lists and plain images of that font.
noto.json: of Debian 12's whole font: FNV-1a (64 bits) of the file, the lists and the pixels of all plain images in order.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from fontTools import subset
from PIL import Image

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
