"""How near drawn pictures of held-out captions come to the exact ones: the median PSNR of a folder of them.

What a caption leaves open, the shade and the pose, follows from the noise of the seed (the case's index), so there is one exact picture.
Captions that name no background are left out, since base models take that for any. Needs torch, whose noise it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from edits import Picture, picture_row
from evaluate import Judge, read_picture, scene_of
from networks import LATENT_GRID
from paint import seeded_noise
from sampling import STEERED
from scenes import COLOURS, HERE


def names_background(case: dict) -> bool:
    words = [w for c in case["colours"] for w in (c, *COLOURS[c][1])]
    return any(w in case["caption"].lower() for w in words)


def exact_picture(judge: Judge, case: dict, seed: int) -> np.ndarray:
    """[height, width, 3] in 0..255: what the caption asks for with this seed."""
    width, height = case["canvas"]
    steering = seeded_noise(seed, (height // 16, width // 16))[:, :STEERED].mean(0) * LATENT_GRID
    shade, pose = tuple(steering[:2].tolist()), tuple(steering[2:].tolist())
    return judge.renderer.draw(*picture_row(Picture(scene_of(case, judge.index), shade, (pose, pose))), case["canvas"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+", help="folders of PNG files; those that are in all of them count")
    args = parser.parse_args()
    judge, cases = Judge(), json.loads((HERE / "heldout.json").read_text())
    chosen = [i for i, c in enumerate(cases) if names_background(c) and all((f / f"{i:03d}.png").exists() for f in args.pictures)]
    for folder in args.pictures:
        errors = [np.square(read_picture(folder / f"{i:03d}.png", cases[i]) - exact_picture(judge, cases[i], i)).mean() for i in chosen]
        print(f"{folder}: {len(chosen)} pictures, median PSNR {np.median(10 * np.log10(255**2 / np.array(errors))):.2f} dB")


if __name__ == "__main__":
    main()
