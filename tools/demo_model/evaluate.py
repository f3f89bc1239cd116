"""Judge pictures that any program drew from held-out captions or edits.

The folder holds one PNG per test case, named by its index: 000.png, 001.png, ... Seeds choose poses, so the named sprite and the 6 that
are nearest of all as small icons are compared in 15 poses (5 leans, 3 sizes), at a quarter of the size.
  subject     the named subject is the nearest of all subjects, by mean squared difference around its square (with two: both)
  place       the named place is the nearest of all places (with two subjects: not swapped, nor above for beside)
  background  mean colour of every quarter of the background within CIE76 distances of the named colour
Edits (--edits) are asked for `change` (the new background within 8, the new subject nearest of all, the place or the size nearest of
all, the removed subject gone, ...) and `kept`: mean difference below 8 of 255 where the exact result equals the first reference (with
two references: outside of the squares of the sprites, against the exact result).
"""

from __future__ import annotations

import argparse
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from edits import KINDS, Picture, picture_row
from scenes import CANVASES, COLOUR_NAMES, HERE, PLACE_NAMES, PLACES, SIZE_NAMES, SIZES, load_subjects, pair_scene, place_sprite, single_scene
from sprites import SIDES, PlainRenderer, placement, scale_glyph

POSES = [(lean, growth) for lean in (-1.8, -0.9, 0.0, 0.9, 1.8) for growth in (-1.2, 0.0, 1.2)]
MARGIN = 16
#: the subjects that are nearest as upright icons, of so many pixels, are compared in all poses
NEAR, ICON = 6, 16
UNITS = np.array([1, 1, 1, 255], np.float32)


