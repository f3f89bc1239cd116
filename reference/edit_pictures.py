"""The pictures that edits start from: tests/fixtures/edit/pictures. Small PNG files of few colours, some with awkward modes."""

import numpy as np
import torch
from PIL import Image

from common import FIXTURES, Rng

FOLDER = FIXTURES / "edit"
PICTURES, PREPARED = FOLDER / "pictures", FOLDER / "prepared"

# name: (mode, width, height, size of a block of one colour)
SHAPES = {
    "near": ("RGB", 77, 70, 5),
    "wide": ("RGB", 100, 75, 5),
    "tall": ("RGB", 65, 130, 7),
    "square": ("RGB", 64, 64, 4),
    "odd": ("RGB", 90, 70, 6),
    "large": ("RGB", 1300, 900, 100),
    "alpha": ("RGBA", 84, 67, 6),
    "palette": ("P", 64, 71, 5),
    "grey": ("L", 70, 66, 4),
    "grey_alpha": ("LA", 75, 64, 6),
    "large_alpha": ("RGBA", 1150, 940, 100),
    "large_grey": ("L", 1200, 890, 100),
    "large_palette": ("P", 1100, 970, 40),
    "scene": ("RGB", 70, 53, 3),
    "yard": ("RGB", 58, 45, 3),
    "sticker": ("RGBA", 61, 40, 3),
    "exact": ("RGB", 48, 32, 2),
}


def blocks(name, width, height, block, channels):
    """Random levels in blocks, with a slope in each direction so that turned or mirrored pictures differ."""
    rng = Rng(f"edit/{name}")
    rows, columns = -(-height // block), -(-width // block)
    levels = rng.integers(rows, columns, channels, high=6) * 32
    slope = torch.arange(rows)[:, None, None] * 40 // rows + torch.arange(columns)[None, :, None] * 40 // columns
    small = (levels + slope).clamp(0, 255).to(torch.uint8).numpy()
    return small.repeat(block, 0).repeat(block, 1)[:height, :width]


def picture(name):
    mode, width, height, block = SHAPES[name]
    channels = {"RGB": 3, "RGBA": 4, "P": 3, "L": 1, "LA": 2}[mode]
    pixels = blocks(name, width, height, block, channels)
    if mode == "P":
        return Image.fromarray(pixels).quantize(16, method=Image.Quantize.MEDIANCUT)
    return Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)


def turned():
    """Lies on its side; the EXIF orientation says how to put it up."""
    image = Image.fromarray(blocks("turned", 66, 95, 5, 3))
    image.getexif()[0x0112] = 6
    return image


def soft_mask(name, width, height, box, softness):
    """White inside the box, black far away, greys between."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    left, top, right, bottom = box
    outside = np.maximum(np.maximum(left - x, x - (right - 1)), np.maximum(top - y, y - (bottom - 1)))
    level = 255 - np.clip(outside, 0, softness + 1) * 255 // (softness + 1) if softness else np.where(outside > 0, 0, 255)
    return Image.fromarray(level.astype(np.uint8))


MASKS = {
    "scene_soft": (70, 53, (33, 15, 48, 38), 12),
    "yard_small": (58, 45, (24, 17, 42, 30), 4),
    "yard_soft": (58, 45, (14, 0, 40, 25), 9),
    "yard_high": (58, 45, (26, 0, 35, 45), 2),  # as high as the picture: no crop has the aspect of the result
    "sticker_corner": (61, 40, (0, 18, 33, 40), 0),
}


def path(name):
    return PICTURES / f"{name}.png"


def file_of(name):
    """As a configuration names it."""
    return f"pictures/{name}.png"


def opened(name):
    return Image.open(path(name))


def make():
    PICTURES.mkdir(parents=True)
    images = {name: picture(name) for name in SHAPES} | {"turned": turned()}
    images |= {name: soft_mask(name, *shape) for name, shape in MASKS.items()}
    for name, image in images.items():
        image.save(path(name), optimize=True, **({"exif": image.getexif()} if name == "turned" else {}))
        path(name).chmod(0o644)


def keep_prepared(tensor, name):
    """What a pipeline gives to the autoencoder, -1..1 or 0..1 [1,C,H,W], as a PNG of its 8-bit levels; returns the name."""
    scaled = tensor[0].float() * 0.5 + 0.5 if tensor.shape[1] == 3 else tensor[0].float()
    levels = (scaled * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
    PREPARED.mkdir(parents=True, exist_ok=True)
    target = PREPARED / f"{name}_{levels.shape[1]}x{levels.shape[0]}.png"
    if target.exists():
        if not np.array_equal(np.asarray(Image.open(target)), levels):
            raise ValueError(f"{target} would be two pictures")
    else:
        Image.fromarray(levels).save(target, optimize=True)
        target.chmod(0o644)
    return f"prepared/{target.name}"
