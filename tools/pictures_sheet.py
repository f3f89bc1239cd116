#!/usr/bin/env python3
"""Draws docs/pictures.png: what pictures in do, by the demo model.

    tools/pictures_sheet.py build/klein docs/pictures.png

Needs Pillow, as the tests do (.venv/bin/python).
"""

import pathlib
import subprocess
import sys
import tempfile
import textwrap

from PIL import Image, ImageDraw, ImageFont

APPLE, PEAR = "a red apple on a green background", "a pear on a green background"
EDIT = ("edit", "--seed", "2", "--image-paths")
ROWS = [
    [("image 1", ("generate", APPLE, "--seed", "1")),
     ("change the background to blue", (*EDIT, "0.png")),
     ("replace the apple by a pear", (*EDIT, "0.png")),
     ("add a banana", (*EDIT, "0.png"))],
    [("image 2", ("generate", "a dog on a yellow background", "--seed", "1")),
     ("make the dog smaller", (*EDIT, "4.png")),
     ("put image 1 left of image 2", (*EDIT, "0.png", "4.png")),
     ("the subject of image 2 on the background of image 1", (*EDIT, "0.png", "4.png"))],
    [("inpaint: a pear, the middle masked", ("inpaint", PEAR, "--image", "0.png", "--mask", "mask.png", "--preserve", "blend", "--seed", "5")),
     ("outpaint: 64 pixels on both sides", ("inpaint", APPLE, "--image", "0.png", "--expand", "64,0,64,0", "--seed", "5")),
     ("img2img: an apple from image 2, strength 0.9",
      ("generate", APPLE, "--image", "4.png", "0.9", "--steps", "20", "--seed", "6"))],
]
SIDE, GAP, TEXT = 256, 16, 40


def main():
    program, target = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    sheet = Image.new("RGB", (4 * SIDE + 5 * GAP, len(ROWS) * (SIDE + TEXT) + GAP), "white")
    pen, font, count = ImageDraw.Draw(sheet), ImageFont.load_default(13), 0
    with tempfile.TemporaryDirectory() as folder:
        mask = Image.new("L", (SIDE, SIDE), 0)
        mask.paste(255, (32, 32, SIDE - 32, SIDE - 32))
        mask.save(f"{folder}/mask.png")
        for row, cases in enumerate(ROWS):
            x, y = GAP, GAP + row * (SIDE + TEXT)
            for text, (command, *flags) in cases:
                prompt = (text,) if command == "edit" else ()
                subprocess.run([program, command, *prompt, *flags, "--model", "demo", "--output", f"{count}.png", "--quiet"],
                               cwd=folder, check=True)
                picture = Image.open(f"{folder}/{count}.png").convert("RGB")
                sheet.paste(picture, (x, y))
                for line, words in enumerate(textwrap.wrap(text, 38)):
                    pen.text((x, y + SIDE + 2 + 14 * line), words, fill="black", font=font)
                x, count = x + picture.width + GAP, count + 1
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main()
