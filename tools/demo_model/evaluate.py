"""Judge pictures that any program drew from captions: subjects, places and backgrounds.

The folder holds one 256x256 PNG per test case, named by its index: 000.png, 001.png, ...
  subject     the named subject is the nearest of all subjects, by mean squared difference inside its square
  place       the named place is the nearest of all places (singles; pairs: not with the two subjects swapped)
  background  mean colour of every part of the background within CIE76 distances of the named colour
"""

from __future__ import annotations

import argparse
import json
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

from scenes import COLOUR_NAMES, HERE, PLACE_NAMES, SIZE_NAMES, Scene, load_subjects, pair_scene, single_scene
from sprites import FONT, build_atlas, draw_background, draw_scene, load_glyphs

ATLAS: dict[str, np.ndarray] = {}


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0..255 -> CIE L*a*b* (D65)."""
    c = rgb / 255
    c = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    xyz = c @ np.array([[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920],
                        [0.1804375, 0.0721750, 0.9503041]]) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def scene_of(case: dict, index: dict[str, int]) -> Scene:
    """The scene that a test case describes."""
    colours = [COLOUR_NAMES.index(c) for c in case["colours"]]
    subjects = [index[name] for name in case["subjects"]]
    ends = (case["background"], colours[0], colours[-1])
    if len(subjects) == 2:
        return pair_scene(*subjects, case["place"], *ends)
    return single_scene(subjects[0], case["size"], case["place"], *ends)


def nearest_subject(picture: np.ndarray, scene: Scene, sprite) -> int:
    """The subject whose sprite, on the expected background, is nearest to the picture inside the sprite's square."""
    box = np.s_[sprite.top:sprite.top + sprite.side, sprite.left:sprite.left + sprite.side]
    seen, behind = picture[box], draw_background(scene)[box]
    errors = []
    for pixels in ATLAS[SIZE_NAMES[sprite.size]]:
        pixels = pixels.astype(np.float32)
        errors.append(np.square(seen - behind * (1 - pixels[..., 3:] / 255) - pixels[..., :3]).mean())
    return int(np.argmin(errors))


def place_is_right(picture: np.ndarray, scene: Scene) -> bool:
    """Whether the expected scene is nearer than the same scene at any other place."""
    ends = (scene.background, scene.first, scene.second)
    subjects, size = [s.subject for s in scene.sprites], SIZE_NAMES[scene.sprites[0].size]
    if len(subjects) == 2:
        options = [pair_scene(a, b, way, *ends) for way in ("side", "stack") for a, b in (subjects, subjects[::-1])]
        wanted = ("side", "stack").index(scene.arrangement) * 2
    else:
        options = [single_scene(subjects[0], size, place, *ends) for place in PLACE_NAMES]
        wanted = PLACE_NAMES.index(scene.place)
    return int(np.argmin([np.square(picture - draw_scene(o, ATLAS)).mean() for o in options])) == wanted


def background_distance(picture: np.ndarray, scene: Scene) -> float:
    """CIE76 distance of mean background colours; for two-colour backgrounds the worst of the four quarters."""
    expected, free = draw_background(scene), np.ones(picture.shape[:2], bool)
    for s in scene.sprites:
        solid = ATLAS[SIZE_NAMES[s.size]][s.subject][..., 3] > 0
        free[s.top:s.top + s.side, s.left:s.left + s.side] &= ~solid
    areas = [np.s_[:, :]] if scene.background == "plain" else [np.s_[r:r + 128, c:c + 128] for r in (0, 128) for c in (0, 128)]
    worst = 0.0
    for area in areas:
        if free[area].sum() > 400:
            seen, wanted = picture[area][free[area]].mean(0), expected[area][free[area]].mean(0)
            worst = max(worst, float(np.linalg.norm(to_lab(seen) - to_lab(wanted))))
    return worst


def judge(job) -> dict:
    """All measures of one picture."""
    case, path, index = job
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"), np.float32)
    if picture.shape != (256, 256, 3):
        raise SystemExit(f"{path}: expected 256x256 pixels, got {picture.shape[1]}x{picture.shape[0]}")
    scene = scene_of(case, index)
    found = [nearest_subject(picture, scene, s) for s in scene.sprites]
    return {"subject": all(f == s.subject for f, s in zip(found, scene.sprites)), "found": found,
            "place": place_is_right(picture, scene), "background": background_distance(picture, scene),
            "mse": float(np.square(picture - draw_scene(scene, ATLAS)).mean())}


def summary(results: list[dict]) -> dict:
    distances = np.array([r["background"] for r in results])
    return {"pictures": len(results), "subject_top1": round(float(np.mean([r["subject"] for r in results])), 4),
            "place_right": round(float(np.mean([r["place"] for r in results])), 4),
            "background_within_12": round(float((distances < 12).mean()), 4),
            "background_within_8": round(float((distances < 8).mean()), 4),
            "background_median": round(float(np.median(distances)), 2),
            "median_psnr": round(float(np.median([10 * np.log10(255**2 / max(r["mse"], 1e-6)) for r in results])), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of PNG files")
    parser.add_argument("--captions", type=Path, default=HERE / "heldout.json")
    parser.add_argument("--glyphs", type=Path, default=FONT)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the numbers and every verdict here")
    args = parser.parse_args()
    subjects = load_subjects()
    ATLAS.update(build_atlas(load_glyphs(args.glyphs, subjects)))
    index = {s.name: i for i, s in enumerate(subjects)}
    cases = json.loads(args.captions.read_text())
    jobs = [(c, args.pictures / f"{i:03d}.png", index) for i, c in enumerate(cases)]
    jobs = [j for j in jobs if j[1].exists()]
    if not jobs:
        raise SystemExit(f"no pictures found in {args.pictures}")
    with Pool(args.workers) as pool:
        results = pool.map(judge, jobs, chunksize=4)
    groups = {"single": [r for j, r in zip(jobs, results) if len(j[0]["subjects"]) == 1],
              "pair": [r for j, r in zip(jobs, results) if len(j[0]["subjects"]) == 2]}
    report = {name: summary(group) for name, group in groups.items() if group}
    print(json.dumps(report, indent=1))
    for job, r in zip(jobs, results):
        if not r["subject"]:
            print("missed:", job[1].name, job[0]["caption"], "->", [subjects[f].name for f in r["found"]])
    if args.json:
        args.json.write_text(json.dumps({"report": report, "cases": results}) + "\n")


if __name__ == "__main__":
    main()
