"""Picture files of every kind, and what Pillow and diffusers' image processors make of pictures.

`files/` holds the pictures; `files.safetensors` for each `<file>.rgb` U8 [h, w, 3], `.grey` [h, w],
`.alpha` [h, w] where there is any, and `.scaled` [7, 9, 3], the picture at 9 x 7 in its own mode.
`pixels.json` lists computations on pattern(), with the SHA-256 of the resulting bytes.
"""

import hashlib
import io
import json
import struct
import zlib

import numpy as np
import torch
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from PIL import Image, ImageOps
from safetensors.torch import save_file

from common import FIXTURES

PART = "pictures"
ORIENTATION = 0x0112
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
FILTERS = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
           "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def pattern(mode, width, height):
    """The picture that tests/support/pictures.h makes too."""
    y, x, c = np.indices((height, width, MODES[mode]))
    values = ((x * 37 + y * 91 + c * 53 + x * y // 7 + 11) % 256).astype(np.uint8)
    return Image.fromarray(values[:, :, 0] if mode == "L" else values, mode)


def masked(width, height, boxes):
    """Black with (left, top, right, bottom, value) painted one after the other."""
    mask = np.zeros((height, width), np.uint8)
    for left, top, right, bottom, value in boxes:
        mask[top:bottom, left:right] = value
    return Image.fromarray(mask, "L")


def sha(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def resizes():
    cases = []
    sizes = [((23, 17), (40, 31)), ((23, 17), (7, 5)), ((64, 48), (63, 49)), ((64, 48), (64, 20)), ((64, 48), (31, 48)),
             ((5, 3), (200, 1)), ((1, 1), (9, 8)), ((300, 2), (1, 2)), ((211, 97), (13, 89)), ((1200, 900), (257, 301))]
    for mode in MODES:
        for (width, height), target in sizes:
            for name, value in FILTERS.items():
                out = pattern(mode, width, height).resize(target, value)
                cases.append({"mode": mode, "from": [width, height], "to": target, "filter": name, "sha256": sha(out)})
    boxes = [(1.25, 0, 20.5, 16.75), (3, 2, 20, 15), (0, 0, 23, 0), (0, 17, 23, 17), (0, 0, 0, 17), (23, 0, 23, 17)]
    for mode in MODES:
        for box in boxes:
            for name, value in FILTERS.items():
                if name == "nearest" and (box[0] == 23 or box[1] == 17):  # pixels that are not there
                    continue
                out = pattern(mode, 23, 17).resize((31, 12), value, box)
                cases.append({"mode": mode, "from": [23, 17], "to": [31, 12], "filter": name, "box": box,
                              "sha256": sha(out)})
    return cases


def references():
    """Flux2KleinPipeline.__call__, its lines on `image`."""
    cases = []
    processor = Flux2ImageProcessor(vae_scale_factor=16)
    for mode in MODES:
        for width, height in ((64, 64), (100, 77), (64, 512), (1024, 1024), (1025, 1024), (1300, 1111), (3000, 400)):
            image = processor.check_image_input(pattern(mode, width, height))
            if width * height > 1024 * 1024:
                image = processor._resize_to_target_area(image, 1024 * 1024)
            wide, high = image.width // 16 * 16, image.height // 16 * 16
            out = to_image(processor.preprocess(image, height=high, width=wide, resize_mode="crop"))
            cases.append({"mode": mode, "from": [width, height], "to": out.size, "sha256": sha(out)})
    return cases


def covers():
    cases = []
    for mode in MODES:
        for size in ((90, 61), (61, 90), (64, 48), (17, 300)):
            for target in ((64, 48), (48, 64), (128, 16), (96, 96)):
                out = ImageOps.fit(pattern(mode, *size), target, Image.Resampling.LANCZOS).convert("RGB")
                cases.append({"mode": mode, "from": size, "to": target, "sha256": sha(out)})
    return cases


def to_image(tensor):
    """What a processor returned as -1..1 (colour) or 0..1 (grey), in bytes again."""
    array = tensor[0].permute(1, 2, 0).double().numpy()
    if array.shape[2] == 1:
        return Image.fromarray(np.rint(array[:, :, 0] * 255).astype(np.uint8), "L")
    return Image.fromarray(np.rint((array + 1) * 127.5).astype(np.uint8), "RGB")


def inpaint(mode, size, boxes, padding, soft):
    """Flux2KleinInpaintPipeline.__call__, its lines on `image` and `mask_image`."""
    images = Flux2ImageProcessor(vae_scale_factor=16)
    masks = Flux2ImageProcessor(vae_scale_factor=16, do_normalize=False, do_binarize=not soft, do_convert_rgb=False,
                                do_convert_grayscale=True)
    image, mask = pattern(mode, *size), masked(*size, boxes)
    if size[0] * size[1] > 1024 * 1024:
        scale = (1024 * 1024 / (size[0] * size[1]))**0.5
        image = images.resize(image, int(size[1] * scale), int(size[0] * scale))
    width, height = image.width // 16 * 16, image.height // 16 * 16
    crop = None if padding is None else masks.get_crop_region(mask, width, height, pad=padding)
    how = {"crops_coords": crop, "resize_mode": "default" if padding is None else "fill"}
    picture = to_image(images.preprocess(image, height, width, **how))
    grey = to_image(masks.preprocess(mask, height=height, width=width, **how))
    return {"mode": mode, "from": size, "boxes": boxes, "padding": padding, "soft": soft, "to": [width, height],
            "crop": crop, "picture": sha(picture), "mask": sha(grey)}


def inpaints():
    middle = [(30, 20, 61, 45, 255)]
    uneven = [(3, 5, 40, 11, 255), (10, 30, 12, 70, 90), (50, 40, 56, 44, 140)]
    corner = [(0, 0, 9, 4, 255)]
    edge = [(95, 60, 100, 80, 200)]
    cases = [inpaint("RGB", (1300, 1100), [(200, 100, 900, 777, 255)], None, soft) for soft in (False, True)]
    for mode in ("RGB", "RGBA"):
        for soft in (False, True):
            for padding in (None, 0, 7, 40, 500):
                cases += [inpaint(mode, (100, 80), boxes, padding, soft) for boxes in (middle, uneven, corner, edge)]
            cases.append(inpaint(mode, (70, 213), [(5, 100, 69, 120, 255)], 3, soft))
            cases.append(inpaint(mode, (213, 70), [(100, 5, 104, 69, 255)], 3, soft))
    return cases


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def oriented(value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def raw_exif(order, kind, value, count=1):
    """A TIFF header and one entry: kind 3 is SHORT, 4 LONG."""
    number = struct.pack(order + ("HH" if kind == 3 else "I"), *([value, 0] if kind == 3 else [value]))
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IHHHI", 8, 1, ORIENTATION, kind, count) + \
        number + struct.pack(order + "I", 0)


def with_exif(data, exif, behind_pixels=False):
    """A PNG with an eXIf chunk behind IHDR or before IEND."""
    at = len(data) - 12 if behind_pixels else 33
    return data[:at] + chunk(b"eXIf", exif) + data[at:]


def jpeg_with_exif(data, exif):
    """A JPEG with an APP1 segment of the prefix and `exif`."""
    segment = b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def files():
    rgb, rgba = pattern("RGB", 24, 16), pattern("RGBA", 24, 16)
    grey = pattern("L", 24, 16)
    palette = rgb.quantize(11)
    smooth = pattern("RGB", 4, 3).resize((24, 16), Image.Resampling.BICUBIC)
    png, jpeg = encoded(rgb, "PNG"), encoded(smooth, "JPEG", quality=95, subsampling=0)
    result = {
        "rgb.png": png, "rgba.png": encoded(rgba, "PNG"), "grey.png": encoded(grey, "PNG"),
        "grey_alpha.png": encoded(pattern("LA", 24, 16), "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "palette_alpha.png": encoded(palette, "PNG", transparency=bytes([0, 90, 255, 200])),
        "palette_two_colours.png": encoded(rgb.quantize(2), "PNG", bits=1),
        "one_bit.png": encoded(grey.convert("1"), "PNG"),
        "cmyk.jpg": encoded(smooth.convert("CMYK"), "JPEG", quality=95),
        "grey.jpg": encoded(smooth.convert("L"), "JPEG", quality=95),
        "progressive.jpg": encoded(smooth, "JPEG", quality=95, progressive=True),
        "rgb.webp": encoded(rgb, "WEBP", lossless=True),
        "rgba.webp": encoded(rgba, "WEBP", lossless=True, exact=True),
        "big_endian.jpg": jpeg_with_exif(jpeg, raw_exif(">", 3, 8)),
        "long_number.jpg": jpeg_with_exif(jpeg, raw_exif("<", 4, 3)),
        "too_large_orientation.jpg": jpeg_with_exif(jpeg, raw_exif("<", 3, 9)),
        "cut_exif.jpg": jpeg_with_exif(jpeg, raw_exif("<", 3, 6)[:12]),
        "no_exif.jpg": jpeg_with_exif(jpeg, b"\xff" * 40),
        "behind_pixels.png": with_exif(png, raw_exif(">", 3, 5), behind_pixels=True),
        "orientation_6.webp": encoded(rgb, "WEBP", lossless=True, exif=oriented(6)),
        "orientation_7.webp": encoded(rgba, "WEBP", lossless=True, exact=True, exif=oriented(7)),
    }
    result |= {f"orientation_{value}.jpg": encoded(smooth, "JPEG", quality=95, subsampling=0, exif=oriented(value))
               for value in range(1, 9)}
    result |= {f"orientation_{value}.png": with_exif(png, raw_exif("<", 3, value)) for value in range(1, 9)}
    return result


def opened(data):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


def decoded(name, data):
    image = opened(data)
    tensors = {"rgb": image.convert("RGB"), "grey": image.convert("L"),
               "scaled": image.resize((9, 7), Image.Resampling.LANCZOS).convert("RGB")}
    if image.mode in ("LA", "RGBA") or (image.mode == "P" and "transparency" in image.info):
        tensors["alpha"] = image.convert("RGBA").getchannel("A")
    if image.mode == "CMYK":  # our own mode is RGB by then
        tensors["grey"] = image.convert("RGB").convert("L")
        tensors["scaled"] = image.convert("RGB").resize((9, 7), Image.Resampling.LANCZOS)
    return {f"{name}.{kind}": torch.from_numpy(np.array(value)) for kind, value in tensors.items()}


def make():
    folder = FIXTURES / PART / "files"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, data in files().items():
        (folder / name).write_bytes(data)
        tensors |= decoded(name, data)
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(FIXTURES / PART / "files.safetensors"))
    (FIXTURES / PART / "files.safetensors").chmod(0o644)
    cases = {"resize": resizes(), "reference": references(), "cover": covers(), "inpaint": inpaints()}
    lists = [f'"{name}": [\n' + ",\n".join(map(json.dumps, value)) + "\n]" for name, value in cases.items()]
    (FIXTURES / PART / "pixels.json").write_text("{\n" + ",\n".join(lists) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    make()
