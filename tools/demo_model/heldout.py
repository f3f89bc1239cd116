"""Write heldout.json and heldout_edits.json: held-out captions and edits with what their pictures must show.

`--references FOLDER` also draws the references of the edits, one PNG per case and reference (000_1.png, 000_2.png, ...), for programs
to be judged with `evaluate.py --edits`.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from captions import caption
from edits import KINDS, KINDS_OF_TWO, Edit, Picture, picture_row, random_edit
from scenes import (BACKGROUNDS, CANVAS, CANVASES, COLOUR_NAMES, DEFAULT_COLOUR, HERE, PLACE_NAMES, Scene, is_held_out, load_subjects,
                    pair_scene, single_scene)


def entry(rng: random.Random, scene: Scene, subjects) -> dict:
    """One caption; size and place of pairs are those of the arrangement."""
    names = [subjects[s.subject].name for s in scene.sprites]
    size = ["small", "medium", "large", "pair", "large", "pair"][scene.sprites[0].size]
    colours = [COLOUR_NAMES[scene.first]] + ([COLOUR_NAMES[scene.second]] if scene.background != "plain" else [])
    return {"caption": caption(rng, scene, subjects), "subjects": names, "size": size, "place": scene.arrangement or scene.place,
            "background": scene.background, "colours": colours, "canvas": list(scene.canvas)}


def held_out_single(rng: random.Random, count: int, background: str, canvas) -> Scene:
    while True:
        subject, size = rng.randrange(count), rng.choice(("small", "medium", "medium", "large"))
        place, (first, second) = rng.choice(PLACE_NAMES), rng.sample(range(len(COLOUR_NAMES)), 2)
        if is_held_out(subject, size, place, first):
            return single_scene(subject, size, place, background, first, second, canvas)


def build(singles: int, pairs: int, rng: random.Random, canvas) -> list[dict]:
    """Singles on plain (two thirds), gradient and split backgrounds, then pairs."""
    subjects, cases = load_subjects(), []
    for i in range(singles):
        scene = held_out_single(rng, len(subjects), BACKGROUNDS[(0, 0, 0, 0, 1, 2)[i % 6]], canvas)
        scene.named_background = scene.background != "plain" or scene.first != DEFAULT_COLOUR
        cases.append(entry(rng, scene, subjects))
    for i in range(pairs):
        first, second = rng.sample(range(len(COLOUR_NAMES)), 2)
        one, two = rng.sample(range(len(subjects)), 2)
        cases.append(entry(rng, pair_scene(one, two, ("side", "side", "stack")[i % 3], BACKGROUNDS[(0, 0, 1, 2)[i % 4]],
                                           first, second, canvas), subjects))
    return cases


def rounded(picture: Picture) -> dict:
    """A picture as the rows of `gpu_scenes.picture_row`."""
    row, steers = picture_row(picture)
    return {"row": row, "steers": [round(s, 2) for s in steers]}


def edit_entry(rng: random.Random, edit: Edit, canvas) -> dict:
    return {"prompt": edit.word(rng), "kind": edit.kind, "canvas": list(canvas), "target": rounded(edit.target),
            "references": [rounded(p) for p in edit.references]}


def build_edits(seed: int, each: int) -> list[dict]:
    """Edits of every kind, three quarters of them at 256x256, the rest on the other canvases (one reference only)."""
    rng, subjects, cases = random.Random(seed), load_subjects(), []
    for number, kinds in ((1, KINDS), (2, KINDS_OF_TWO)):
        for kind in kinds:
            for i in range(each):
                canvas = CANVASES[1 + i // 4 % 4] if number == 1 and i % 4 == 3 else (CANVAS, CANVAS)
                cases.append(edit_entry(rng, random_edit(rng, len(subjects), subjects, number, canvas, True, kind), canvas))
    return cases


def draw_references(cases: dict[int, dict], folder: Path) -> None:
    """The references of edits by their index, in 0..255, one PNG each."""
    import numpy as np
    from PIL import Image

    from sprites import PlainRenderer

    renderer = PlainRenderer()
    folder.mkdir(parents=True, exist_ok=True)
    for i, case in cases.items():
        for j, reference in enumerate(case["references"]):
            picture = renderer.draw(reference["row"], reference["steers"], case["canvas"])
            Image.fromarray(picture.round().astype(np.uint8)).save(folder / f"{i:03d}_{j + 1}.png")


def write(path: Path, cases: list[dict]) -> None:
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--references", type=Path, help="only draw the references of heldout_edits.json into this folder")
    parser.add_argument("--seed", type=int, default=2025)
    args = parser.parse_args()
    if args.references:
        draw_references(dict(enumerate(json.loads((args.out / "heldout_edits.json").read_text()))), args.references)
        return
    rng = random.Random(args.seed)
    cases = build(204, 60, rng, (CANVAS, CANVAS))
    for canvas in CANVASES[1:]:
        cases += build(18, 6, rng, canvas)
    write(args.out / "heldout.json", cases)
    write(args.out / "heldout_edits.json", build_edits(args.seed + 1, 20))


if __name__ == "__main__":
    main()
