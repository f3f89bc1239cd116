#!/usr/bin/env python3
"""Draws the sheets of docs/gallery.md, each from the commands that stand below it.

    tools/gallery.py build/klein docs/gallery.md [gallery/edits.jpg ...]

A blank line between commands begins a new row. A picture that a later command takes in is shown before that command's result, not in
a place of its own, unless all results have one prompt. Needs Pillow, as the tests do (.venv/bin/python).
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

from PIL import Image, ImageDraw, ImageFont

WIDTH, GAP, ARROW, LINE, LARGEST = 1000, 14, 22, 18, 240
SHEET = re.compile(r"^!\[[^\]]*\]\(([^)]+)\)\n+```\n(.*?)^```", re.S | re.M)
INK, GREY, BORDER = "#24292f", "#8c959f", "#d0d7de"


class Command:
    """A line `klein COMMAND PROMPT FLAGS`: what goes in, what comes out, and its text in the sheet."""

    def __init__(self, line):
        program, *self.arguments = shlex.split(line)
        if program != "klein" or "--output" not in self.arguments:
            raise SystemExit(f"expected a line `klein COMMAND PROMPT ... --output FILE`, got `{line}`")
        self.prompt, self.flags = self.arguments[1], self.options()
        if "--seed" not in self.flags:
            raise SystemExit(f"expected a --seed, so that the next run draws the same, got `{line}`")
        output, seeds = self.flags["--output"][0], self.flags["--seed"]
        self.outputs = [output.replace("{seed}", seed) for seed in seeds]
        self.inputs = [v for flag in ("--image-paths", "--image", "--mask") for v in self.flags.get(flag, []) if v.endswith(".png")]

    def options(self):
        """Flag -> its values."""
        found = {}
        for word in self.arguments[2:]:
            if word.startswith("--"):
                values = found.setdefault(word, [])
            else:
                values.append(word)
        return found

    def captions(self, varied):
        """A text for every picture: the prompt, or where that is the same all over the sheet, the flag that is not."""
        if not varied:
            return [self.prompt] * len(self.outputs)
        if varied == "--seed":
            return [f"--seed {seed}" for seed in self.flags["--seed"]]
        return [f"{varied} {' '.join(self.flags[varied])}" if varied in self.flags else f"no {varied}"]


class Cell:
    """Pictures side by side, the last one behind an arrow if there are several, with a text below."""

    def __init__(self, pictures, text):
        self.pictures, self.text = pictures, text
        self.shape = sum(p.width / p.height for p in pictures)
        self.fixed = (len(pictures) > 2) * (len(pictures) - 2) * 4 + (len(pictures) > 1) * ARROW

    def width(self, height):
        return round(self.shape * height + self.fixed)

    def lines(self, font, width):
        """The text in lines that are no wider than the cell."""
        lines = [""]
        for word in self.text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and font.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


def framed(picture, width, height):
    """The picture scaled, with round corners and a thin border, on white."""
    scale, radius = 4, 8
    mask = Image.new("L", (width * scale, height * scale), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width * scale - 1, height * scale - 1), radius * scale, fill=255)
    inner = Image.new("L", mask.size, 0)
    ImageDraw.Draw(inner).rounded_rectangle((scale, scale, (width - 1) * scale - 1, (height - 1) * scale - 1), (radius - 1) * scale, fill=255)
    mask, inner = (m.resize((width, height), Image.Resampling.BOX) for m in (mask, inner))
    out = Image.composite(Image.new("RGB", (width, height), BORDER), Image.new("RGB", (width, height), "white"), mask)
    return Image.composite(picture.resize((width, height), Image.Resampling.LANCZOS), out, inner)


def draw_cell(sheet, cell, x, y, height, font):
    pen, start = ImageDraw.Draw(sheet), x
    for number, picture in enumerate(cell.pictures):
        if number and number == len(cell.pictures) - 1:
            middle = y + height // 2
            pen.line((x + 4, middle, x + ARROW - 6, middle), fill=GREY, width=2)
            pen.polygon([(x + ARROW - 10, middle - 4), (x + ARROW - 10, middle + 5), (x + ARROW - 3, middle)], fill=GREY)
            x += ARROW
        elif number:
            x += 4
        width = round(picture.width / picture.height * height)
        sheet.paste(framed(picture, width, height), (x, y))
        x += width
    for number, line in enumerate(cell.lines(font, x - start)):
        pen.text(((start + x) / 2, y + height + 5 + number * LINE), line, fill=INK, font=font, anchor="ma")


def compose(rows):
    """The sheet: rows as wide as it is, unless their pictures would then be larger than LARGEST."""
    font, placed, y = ImageFont.load_default(14), [], GAP
    for cells in rows:
        room = WIDTH - GAP * (len(cells) + 1) - sum(c.fixed for c in cells)
        height = min(LARGEST, int(room / sum(c.shape for c in cells)))
        widths = [c.width(height) for c in cells]
        x = (WIDTH - sum(widths) - GAP * (len(cells) - 1)) // 2
        for cell, width in zip(cells, widths):
            placed.append((cell, x, y, height))
            x += width + GAP
        y += height + 5 + LINE * max(len(c.lines(font, w)) for c, w in zip(cells, widths)) + GAP
    sheet = Image.new("RGB", (WIDTH, y), "white")
    for place in placed:
        draw_cell(sheet, *place, font)
    return sheet


def varied_flag(commands):
    """The flag in which commands with one prompt differ; nothing where their prompts do."""
    if len({c.prompt for c in commands}) > 1:
        return ""
    flags = dict.fromkeys(f for c in commands for f in c.flags)
    different = [f for f in flags if f != "--output" and len({tuple(c.flags.get(f, ())) for c in commands}) > 1]
    return different[0] if different else "--seed"


def draw_sheet(program, text, folder):
    rows = [[Command(line) for line in block.splitlines()] for block in re.split(r"\n\n+", text.strip())]
    commands = [c for row in rows for c in row]
    taken = [c for c in commands if any(o in other.inputs for o in c.outputs for other in commands)]
    varied = varied_flag([c for c in commands if c not in taken])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KLEIN_")}
    cells = []
    for row in rows:
        cells.append([])
        for command in row:
            subprocess.run([program, *command.arguments, "--quiet"], cwd=folder, env=environment, check=True)
            if varied or command not in taken:
                before = [] if varied else [Image.open(folder / name).convert("RGB") for name in command.inputs]
                cells[-1] += [Cell([*before, Image.open(folder / name).convert("RGB")], caption)
                              for name, caption in zip(command.outputs, command.captions("" if command in taken else varied))]
    return compose([row for row in cells if row])


def main():
    program, document = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    sheets = dict(SHEET.findall(document.read_text(encoding="utf-8")))
    for name in sys.argv[3:] or sheets:
        with tempfile.TemporaryDirectory() as folder:
            # Masks stand beside the sheets.
            for mask in (document.parent / name).parent.glob("mask*.png"):
                (pathlib.Path(folder) / mask.name).write_bytes(mask.read_bytes())
            sheet = draw_sheet(program, sheets[name], pathlib.Path(folder))
        sheet.save(document.parent / name, quality=76, subsampling=0, optimize=True, progressive=True)
        print(f"{name}: {sheet.width}x{sheet.height}, {(document.parent / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
