#!/usr/bin/env python3
"""Measures what each packing of the weights costs: the table of docs/checkpoints.md.

Usage: quantization_table.py PROGRAM [MODEL] [--size PIXELS] [--only PACKING...]
Saves MODEL (the demo model) in each packing, draws six pictures from it, and compares them with those of the weights as
they are: bytes on disk, peak signal-to-noise ratio of the pixels (all parts packed, and the transformer alone), seconds
of the fastest step, peak memory of the process.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

PACKINGS = ("bfloat16", "8", "6", "5", "4", "3", "fp8", "mxfp8", "mxfp4", "nvfp4")
PROMPTS = ("a red apple on a yellow background", "a rocket on a navy to purple gradient", "a cat on a teal background",
           "a small owl in the top left corner on a pink background", "a green tree on a white background",
           "a fox on the left and a dog on the right, on an orange background")


def decibels(pictures, originals):
    """Of the mean squared error over all pictures."""
    error = np.mean([(a - b) ** 2 for a, b in zip(pictures, originals, strict=True)])
    return math.inf if error == 0 else 10 * math.log10(255 ** 2 / error)


def draw(program, model, folder, size, *arguments):
    """Six pictures, the fastest step in seconds and the highest memory in bytes."""
    pictures, step_seconds, peak = [], [], 0
    for number, prompt in enumerate(PROMPTS):
        path = folder / f"{number}.png"
        report = json.loads(subprocess.run(
            [program, "generate", prompt, "-m", model, "--seed", str(number), "--width", str(size), "--height", str(size),
             "--output", path, "--overwrite", "--json", "--quiet", *arguments], check=True, capture_output=True, text=True).stdout)
        with Image.open(path) as picture:
            pictures.append(np.asarray(picture.convert("RGB"), dtype=np.float64))
        step_seconds += report["step_seconds"]
        peak = max(peak, report["peak_memory_bytes"])
    return pictures, min(step_seconds), peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--only", nargs="+", default=PACKINGS[1:], choices=PACKINGS[1:], help="some of the packings")
    options = parser.parse_args()
    print("| `-q` | weights on disk | PSNR | PSNR, transformer alone | best step | peak memory |\n|---|---|---|---|---|---|")
    originals = None
    with tempfile.TemporaryDirectory() as name:
        for packing in (PACKINGS[0], *options.only):
            folder = Path(name) / packing
            arguments = [] if packing == "bfloat16" else ["-q", packing]
            subprocess.run([options.program, "save", "--model", options.model, "--path", folder, "--quiet", *arguments],
                           check=True)
            size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
            pictures, seconds, peak = draw(options.program, folder, Path(name), options.size)
            if originals is None:
                originals = pictures
                ratios = "- | -"
            else:
                alone, _, _ = draw(options.program, options.model, Path(name), options.size, "--quantize-transformer", packing)
                ratios = f"{decibels(pictures, originals):.1f} dB | {decibels(alone, originals):.1f} dB"
            print(f"| {'none' if packing == 'bfloat16' else packing} | {size / 1e6:.1f} MB | {ratios} | "
                  f"{seconds * 1e3:.0f} ms | {peak / 1e6:.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