def blocks(image, edge: int = 4):
    """Means of squares of pixels."""
    height, width, channels = image.shape
    return image.reshape(height // edge, edge, width // edge, edge, channels).mean((1, 3))


def to_lab(rgb):
    """sRGB 0..255 -> CIE L*a*b* (D65)."""
    c = rgb / 255
    c = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    xyz = c @ np.array([[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920],
                        [0.1804375, 0.0721750, 0.9503041]]) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


class Judge:
    """Compares pictures [height, width, 3] in 0..255 with scenes."""

    def __init__(self):
        self.subjects, self.renderer = load_subjects(), PlainRenderer()
        self.index = {s.name: i for i, s in enumerate(self.subjects)}
        self.icons = np.stack([scale_glyph(glyph, ICON) for glyph in self.renderer.glyphs]) / UNITS
        self.posed = lru_cache(2048)(self.posed)

    def posed(self, subject: int, size: int):
        """[poses, q, q, 4]: a sprite with the margin around it in every pose, premultiplied, at a quarter of the size."""
        own, edge = SIDES[size] + 2, SIDES[size] + 2 * MARGIN
        pixels = np.pad(scale_glyph(self.renderer.glyphs[subject], SIDES[size]), ((1, 1), (1, 1), (0, 0)))
        sprite = Image.frombytes("CMYK", (own, own), pixels.tobytes())  # four channels that Pillow treats alike
        turned = [sprite.transform((edge, edge), Image.Transform.AFFINE, placement(size, MARGIN, MARGIN, *pose), Image.Resampling.BILINEAR)
                  for pose in POSES]
        return np.stack([np.asarray(image.reduce(4)) for image in turned]) / UNITS

    def nearest(self, picture, behind, named: int, size: int, left: int, top: int):
        """(index of the nearest subject, the named one's nearest pose) around a sprite's square; `behind` is the background alone."""
        def errors(sprites, seen, ground, inside):
            return np.square((ground * (1 - sprites[..., 3:]) + sprites[..., :3] - seen) * inside).mean((1, 2, 3))

        own, side = SIDES[size], SIDES[size] + 2 * MARGIN
        square = np.s_[top:top + own, left:left + own]
        alike = np.argsort(errors(self.icons, *(blocks(image[square], own // ICON) for image in (picture, behind)), 1.0))[:NEAR]

        height, width = picture.shape[:2]
        y, x = top - MARGIN, left - MARGIN
        pad = ((max(0, -y), max(0, y + side - height)), (max(0, -x), max(0, x + side - width)), (0, 0))
        y, x = y + pad[0][0], x + pad[1][0]

        def cut(image):
            return blocks(np.pad(image, pad)[y:y + side, x:x + side])

        around = cut(picture), cut(behind), cut(np.ones_like(picture[..., :1]))
        in_poses = {s: errors(self.posed(s, size), *around) for s in {*alike.tolist(), named}}
        return min(in_poses, key=lambda s: in_poses[s].min()), POSES[int(in_poses[named].argmin())]

    def background_distance(self, picture, row, steers, canvas) -> float:
        """CIE76 distance of mean background colours; for two-colour backgrounds the worst of the four quarters."""
        expected, free = self.renderer.background(row, steers, canvas), np.ones(picture.shape[:2], bool)
        for s in range(row[0]):
            _, size, left, top = row[4 + 4 * s:8 + 4 * s]
            side = SIDES[size]
            free[max(0, top - 8):top + side + 8, max(0, left - 8):left + side + 8] = False
        width, height = canvas
        areas = [np.s_[:, :]] if row[1] == 0 else [np.s_[r:r + height // 2, c:c + width // 2] for r in (0, height // 2) for c in (0, width // 2)]
        worst = 0.0
        for area in areas:
            if free[area].sum() > 150:
                seen, wanted = (p[area][free[area]].mean(0) for p in (picture, expected))
                worst = max(worst, float(np.linalg.norm(to_lab(seen) - to_lab(wanted))))
        return worst

    def subjects_right(self, picture, row, steers, canvas, slots=None) -> tuple[bool, list[int], list]:
        """Whether the subjects are the nearest ones, which ones are, and the poses of the named ones."""
        behind, slots = self.renderer.background(row, steers, canvas), range(row[0]) if slots is None else slots
        found = [self.nearest(picture, behind, *row[4 + 4 * slot:8 + 4 * slot]) for slot in slots]
        return all(row[4 + 4 * slot] == one for slot, (one, _) in zip(slots, found)), [f[0] for f in found], [f[1] for f in found]

    def nearest_of(self, picture, rows, steers, canvas) -> int:
        """Which of several scenes is nearest."""
        seen = blocks(picture)
        return int(np.argmin([np.square(blocks(self.renderer.draw(row, steers, canvas)) - seen).mean() for row in rows]))


def scene_of(case: dict, index: dict[str, int]):
    """The scene that a caption of heldout.json describes."""
    colours, canvas = [COLOUR_NAMES.index(c) for c in case["colours"]], tuple(case["canvas"])
    subjects, ends = [index[name] for name in case["subjects"]], (case["background"], colours[0], colours[-1])
    if len(subjects) == 2:
        return pair_scene(*subjects, case["place"], *ends, canvas)
    return single_scene(subjects[0], case["size"], case["place"], *ends, canvas)


def judge_caption(judge: Judge, case: dict, picture) -> dict:
    canvas, scene = tuple(case["canvas"]), scene_of(case, judge.index)
    row, plain = picture_row(Picture(scene))
    right, found, poses = judge.subjects_right(picture, row, plain, canvas)
    subjects, ends = [s.subject for s in scene.sprites], (scene.background, scene.first, scene.second)
    if len(subjects) == 2:
        options = [pair_scene(a, b, way, *ends, canvas) for way in ("side", "stack") for a, b in (subjects, subjects[::-1])]
        wanted = ("side", "stack").index(scene.arrangement) * 2
    else:
        options = [single_scene(subjects[0], case["size"], place, *ends, canvas) for place in PLACE_NAMES]
        wanted = PLACE_NAMES.index(scene.place)
    rows = [picture_row(Picture(o))[0] for o in options]
    bent = [0.0, 0.0, *poses[0], *poses[-1]]
    first = next(i for i, r in enumerate(rows) if r == rows[wanted])
    return {"subject": right, "found": found, "place": judge.nearest_of(picture, rows, bent, canvas) == first,
            "background": judge.background_distance(picture, row, plain, canvas)}


def judge_edit(judge: Judge, case: dict, picture) -> dict:
    canvas, kind = tuple(case["canvas"]), case["kind"]
    row, steers = case["target"]["row"], case["target"]["steers"]
    exact = judge.renderer.draw(row, steers, canvas)
    before = judge.renderer.draw(case["references"][0]["row"], case["references"][0]["steers"], canvas)
    if kind in KINDS:
        same = np.abs(exact - before).max(-1) < 1
    else:
        same = np.ones(exact.shape[:2], bool)
        for s in range(row[0]):
            _, size, left, top = row[4 + 4 * s:8 + 4 * s]
            side = SIDES[size]
            same[max(0, top - MARGIN):top + side + MARGIN, max(0, left - MARGIN):left + side + MARGIN] = False
    kept = float(np.abs(picture - exact)[same].mean()) if same.any() else 0.0
    other = np.abs(exact - before).max(-1) > 8
    gain = float(np.square(picture - exact)[other].mean() / np.square(before - exact)[other].mean()) if other.any() else 0.0
    change, found = True, []
    if kind in ("background", "both", "onto"):
        change &= judge.background_distance(picture, row, steers, canvas) < 8
    if kind in ("replace", "both", "onto", "exchange", "beside", "stack", "add", "resize", "move"):
        slots = [i for i in range(row[0]) if kind != "replace" or row[4 + 4 * i] != case["references"][0]["row"][4 + 4 * i]]
        right, found, _ = judge.subjects_right(picture, row, steers, canvas, [1] if kind == "add" else slots)
        change &= right
    if kind == "move":
        rows = []
        for place in PLACE_NAMES:
            s = place_sprite(row[4], SIZE_NAMES[row[5]], *PLACES[place], canvas)
            rows.append([*row[:6], s.left, s.top, *row[8:]])
        change &= rows[judge.nearest_of(picture, rows, steers, canvas)][6:8] == row[6:8]
    if kind == "resize":
        rows = []
        for size in ("small", "medium", "large" if min(canvas) >= 256 else "fitted large"):
            middle = [row[6] + SIZES[SIZE_NAMES[row[5]]][0] // 2, row[7] + SIZES[SIZE_NAMES[row[5]]][0] // 2]
            side = SIZES[size][0]
            rows.append([*row[:5], SIZE_NAMES.index(size), *(row[6:8] if SIZE_NAMES[row[5]] == size else [m - side // 2 for m in middle]),
                         *row[8:]])
        change &= rows[judge.nearest_of(picture, rows, steers, canvas)][5] == row[5]
    if kind == "remove":
        change &= gain < 0.25
    psnr = 10 * np.log10(255**2 / max(float(np.square(picture - exact).mean()), 1e-6))
    return {"change": bool(change), "kept": kept, "gain": gain, "found": found, "psnr": float(psnr)}


def judge_case(judge: Judge, case: dict, picture) -> dict:
    """The verdict on a picture of a caption or an edit; `right` is what all of it comes to."""
    if "kind" in case:
        verdict = judge_edit(judge, case, picture)
        return verdict | {"right": verdict["change"] and verdict["kept"] < 8}
    verdict = judge_caption(judge, case, picture)
    return verdict | {"right": verdict["subject"] and verdict["place"] and verdict["background"] < 8}


def read_picture(path: Path, case: dict):
    """[height, width, 3] in 0..255."""
    with Image.open(path) as image:
        picture = np.array(image.convert("RGB"), np.float32)
    if list(picture.shape[1::-1]) != case["canvas"]:
        raise SystemExit(f"{path}: expected {case['canvas'][0]}x{case['canvas'][1]} pixels, got {picture.shape[1]}x{picture.shape[0]}")
    return picture


def share(values) -> str:
    return f"{100 * float(np.mean(list(values))):.1f} %"


def report_captions(cases, results) -> dict:
    """Group -> what was measured -> number, as text."""
    report = {}
    for name, wanted in (("one subject, 256x256", lambda c: c["canvas"] == [256, 256] and len(c["subjects"]) == 1),
                         ("two subjects, 256x256", lambda c: c["canvas"] == [256, 256] and len(c["subjects"]) == 2),
                         *((f"{w}x{h}", lambda c, w=w, h=h: c["canvas"] == [w, h]) for w, h in CANVASES[1:])):
        group = [r for c, r in zip(cases, results) if wanted(c)]
        if group:
            report[name] = {"pictures": str(len(group)), "subject": share(r["subject"] for r in group),
                            "place": share(r["place"] for r in group), "background within 8": share(r["background"] < 8 for r in group),
                            "its median distance": f"{np.median([r['background'] for r in group]):.2f}"}
    return report


def report_edits(cases, results) -> dict:
    """Group -> what was measured -> number, as text."""
    report, kinds = {}, list(dict.fromkeys(c["kind"] for c in cases))
    groups = [(k, [r for c, r in zip(cases, results) if c["kind"] == k]) for k in kinds]
    groups += [("one reference", [r for c, r in zip(cases, results) if c["kind"] in KINDS]),
               ("one reference, 256x256", [r for c, r in zip(cases, results) if c["kind"] in KINDS and c["canvas"] == [256, 256]]),
               ("two references", [r for c, r in zip(cases, results) if c["kind"] not in KINDS])]
    for name, group in groups:
        if group:
            report[name] = {"edits": str(len(group)), "change": share(r["change"] for r in group), "kept": share(r["kept"] < 8 for r in group),
                            "mean difference there": f"{np.mean([r['kept'] for r in group]):.1f}",
                            "median PSNR": f"{np.median([r['psnr'] for r in group]):.1f} dB"}
    return report


def table(report: dict) -> str:
    """A report in Markdown, a line for every group."""
    rows = [["", *next(iter(report.values()))], ["---"] * (1 + len(next(iter(report.values()))))]
    rows += [[name, *numbers.values()] for name, numbers in report.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def judge_folder(judge: Judge, folder: Path, cases: list[dict]) -> tuple[dict, list[dict]]:
    """(report, verdicts) on the pictures that are there; says what each that is not right has missed."""
    judged, results = [], []
    for i, case in enumerate(cases):
        path = folder / f"{i:03d}.png"
        if not path.exists():
            continue
        judged.append(case)
        results.append(judge_case(judge, case, read_picture(path, case)))
        if not results[-1]["right"]:
            seen = [judge.subjects[f].name for f in results[-1]["found"]]
            print("missed:", path.name, case.get("caption") or f"({case['kind']}) {case['prompt']}", seen,
                  {k: round(v, 2) if isinstance(v, float) else v for k, v in results[-1].items() if k not in ("found", "right")})
    if not results:
        raise SystemExit(f"no pictures found in {folder}")
    return (report_edits if "kind" in cases[0] else report_captions)(judged, results), results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of PNG files")
    parser.add_argument("--edits", action="store_true", help="the pictures are those of heldout_edits.json, not of heldout.json")
    parser.add_argument("--cases", type=Path, help="another file of cases")
    parser.add_argument("--json", type=Path, help="also write the numbers and every verdict here")
    args = parser.parse_args()
    cases = json.loads((args.cases or HERE / ("heldout_edits.json" if args.edits else "heldout.json")).read_text())
    report, results = judge_folder(Judge(), args.pictures, cases)
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps({"report": report, "cases": results}) + "\n")


if __name__ == "__main__":
    main()
