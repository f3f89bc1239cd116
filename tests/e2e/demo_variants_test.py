"""The demo model's variants do what they are for: references read once, guidance, and prompts of what is not wanted."""

import json
import sys
import unittest

from support import PROGRAM, ROOT, ProgramTest, np, pixels

sys.path.insert(0, str(ROOT / "tools/demo_model"))
from demo_eval import draw  # noqa: E402
from evaluate import Judge, judge_case, read_picture, to_lab  # noqa: E402
from heldout import draw_references  # noqa: E402
from scenes import COLOURS  # noqa: E402

# Of tools/demo_model/heldout_edits.json: replace, remove, side by side, on the other's background.
EDITS = (20, 100, 140, 180)
BASE = ("--model", ROOT / "models/demo-base", "--device", "cpu", "--quiet", "--steps", 12, "--guidance", 2)


def background(picture):
    """The colour of the upper corners."""
    return np.concatenate([picture[:8, :8], picture[:8, -8:]]).reshape(-1, 3).mean(axis=0)


def distance(one, other):
    """CIE76."""
    return float(np.linalg.norm(to_lab(np.asarray(one, float)) - to_lab(np.asarray(other, float))))


class Variants(ProgramTest):
    def draw(self, prompt, seed, *flags):
        self.klein("generate", prompt, *BASE, "--seed", seed, *flags, "--output", "out.png", "--overwrite")
        return pixels(self.folder / "out.png")

    def test_references_that_are_read_once_give_the_same_edits(self):
        judge, edits = Judge(), json.loads((ROOT / "tools/demo_model/heldout_edits.json").read_text(encoding="utf-8"))
        draw_references({i: edits[i] for i in EDITS}, self.folder / "references")
        draw(PROGRAM, ROOT / "models/demo-kv", edits, EDITS, self.folder, self.folder / "references", ("--device", "cpu"))
        for i in EDITS:
            verdict = judge_case(judge, edits[i], read_picture(self.folder / f"{i:03d}.png", edits[i]))
            self.assertTrue(verdict["right"], (edits[i]["prompt"], verdict))

    def test_a_base_model_leaves_open_what_a_prompt_does_not_name(self):
        colours = [background(self.draw("a fox on the left", seed)) for seed in (1, 2, 3)]
        print("backgrounds of three seeds:", *(c.round().astype(int).tolist() for c in colours))
        for i in range(3):
            self.assertGreater(distance(colours[i], colours[i - 1]), 10)

    def test_a_negative_prompt_keeps_a_background_away(self):
        for seed in (1, 3):
            before = background(self.draw("a fox on the left", seed))
            name = min(COLOURS, key=lambda c: distance(before, COLOURS[c][0]))
            after = background(self.draw("a fox on the left", seed, "--negative-prompt", f"a {name} background"))
            far = [distance(colour, COLOURS[name][0]) for colour in (before, after)]
            print(f"seed {seed}, away from {name}: {far[0]:.1f}, then {far[1]:.1f}")
            self.assertGreater(far[1], far[0] + 10)


if __name__ == "__main__":
    unittest.main()
