#!/usr/bin/env python3
"""Writes pictures.h: tiny pictures of every kind, as Pillow encodes and decodes them.

Run by hand with Pillow 13.0.0: python3 make_pictures.py > pictures.h
"""

import io
import struct
import zlib

from PIL import Image

WIDTH, HEIGHT = 5, 3


def value(x: int, y: int, channel: int) -> int:
    return (37 * x + 91 * y + 53 * channel + 11) % 256


def picture(mode: str) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    data = bytes(value(x, y, c) for y in range(HEIGHT) for x in range(WIDTH) for c in range(channels))
    return Image.frombytes(mode, (WIDTH, HEIGHT), data)


def saved(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def raw_png(depth: int, colour: int, channels: int, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """A PNG of a kind that Pillow does not write."""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for x0, y0, dx, dy in passes:
        columns = range(x0, WIDTH, dx)
        if not columns:
            continue
        for y in range(y0, HEIGHT, dy):
            bits = "".join(
                format(value(x, y, c) * 257 % (1 << depth), f"0{depth}b") for x in columns for c in range(channels)
            )
            bits += "0" * (-len(bits) % 8)
            rows += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, int(interlaced))
    data = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def pictures() -> dict[str, bytes]:
    palette = picture("RGB").quantize(7)
    moving = [picture("RGB"), picture("RGB").rotate(180)]
    return {
        "png_rgb": saved(picture("RGB"), "PNG"),
        "png_rgba": saved(picture("RGBA"), "PNG"),
        "png_palette": saved(palette, "PNG"),
        "png_palette_transparent": saved(palette, "PNG", transparency=bytes([0, 90, 255])),
        "png_one_bit": saved(picture("L").convert("1"), "PNG"),
        "png_grey": saved(picture("L"), "PNG"),
        "png_grey_alpha": saved(picture("LA"), "PNG"),
        "png_grey_two_bits": raw_png(2, 0, 1),
        "png_grey_16": raw_png(16, 0, 1),
        "png_rgb_16": raw_png(16, 2, 3),
        "png_rgba_16": raw_png(16, 6, 4),
        "png_interlaced": raw_png(8, 2, 3, interlaced=True),
        "png_colour_key": raw_png(8, 2, 3, extra=chunk(b"tRNS", struct.pack(">3H", 11, 64, 117))),
        "png_gamma": raw_png(8, 2, 3, extra=chunk(b"gAMA", struct.pack(">I", 100000))),
        "jpeg_rgb": saved(picture("RGB"), "JPEG", quality=95, subsampling=0),
        "jpeg_halved_colour": saved(picture("RGB"), "JPEG", quality=80, subsampling=2),
        "jpeg_progressive": saved(picture("RGB"), "JPEG", quality=95, progressive=True),
        "jpeg_grey": saved(picture("L"), "JPEG"),
        "jpeg_cmyk": saved(picture("CMYK"), "JPEG"),
        "webp_lossless": saved(picture("RGB"), "WEBP", lossless=True),
        "webp_lossless_alpha": saved(picture("RGBA"), "WEBP", lossless=True, exact=True),
        "webp_lossy": saved(picture("RGB"), "WEBP", quality=90),
        "webp_animated": saved(moving[0], "WEBP", save_all=True, append_images=moving[1:], lossless=True),
    }


def decoded(name: str, data: bytes) -> bytes:
    if name == "png_grey_16":  # Pillow saturates these at 255; every other 16-bit kind keeps the high byte
        return bytes(v for y in range(HEIGHT) for x in range(WIDTH) for v in [value(x, y, 0)] * 3)
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def lines(data: bytes) -> str:
    text = data.hex()
    return "\n".join(f'     "{text[i : i + 90]}"' for i in range(0, len(text), 90))


def main() -> None:
    print("#pragma once\n\n// Written by make_pictures.py with Pillow.\n// clang-format off\n")
    print("namespace klein::io::test {\n")
    print("/// A picture file and what Pillow's convert(\"RGB\") makes of it, both in hexadecimal.")
    print("struct Picture {\n  const char* name;\n  const char* file;\n  const char* rgb;\n};\n")
    print(f"inline constexpr int kWidth = {WIDTH}, kHeight = {HEIGHT};\n")
    print("inline constexpr Picture kPictures[] = {")
    for name, data in pictures().items():
        print(f'    {{"{name}",\n{lines(data)},\n{lines(decoded(name, data))}}},')
    print("};\n\n}  // namespace klein::io::test")


if __name__ == "__main__":
    main()
