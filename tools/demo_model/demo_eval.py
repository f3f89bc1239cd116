"""Draw all held-out captions and edits with the program, and judge them: the tables of the model card.

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

from evaluate import Judge, judge_folder, table
from heldout import draw_references
from scenes import HERE


CASES = ("heldout", "heldout_edits")


def draw(program: Path, model: Path, cases: list[dict], chosen, folder: Path, references: Path | None = None, flags=()) -> None:
    """One picture for each chosen case, by its index as the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in chosen:
        case = cases[i]
        width, height = case["canvas"]
        what = ["generate", case["caption"]] if references is None else [
            "edit", case["prompt"], "--image-paths", *(references / f"{i:03d}_{j + 1}.png" for j in range(len(case["references"])))]
        subprocess.run([program, *what, "--model", model, "--width", str(width), "--height", str(height), "--seed", str(i),
                        "--output", folder / f"{i:03d}.png", "--quiet", *flags], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="build/klein")
    parser.add_argument("--model", type=Path, default=HERE.parents[1] / "models/demo")
    parser.add_argument("--out", type=Path, default=Path("build/demo-eval"), help="a folder, which is emptied first")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="which of the two sets")
    parser.add_argument("--every", type=int, default=1, help="every N-th case only")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=["--steps", "4"], help="of the program; last [--steps 4]")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    judge, began = Judge(), time.time()
    for name in args.cases:
        cases, folder, references = json.loads((HERE / f"{name}.json").read_text()), args.out / name, None
        chosen = range(0, len(cases), args.every)
        if "references" in cases[0]:
            references = args.out / "references"
            draw_references({i: cases[i] for i in chosen}, references)
        draw(args.program, args.model, cases, chosen, folder, references, args.flags)
        drawn = time.time()
        report, _ = judge_folder(judge, folder, cases)
        print(f"\n{table(report)}\n\n{len(chosen)} pictures drawn by {drawn - began:.0f} s, judged by {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
