"""Draw all held-out captions and edits with the program, and inpaint pictures of two subjects, and judge them: the tables of the model card.

    make demo-eval

The pictures stay in the folder (--out), beside the references that they were made from. Needs numpy and Pillow only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
from PIL import Image

from edits import Picture, picture_row
from evaluate import MARGIN, Judge, judge_caption, judge_folder, read_picture, scene_of, table
from heldout import draw_references
from scenes import CANVAS, HERE

CASES, PAIRS = ("heldout", "heldout_edits"), "heldout_pairs"


def run(program: Path, model: Path, what: list, seed: int, output: Path, flags) -> None:
    subprocess.run([program, *what, "--model", model, "--seed", str(seed), "--output", output, "--quiet", *flags], check=True)


def draw(program: Path, model: Path, cases: list[dict], chosen, folder: Path, references: Path | None = None, flags=()) -> None:
    """One picture for each chosen case, by its index as the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in chosen:
        case = cases[i]
        width, height = case["canvas"]
        what = ["generate", case["caption"]] if references is None else [
            "edit", case["prompt"], "--image-paths", *(references / f"{i:03d}_{j + 1}.png" for j in range(len(case["references"])))]
        run(program, model, [*what, "--width", str(width), "--height", str(height)], i, folder / f"{i:03d}.png", flags)


def inpaint(program: Path, model: Path, judge: Judge, every: int, folder: Path, flags=()) -> str:
    """Held-out pairs side by side: given is the exact picture with the right subject of the next case, whose right half is masked; the
    caption asks for its own. Says how many have it, and how far the left half, less a margin, is from what was given."""
    cases = [c for c in json.loads((HERE / "heldout.json").read_text()) if c["place"] == "side" and c["canvas"] == [CANVAS, CANVAS]][::every]
    given, half, mask = {}, CANVAS // 2, folder / "mask.png"
    for i, case in enumerate(cases):
        other = case | {"subjects": [case["subjects"][0], cases[(i + 1) % len(cases)]["subjects"][1]]}
        row, steers = picture_row(Picture(scene_of(other, judge.index)))
        given[i] = {"canvas": case["canvas"], "references": [{"row": row, "steers": steers}]}
    draw_references(given, folder)
    Image.fromarray((np.arange(CANVAS) >= half)[None].repeat(CANVAS, 0).astype(np.uint8) * 255).save(mask)
    right, changes = [], []
    for i, case in enumerate(cases):
        before, after = folder / f"{i:03d}_1.png", folder / f"{i:03d}.png"
        run(program, model, ["inpaint", case["caption"], "--image", before, "--mask", mask], i, after, flags)
        picture = read_picture(after, case)
        right.append(judge_caption(judge, case, picture)["subject"])
        changes.append(np.abs(picture - read_picture(before, case))[:, :half - MARGIN].mean())
    return (f"inpainted: {sum(right)} of {len(right)} have both subjects; the kept half differs by {np.mean(changes):.1f} in the mean, "
            f"at most by {max(changes):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="build/klein")
    parser.add_argument("--model", type=Path, default=HERE.parents[1] / "models/demo")
    parser.add_argument("--out", type=Path, default=Path("build/demo-eval"), help="a folder, which is emptied first")
    parser.add_argument("--cases", nargs="+", choices=(*CASES, PAIRS), default=(*CASES, PAIRS), help="which of the three sets")
    parser.add_argument("--every", type=int, default=1, help="every N-th case only")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=["--steps", "4"], help="of the program; last [--steps 4]")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    judge, began = Judge(), time.time()
    for name in (c for c in args.cases if c != PAIRS):
        cases, folder, references = json.loads((HERE / f"{name}.json").read_text()), args.out / name, None
        chosen = range(0, len(cases), args.every)
        if "references" in cases[0]:
            references = args.out / "references"
            draw_references({i: cases[i] for i in chosen}, references)
        draw(args.program, args.model, cases, chosen, folder, references, args.flags)
        drawn = time.time()
        report, _ = judge_folder(judge, folder, cases)
        print(f"\n{table(report)}\n\n{len(chosen)} pictures drawn by {drawn - began:.0f} s, judged by {time.time() - began:.0f} s", flush=True)
    if PAIRS in args.cases:
        print(f"\n{inpaint(args.program, args.model, judge, args.every, args.out / PAIRS, args.flags)}")


if __name__ == "__main__":
    main()
