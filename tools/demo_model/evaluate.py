"""Judge pictures that any program drew from held-out captions or edits.

The folder holds one PNG per test case, named by its index: 000.png, 001.png, ... Seeds choose poses, so every sprite is compared in 15 of
them (5 leans, 3 sizes), at a quarter of the size.
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
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from edits import KINDS, Picture
from gpu_scenes import Renderer, picture_row
from scenes import COLOUR_NAMES, HERE, PLACE_NAMES, PLACES, SIZE_NAMES, SIZES, load_subjects, pair_scene, place_sprite, single_scene
from sprites import FONT, build_atlas, load_glyphs

POSES = [(lean, growth) for lean in (-1.8, -0.9, 0.0, 0.9, 1.8) for growth in (-1.2, 0.0, 1.2)]
MARGIN = 16


def to_lab(rgb):
    """sRGB 0..255 -> CIE L*a*b* (D65)."""
    c = rgb / 255
    c = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    xyz = c @ np.array([[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920],
                        [0.1804375, 0.0721750, 0.9503041]]) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


class Judge:
    """Compares pictures [3, height, width] in 0..255 with scenes."""

    def __init__(self, glyphs: Path, device):
        self.subjects, self.device = load_subjects(), torch.device(device)
        self.index = {s.name: i for i, s in enumerate(self.subjects)}
        self.renderer = Renderer(build_atlas(load_glyphs(glyphs, self.subjects)), self.device)
        self.layers: dict[int, torch.Tensor] = {}

    def render(self, row, steers, canvas):
        rows = torch.tensor(row, device=self.device).view(-1, 12)
        bent = torch.tensor(steers, device=self.device, dtype=torch.float32).view(-1, 6)
        return (self.renderer.scenes(rows, bent.expand(len(rows), 6), tuple(canvas)) * 0.5 + 0.5) * 255

    def background(self, row, steers, canvas):
        return self.render([0, *row[1:]], steers, canvas)[0]

    def sprites_of(self, size: int):
        """[subjects, poses, 4, q, q]: every subject's sprite of a size in every pose, premultiplied, a quarter of the size."""
        if size not in self.layers:
            edge = int(self.renderer.sides[size]) + 2 * MARGIN
            rows = torch.tensor([[1, 0, 0, 0, s, size, MARGIN, MARGIN, 0, 0, 0, 0] for s in range(len(self.subjects))], device=self.device)
            parts = [self.layer(chunk, *pose, edge) for pose in POSES for chunk in rows.split(64)]
            self.layers[size] = torch.cat(parts).unflatten(0, (len(POSES), len(self.subjects))).transpose(0, 1).contiguous()
        return self.layers[size]

    def layer(self, rows, lean, growth, edge):
        """The sprite alone: its colours on black, and its alpha from the difference to white."""
        r = self.renderer
        subject, size, left, top = rows[:, 4:8].unbind(1)
        own, steers = r.sides[size], torch.tensor([[0, 0, lean, growth, 0, 0]], device=self.device).expand(len(rows), 6)
        kept, r.palette = r.palette, torch.stack([torch.zeros(3), torch.ones(3)]).to(self.device)
        black = r.scenes(rows, steers, (edge, edge)) * 0.5 + 0.5
        white = rows.clone()
        white[:, 2:4] = 1
        alpha = 1 - ((r.scenes(white, steers, (edge, edge)) * 0.5 + 0.5) - black).mean(1, keepdim=True)
        r.palette = kept
        return F.avg_pool2d(torch.cat([black * 255, alpha], 1), 4).half()

    def nearest(self, picture, behind, size: int, left: int, top: int):
        """(index of the nearest subject, its pose) around the square of a sprite; `behind` is the background alone."""
        side = int(self.renderer.sides[size]) + 2 * MARGIN
        height, width = picture.shape[1:]
        pad = (max(0, MARGIN - left), max(0, left - MARGIN + side - width), max(0, MARGIN - top), max(0, top - MARGIN + side - height))
        y, x = top - MARGIN + pad[2], left - MARGIN + pad[0]

        def cut(image):
            return F.avg_pool2d(F.pad(image, pad)[:, y:y + side, x:x + side], 4)

        seen, ground, inside = cut(picture), cut(behind), cut(torch.ones_like(picture[:1]))
        best = []
        for part in self.sprites_of(size).split(64):
            part = part.float()
            errors = ((ground * (1 - part[:, :, 3:]) + part[:, :, :3] - seen) * inside).square().mean((2, 3, 4))
            best.append(errors)
        errors = torch.cat(best)
        values, poses = errors.min(1)
        subject = int(values.argmin())
        return subject, POSES[int(poses[subject])], errors

    def background_distance(self, picture, row, steers, canvas) -> float:
        """CIE76 distance of mean background colours; for two-colour backgrounds the worst of the four quarters."""
        expected, free = self.background(row, steers, canvas), torch.ones(picture.shape[1:], dtype=torch.bool, device=self.device)
        for s in range(row[0]):
            _, size, left, top = row[4 + 4 * s:8 + 4 * s]
            side = int(self.renderer.sides[size])
            free[max(0, top - 8):top + side + 8, max(0, left - 8):left + side + 8] = False
        width, height = canvas
        areas = [np.s_[:, :]] if row[1] == 0 else [np.s_[r:r + height // 2, c:c + width // 2] for r in (0, height // 2) for c in (0, width // 2)]
        worst = 0.0
        for area in areas:
            if free[area].sum() > 150:
                seen, wanted = (p[:, area[0], area[1]][:, free[area]].mean(1).cpu().numpy() for p in (picture, expected))
                worst = max(worst, float(np.linalg.norm(to_lab(seen) - to_lab(wanted))))
        return worst

    def subjects_right(self, picture, row, steers, canvas, slots=None) -> tuple[bool, list[int], list]:
        behind, found, poses = self.background(row, steers, canvas), [], []
        for slot in (range(row[0]) if slots is None else slots):
            subject, size, left, top = row[4 + 4 * slot:8 + 4 * slot]
            one, _, errors = self.nearest(picture, behind, size, left, top)
            found.append((subject, one))
            poses.append(POSES[int(errors[subject].argmin())])
        return all(a == b for a, b in found), [b for _, b in found], poses

    def nearest_of(self, picture, rows, steers, canvas) -> int:
        """Which of several scenes is nearest."""
        seen = F.avg_pool2d(picture, 4)
        errors = [(F.avg_pool2d(self.render(row, steers, canvas)[0], 4) - seen).square().mean() for row in rows]
        return int(torch.stack(errors).argmin())


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
    exact = judge.render(row, steers, canvas)[0]
    before = judge.render(case["references"][0]["row"], case["references"][0]["steers"], canvas)[0]
    if kind in KINDS:
        same = (exact - before).abs().amax(0) < 1
    else:
        same = torch.ones(exact.shape[1:], dtype=torch.bool, device=exact.device)
        for s in range(row[0]):
            _, size, left, top = row[4 + 4 * s:8 + 4 * s]
            side = int(judge.renderer.sides[size])
            same[max(0, top - MARGIN):top + side + MARGIN, max(0, left - MARGIN):left + side + MARGIN] = False
    kept = float((picture - exact).abs().mean(0)[same].mean()) if same.any() else 0.0
    other = (exact - before).abs().amax(0) > 8
    gain = float((picture - exact)[:, other].square().mean() / (before - exact)[:, other].square().mean()) if other.any() else 0.0
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
    psnr = 10 * np.log10(255**2 / max(float((picture - exact).square().mean()), 1e-6))
    return {"change": bool(change), "kept": kept, "gain": gain, "found": found, "psnr": float(psnr)}


def share(values) -> float:
    return round(100 * float(np.mean(list(values))), 1)


def report_captions(cases, results) -> dict:
    report = {}
    for name, wanted in (("256x256 one subject", lambda c: c["canvas"] == [256, 256] and len(c["subjects"]) == 1),
                         ("256x256 two subjects", lambda c: c["canvas"] == [256, 256] and len(c["subjects"]) == 2),
                         *((f"{w}x{h}", lambda c, w=w, h=h: c["canvas"] == [w, h]) for w, h in ((384, 256), (256, 384), (320, 192), (192, 320)))):
        group = [r for c, r in zip(cases, results) if wanted(c)]
        if group:
            report[name] = {"pictures": len(group), "subject": share(r["subject"] for r in group), "place": share(r["place"] for r in group),
                            "background": share(r["background"] < 8 for r in group),
                            "median distance": round(float(np.median([r["background"] for r in group])), 2)}
    return report


def report_edits(cases, results) -> dict:
    report, kinds = {}, list(dict.fromkeys(c["kind"] for c in cases))
    groups = [(k, [r for c, r in zip(cases, results) if c["kind"] == k]) for k in kinds]
    groups += [("one reference", [r for c, r in zip(cases, results) if c["kind"] in KINDS]),
               ("one reference, 256x256", [r for c, r in zip(cases, results) if c["kind"] in KINDS and c["canvas"] == [256, 256]]),
               ("two references", [r for c, r in zip(cases, results) if c["kind"] not in KINDS])]
    for name, group in groups:
        if group:
            report[name] = {"edits": len(group), "change": share(r["change"] for r in group), "kept": share(r["kept"] < 8 for r in group),
                            "mean difference kept": round(float(np.mean([r["kept"] for r in group])), 2),
                            "median PSNR": round(float(np.median([r["psnr"] for r in group])), 1)}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of PNG files")
    parser.add_argument("--edits", action="store_true", help="the pictures are those of heldout_edits.json, not of heldout.json")
    parser.add_argument("--cases", type=Path, help="another file of cases")
    parser.add_argument("--glyphs", type=Path, default=FONT)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the numbers and every verdict here")
    args = parser.parse_args()
    cases = json.loads((args.cases or HERE / ("heldout_edits.json" if args.edits else "heldout.json")).read_text())
    judge, kept, results = Judge(args.glyphs, args.device), [], []
    for i, case in enumerate(cases):
        path = args.pictures / f"{i:03d}.png"
        if not path.exists():
            continue
        with Image.open(path) as image:
            picture = torch.from_numpy(np.array(image.convert("RGB"), np.float32)).permute(2, 0, 1).to(args.device)
        if list(picture.shape[1:]) != case["canvas"][::-1]:
            raise SystemExit(f"{path}: expected {case['canvas'][0]}x{case['canvas'][1]} pixels, got {picture.shape[2]}x{picture.shape[1]}")
        kept.append(case)
        results.append((judge_edit if args.edits else judge_caption)(judge, case, picture))
        ok = results[-1]["change"] and results[-1]["kept"] < 8 if args.edits else results[-1]["subject"] and results[-1]["place"] and results[-1]["background"] < 8
        if not ok:
            seen = [judge.subjects[f].name for f in results[-1]["found"]]
            print("missed:", path.name, case.get("caption") or f"({case['kind']}) {case['prompt']}", seen,
                  {k: round(v, 2) if isinstance(v, float) else v for k, v in results[-1].items() if k != "found"})
    if not results:
        raise SystemExit(f"no pictures found in {args.pictures}")
    report = (report_edits if args.edits else report_captions)(kept, results)
    for name, numbers in report.items():
        print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in numbers.items()))
    if args.json:
        args.json.write_text(json.dumps({"report": report, "cases": results}) + "\n")


if __name__ == "__main__":
    main()
