"""The demo model draws what it is asked for: held-out captions and edits, judged as the model card's numbers are."""

import json
import sys
import time
import unittest

from support import PROGRAM, ROOT, Image, ProgramTest, np

sys.path.insert(0, str(ROOT / "tools/demo_model"))
from demo_eval import draw  # noqa: E402
from evaluate import Judge, judge_case, read_picture  # noqa: E402
from heldout import draw_references  # noqa: E402

# Of tools/demo_model/heldout.json: subjects of every size, places, plain, gradient and split backgrounds, two subjects, all canvases.
CAPTIONS = (0, 4, 5, 17, 34, 41, 66, 83, 100, 121, 160, 188, 204, 206, 219, 247, 264, 288, 312, 336)
# Of heldout_edits.json, one of each kind: background, replace, move, resize, add, remove, side by side, on the other's background.
EDITS = (0, 20, 40, 60, 80, 100, 140, 180)


def cases(name):
    return json.loads((ROOT / f"tools/demo_model/{name}.json").read_text(encoding="utf-8"))


class Judged(ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.judge = Judge()

    def verdict(self, case, path):
        return judge_case(self.judge, case, read_picture(path, case))

    def judge_all(self, every, chosen, references=None):
        """Draws the chosen cases and has them judged; one line says what each picture that is not right has missed."""
        began = time.monotonic()
        draw(PROGRAM, ROOT / "models/demo", every, chosen, self.folder, references, ("--device", "cpu"))
        drawn, wrong = time.monotonic() - began, []
        for i in chosen:
            verdict = self.verdict(every[i], self.folder / f"{i:03d}.png")
            if not verdict["right"]:
                wrong.append(f"{i}: {every[i].get('caption') or every[i]['prompt']}: {verdict}")
        print(f"{len(chosen)} pictures drawn in {drawn:.1f} s, judged in {time.monotonic() - began - drawn:.1f} s")
        self.assertEqual(wrong, [])

    def test_captions_show_their_subjects_places_and_backgrounds(self):
        captions = cases("heldout")
        self.judge_all(captions, CAPTIONS)
        # The judge can say no: no picture is right for the caption of another one of its size.
        for i, j in zip(CAPTIONS[::4], CAPTIONS[1:16:4]):
            verdict = self.verdict(captions[j], self.folder / f"{i:03d}.png")
            self.assertFalse(verdict["right"] or verdict["subject"], (i, j))

    def test_edits_change_what_they_say_and_nothing_else(self):
        edits = cases("heldout_edits")
        draw_references({i: edits[i] for i in EDITS}, self.folder / "references")
        self.judge_all(edits, EDITS, self.folder / "references")
        # The judge can say no: a reference as it was has not changed, and gray has not kept what was to stay.
        for i in EDITS:
            self.assertFalse(self.verdict(edits[i], self.folder / f"references/{i:03d}_1.png")["change"], i)
        gray = self.folder / "gray.png"
        Image.fromarray(np.full((256, 256, 3), 128, np.uint8)).save(gray)
        for i in EDITS[::3]:
            self.assertGreater(self.verdict(edits[i], gray)["kept"], 8, i)


if __name__ == "__main__":
    unittest.main()
