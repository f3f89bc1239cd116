"""Glyph bitmaps of Noto Color Emoji, scaled to the sprite sizes, and a numpy renderer of scenes."""

from __future__ import annotations

import argparse
import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from scenes import COLOUR_NAMES, COLOURS, SIZES, Scene, Subject, load_subjects

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
PALETTE = np.array([COLOURS[name][0] for name in COLOUR_NAMES], np.float32)


def font_glyphs(subjects: list[Subject], font: Path = FONT) -> list[bytes]:
    """The PNG bitmap of every subject, from the font's CBDT table."""
    from fontTools.ttLib import TTFont

    with TTFont(font) as table:
        names, bitmaps = table.getBestCmap(), table["CBDT"].strikeData[0]
        return [bytes(bitmaps[names[s.codepoint]].imageData) for s in subjects]


def load_glyphs(source: Path, subjects: list[Subject]) -> list[bytes]:
    """Glyphs from the font or from a file that `python sprites.py FILE` wrote (for machines without the font)."""
    if source.suffix != ".npz":
        return font_glyphs(subjects, source)
    packed = np.load(source)
    ends = np.cumsum(packed["lengths"])
    data = packed["data"].tobytes()
    return [data[end - length:end] for end, length in zip(ends, packed["lengths"])]


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


def draw_background(scene: Scene) -> np.ndarray:
    """The background as float32 [height, width, 3] in 0..255."""
    one, two = PALETTE[scene.first], PALETTE[scene.second]
    across, down = (np.linspace(0, 1, edge, dtype=np.float32) for edge in scene.canvas)
    if scene.background == "gradient":
        weight = np.repeat(down[:, None], len(across), 1)
    elif scene.background == "split":
        weight = np.repeat((across[None, :] > 0.5).astype(np.float32), len(down), 0)
    else:
        weight = np.zeros((len(down), len(across)), np.float32)
    return one * (1 - weight[..., None]) + two * weight[..., None]


def draw_scene(scene: Scene, atlas: dict[str, np.ndarray]) -> np.ndarray:
    """The scene as float32 [height, width, 3] in 0..255."""
    picture = draw_background(scene)
    for sprite in scene.sprites:
        pixels = atlas[list(SIZES)[sprite.size]][sprite.subject].astype(np.float32)
        area = picture[sprite.top:sprite.top + sprite.side, sprite.left:sprite.left + sprite.side]
        area[:] = area * (1 - pixels[..., 3:] / 255) + pixels[..., :3]
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack the glyphs that the subjects need into one small file.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--font", type=Path, default=FONT)
    args = parser.parse_args()
    glyphs = font_glyphs(load_subjects(), args.font)
    np.savez(args.out, lengths=[len(g) for g in glyphs], data=np.frombuffer(b"".join(glyphs), np.uint8))


if __name__ == "__main__":
    main()
