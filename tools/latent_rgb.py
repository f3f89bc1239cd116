#!/usr/bin/env python3
"""Fits the linear map from an autoencoder's latents to colours that previews are drawn with.

Usage: latent_rgb.py MODEL [PICTURES] [--out FILE] [--count N] [--seed N]
MODEL is a folder in diffusers' layout (or one with its autoencoder alone), PICTURES a folder of pictures; without it
tools/demo_model draws random scenes. Each latent, a mean of the autoencoder before normalising and patchifying, is set against
its 8 x 8 pixels' mean colour, -1 to 1. Every fourth picture is kept from the fit, to judge it by. Needs diffusers.
"""

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np

ABOUT = ("Linear map from the autoencoder's latents (un-normalised and unpatchified) to RGB in [-1, 1], "
         "fitted by least squares; R^2 of {r2} on {pictures} pictures that the fit did not see.")
DIGITS = 5


def cells(picture, side=8):
    """Mean colours [H / side * W / side, 3] of a picture [H, W, 3] in 0..255, as -1..1."""
    height, width = picture.shape[:2]
    blocks = picture.astype(np.float64).reshape(height // side, side, width // side, side, 3)
    return (blocks.mean((1, 3)) / 127.5 - 1).reshape(-1, 3)


def fit(latents, colours):
    """Weight [C, 3] and bias [3] of the least squares over rows of latents [N, C] and colours [N, 3]."""
    solution = np.linalg.lstsq(np.hstack([latents, np.ones((len(latents), 1))]), colours, rcond=None)[0]
    return solution[:-1], solution[-1]


def explained(latents, colours, weight, bias):
    """R^2 of each colour, and of all together."""
    error = ((latents @ weight + bias - colours) ** 2).sum(0)
    spread = ((colours - colours.mean(0)) ** 2).sum(0)
    return [*(1 - error / spread), 1 - error.sum() / spread.sum()]


def shortened(values):
    return [shortened(v) for v in values] if np.ndim(values) else float(f"{values:.{DIGITS}g}")


def write(path, weight, bias, r2, pictures):
    """A row of the weight is a line."""
    rows = ",\n".join("  " + json.dumps(row) for row in shortened(weight))
    about = json.dumps(ABOUT.format(r2=f"{r2:.4f}", pictures=pictures))
    path.write_text(f'{{\n "about": {about},\n "weight": [\n{rows}\n ],\n "bias": {json.dumps(shortened(bias))}\n}}\n')


def scenes(count, seed):
    """Random scenes of the demo model, on all its canvases."""
    sys.path.insert(0, str(Path(__file__).resolve().parent / "demo_model"))
    from edits import Picture, picture_row
    from scenes import CANVASES, load_subjects, random_scene
    from sprites import PlainRenderer

    rng, renderer = random.Random(seed), PlainRenderer()
    chosen = rng.sample(range(len(load_subjects())), 40)
    for i in range(count):
        canvas = CANVASES[i % len(CANVASES)]
        row, steers = picture_row(Picture(random_scene(rng, len(chosen), canvas=canvas)))
        row[4], row[8] = chosen[row[4]], chosen[row[8]]
        yield renderer.draw(row, steers, canvas)


def files(folder, count):
    """Pictures of a folder, cut to multiples of 16."""
    from PIL import Image

    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    for path in paths[:count]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        yield pixels[:pixels.shape[0] // 16 * 16, :pixels.shape[1] // 16 * 16].astype(np.float32)


def encoder(model):
    """A function from a picture [H, W, 3] in 0..255 to its latents [H / 8 * W / 8, C]."""
    import torch
    from diffusers import AutoencoderKLFlux2

    folder = model / "vae" if (model / "vae").is_dir() else model
    vae = AutoencoderKLFlux2.from_pretrained(folder, torch_dtype=torch.float32).eval()

    @torch.no_grad()
    def encode(picture):
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        return vae.encode(pixels).latent_dist.mode()[0].permute(1, 2, 0).flatten(0, 1).double().numpy()

    return encode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("latent_rgb.json"))
    parser.add_argument("--count", type=int, default=80, help="at most so many pictures [80]")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes [0]")
    options = parser.parse_args()

    encode = encoder(options.model)
    source = files(options.pictures, options.count) if options.pictures else scenes(options.count, options.seed)
    pairs = [(encode(picture), cells(picture)) for picture in source]
    if len(pairs) < 8:
        parser.error(f"expected at least 8 pictures, got {len(pairs)}")
    parts = {"fitted": [p for i, p in enumerate(pairs) if i % 4], "kept": pairs[::4]}
    rows = {name: [np.concatenate(x) for x in zip(*part)] for name, part in parts.items()}
    weight, bias = fit(*rows["fitted"])
    for name, part in parts.items():
        r2 = explained(*rows[name], weight, bias)
        print(f"{name}: {len(part)} pictures, {len(rows[name][0])} latents, R^2 red {r2[0]:.4f}, green {r2[1]:.4f}, "
              f"blue {r2[2]:.4f}, all {r2[3]:.4f}")
    write(options.out, weight, bias, r2[3], len(parts["kept"]))


if __name__ == "__main__":
    main()
