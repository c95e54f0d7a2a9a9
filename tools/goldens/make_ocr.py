"""Pictures of text, and what Python's Levenshtein package says of texts that were read: Tests/Fixtures/ocr.

Needs Pillow, Levenshtein and the DejaVu fonts.
"""
import json
import pathlib

import Levenshtein
from PIL import Image, ImageDraw, ImageFont

OUT = pathlib.Path(__file__).resolve().parents[2] / "Tests/Fixtures/ocr"
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans{}.ttf"


def score(prompt, read):
    """`OcrScorer` of Adv-GRPO's adv_grpo/ocr.py, with what was read given."""
    wanted = prompt.split('"')[1].replace(" ", "").lower()
    read = read.replace(" ", "").lower()
    distance = 0 if wanted in read else Levenshtein.distance(read, wanted)
    return 1 - min(distance, len(wanted)) / len(wanted)


def picture(name, lines, size=(256, 256), background="white", color="black", bold=""):
    image = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(image)
    for text, x, y, height in lines:
        draw.text((x, y), text, fill=color, font=ImageFont.truetype(FONT.format(bold), height))
    image.save(OUT / f"{name}.png", optimize=True)


OUT.mkdir(exist_ok=True)
picture("shop", [("Open 24 hours", 16, 100, 32)])
picture("sign", [("WELCOME", 24, 60, 40), ("home", 90, 150, 40)], background=(20, 60, 120), color="white", bold="-Bold")
picture("blank", [])
cases = [
    ('a shop with "Open 24 hours"', "OPEN 24 HOURS"), ('a shop with "Open 24 hours"', "Open 2A hour"),
    ('a sign "WELCOME"', "xx welcome home"), ('a sign "WELCOME"', ""), ('a sign "WELCOME"', "come well, all of you here"),
    ('"Grüße" on a card', "Grusse"), ('"a" and "b"', "b"), ('only one " quote', "quo"), ('"naïve café"', "NAÏVE CAFE"),
]
(OUT / "scores.json").write_text(json.dumps(
    [{"prompt": prompt, "read": read, "score": score(prompt, read)} for prompt, read in cases],
    ensure_ascii=False, indent=1) + "\n")
