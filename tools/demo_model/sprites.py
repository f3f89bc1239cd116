"""Glyph bitmaps of Noto Color Emoji, scaled to the sprite sizes, and a numpy renderer of pictures.

Run as a program it makes glyphs.npz anew, the bitmaps of the subjects as the font holds them: `python sprites.py FONT` (needs fonttools).
"""

from __future__ import annotations

import argparse
import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from scenes import COLOUR_NAMES, COLOURS, HERE, SIZES, Subject, load_subjects

#: from Debian 12's fonts-noto-color-emoji
GLYPHS = HERE / "glyphs.npz"
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
PALETTE = np.array([COLOURS[name][0] for name in COLOUR_NAMES], np.float32)
SIDES = [side for side, _ in SIZES.values()]

#: sRGB change (0..1) of the background for one standard deviation of the two noise channels that steer it
SHADES = ((0.020, 0.020, 0.020), (0.012, 0.0, -0.012))

#: one standard deviation of the two that steer the pose: lean (radians of tilt about a point below the middle) and growth (share of
#: the size, away from the ground); the pivot is this share of the sprite's side below its middle
LEAN, GROWTH, PIVOT = 0.07, 0.04, 0.2


def font_glyphs(subjects: list[Subject], font: Path = FONT) -> list[bytes]:
    """The PNG bitmap of every subject, from the font's CBDT table."""
    from fontTools.ttLib import TTFont

    with TTFont(font) as table:
        names, bitmaps = table.getBestCmap(), table["CBDT"].strikeData[0]
        return [bytes(bitmaps[names[s.codepoint]].imageData) for s in subjects]


def load_glyphs(subjects: list[Subject]) -> list[bytes]:
    """The PNG bitmap of every subject, from glyphs.npz."""
    with np.load(GLYPHS) as packed:
        codepoints, ends, data = packed["codepoints"].tolist(), np.cumsum(packed["lengths"]), packed["data"].tobytes()
    if codepoints != [s.codepoint for s in subjects]:
        raise SystemExit(f"{GLYPHS}: expected the glyphs of subjects.tsv; make it anew with `python sprites.py {FONT}`")
    return [data[end - length:end] for end, length in zip(ends, np.diff(ends, prepend=0))]


def scale_glyph(png: bytes, side: int) -> np.ndarray:
    """A glyph cut to what it shows, scaled to fit a square and centred: uint8 RGBA [side, side, 4], premultiplied."""
    glyph = Image.open(io.BytesIO(png)).convert("RGBA")
    glyph = glyph.crop(glyph.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox())
    scale = side / max(glyph.size)
    width, height = (max(1, round(edge * scale)) for edge in glyph.size)
    glyph = glyph.resize((width, height), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side))
    square.paste(glyph, ((side - width) // 2, (side - height) // 2))
    pixels = np.asarray(square, np.float32)
    return np.concatenate([pixels[..., :3] * pixels[..., 3:] / 255, pixels[..., 3:]], -1).round().astype(np.uint8)


def build_atlas(glyphs: list[bytes]) -> dict[str, np.ndarray]:
    """Size name -> premultiplied sprites [subjects, side, side, 4] uint8."""
    with ThreadPoolExecutor() as pool:
        return {name: np.stack(list(pool.map(partial(scale_glyph, side=side), glyphs))) for name, (side, _) in SIZES.items()}


def placement(size: int, left: int, top: int, lean: float, growth: float) -> tuple[float, ...]:
    """Pillow's affine map from a canvas to a posed sprite that has an empty pixel all around."""
    own, tilt, larger = SIDES[size], np.clip(lean, -2, 2) * LEAN, np.clip(growth, -2, 2) * GROWTH
    x, y = left + own / 2 - tilt * PIVOT * own, top + own / 2 - larger * PIVOT * own
    cos, sin = np.cos(tilt) / (1 + larger), np.sin(tilt) / (1 + larger)
    return (cos, -sin, own / 2 + 1 - cos * x + sin * y, sin, cos, own / 2 + 1 - sin * x - cos * y)


class PlainRenderer:
    """Draws pictures from the rows and steers of `edits.picture_row`, as gpu_scenes.Renderer does."""

    def __init__(self):
        self.glyphs, self.planes = load_glyphs(load_subjects()), {}

    def sprite(self, subject: int, size: int) -> list[Image.Image]:
        """Premultiplied red, green, blue and alpha, with an empty pixel all around, which bilinear sampling fades into."""
        if (subject, size) not in self.planes:
            pixels = np.pad(scale_glyph(self.glyphs[subject], SIDES[size]).astype(np.float32), ((1, 1), (1, 1), (0, 0)))
            self.planes[subject, size] = [Image.fromarray(plane) for plane in np.ascontiguousarray(pixels.transpose(2, 0, 1))]
        return self.planes[subject, size]

    def layer(self, subject: int, size: int, left: int, top: int, lean: float, growth: float, canvas) -> np.ndarray:
        """The sprite alone: premultiplied colours in 0..255 and alpha in 0..1, [height, width, 4]."""
        turn = placement(size, left, top, lean, growth)
        planes = [p.transform(tuple(canvas), Image.Transform.AFFINE, turn, Image.Resampling.BILINEAR) for p in self.sprite(subject, size)]
        return np.stack(planes, -1) / np.array([1, 1, 1, 255], np.float32)

    def background(self, row, steers, canvas) -> np.ndarray:
        """The background as float32 [height, width, 3] in 0..255."""
        change = np.clip(steers[:2], -2, 2) @ np.array(SHADES) * 255
        first, second = (np.clip(PALETTE[c] + change, 0, 255).astype(np.float32) for c in row[2:4])
        across, down = (np.linspace(0, 1, edge, dtype=np.float32) for edge in canvas)
        flat = np.zeros((len(down), len(across), 1), np.float32)
        weight = (flat, flat + down[:, None, None], flat + (across > 0.5)[None, :, None])[row[1]]
        return first * (1 - weight) + second * weight

    def draw(self, row, steers, canvas) -> np.ndarray:
        """The picture as float32 [height, width, 3] in 0..255."""
        picture = self.background(row, steers, canvas)
        for slot in range(row[0]):
            layer = self.layer(*row[4 + 4 * slot:8 + 4 * slot], *steers[2 + 2 * slot:4 + 2 * slot], canvas)
            picture = picture * (1 - layer[..., 3:]) + layer[..., :3]
        return picture


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack the glyphs that the subjects need into one small file.")
    parser.add_argument("font", type=Path, nargs="?", default=FONT)
    subjects, font = load_subjects(), parser.parse_args().font
    glyphs = font_glyphs(subjects, font)
    np.savez(GLYPHS, codepoints=[s.codepoint for s in subjects], lengths=[len(g) for g in glyphs],
             data=np.frombuffer(b"".join(glyphs), np.uint8))


if __name__ == "__main__":
    main()
