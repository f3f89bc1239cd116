"""Write heldout.json: captions of held-out combinations with what their pictures must show."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from captions import caption
from scenes import (BACKGROUNDS, COLOUR_NAMES, DEFAULT_COLOUR, HERE, PLACE_NAMES, Scene, is_held_out, load_subjects,
                    pair_scene, single_scene)


def entry(rng: random.Random, scene: Scene, subjects) -> dict:
    """One test case; size and place of pairs are those of the arrangement."""
    names = [subjects[s.subject].name for s in scene.sprites]
    size = ["small", "medium", "large", "pair"][scene.sprites[0].size]
    colours = [COLOUR_NAMES[scene.first]] + ([COLOUR_NAMES[scene.second]] if scene.background != "plain" else [])
    return {"caption": caption(rng, scene, subjects), "subjects": names, "size": size,
            "place": scene.arrangement or scene.place, "background": scene.background, "colours": colours}


def held_out_single(rng: random.Random, count: int, background: str) -> Scene:
    while True:
        subject, size = rng.randrange(count), rng.choice(("small", "medium", "medium", "large"))
        place, (first, second) = rng.choice(PLACE_NAMES), rng.sample(range(len(COLOUR_NAMES)), 2)
        if is_held_out(subject, size, place, first):
            return single_scene(subject, size, place, background, first, second)


def build(singles: int, pairs: int, seed: int) -> list[dict]:
    """Singles on plain (two thirds), gradient and split backgrounds, then pairs."""
    rng, subjects = random.Random(seed), load_subjects()
    cases = []
    for i in range(singles):
        scene = held_out_single(rng, len(subjects), BACKGROUNDS[(0, 0, 0, 0, 1, 2)[i % 6]])
        scene.named_background = scene.background != "plain" or scene.first != DEFAULT_COLOUR
        cases.append(entry(rng, scene, subjects))
    for i in range(pairs):
        first, second = rng.sample(range(len(COLOUR_NAMES)), 2)
        one, two = rng.sample(range(len(subjects)), 2)
        cases.append(entry(rng, pair_scene(one, two, ("side", "side", "stack")[i % 3], BACKGROUNDS[(0, 0, 1, 2)[i % 4]],
                                           first, second), subjects))
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "heldout.json")
    parser.add_argument("--singles", type=int, default=204)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2025)
    args = parser.parse_args()
    lines = [json.dumps(case) for case in build(args.singles, args.pairs, args.seed)]
    args.out.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
