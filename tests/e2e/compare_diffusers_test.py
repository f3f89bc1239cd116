"""klein bench --compare-diffusers: diffusers draws the picture that klein draws, and a Python without it is told apart.

KLEIN_REFERENCE_PYTHON names the Python that has diffusers, where that is another one. With KLEIN_TEST_COMPILE also torch.compile is
tried, which takes minutes on a CPU.
"""

import json
import os
import subprocess
import sys
import unittest

from support import MODELS, ROOT, ProgramTest

PYTHON = os.environ.get("KLEIN_REFERENCE_PYTHON", sys.executable)
MISSING = subprocess.run([PYTHON, "-c", "from diffusers import Flux2KleinPipeline"], capture_output=True, text=True)
ARGUMENTS = ("bench", "--compare-diffusers", "--device", "cpu", "--runs", 1, "--quiet")
PARTS = {"text", "step", "decode", "picture"}


class WithDiffusers(ProgramTest):
    def compare(self, *arguments):
        report = json.loads(self.klein(*ARGUMENTS, "--python", PYTHON, "--json", *arguments, timeout=600).stdout)
        self.assertEqual(self.files(), [])
        self.assertEqual(set(report["diffusers"]["eager"]), PARTS)
        self.assertEqual(report["diffusers"]["device"], "cpu")
        self.assertGreater(report["floor_seconds"], 0)
        return report["diffusers"]

    def test_float32_gives_the_same_picture(self):
        for model, guidance in ((ROOT / "models/demo", ()), (MODELS / "tiny-base", ("--width", 64, "--height", 48))):
            with self.subTest(model.name):
                both = self.compare("--model", model, "--dtype", "float32", "--steps", 4, *guidance)
                print(f"{model.name}, float32: {both['latents_error']:.2e}, PSNR {both['picture_psnr']}")
                self.assertLess(both["latents_error"], 1e-4)
                self.assertTrue(both["picture_psnr"] is None or both["picture_psnr"] > 60)
                self.assertIsNone(both["compiled"])

    def test_bfloat16_is_near(self):
        both = self.compare("--model", ROOT / "models/demo")
        print(f"demo, bfloat16: {both['latents_error']:.2e}, PSNR {both['picture_psnr']}")
        self.assertGreater(both["latents_cosine"], 0.999)
        self.assertGreater(both["picture_psnr"], 35)

    @unittest.skipUnless("KLEIN_TEST_COMPILE" in os.environ, "needs KLEIN_TEST_COMPILE")
    def test_compiled_beside_eager(self):
        both = self.compare("--model", MODELS / "tiny-distilled", "--width", 64, "--height", 48, "--compile", "default")
        self.assertEqual(set(both["compiled"]), PARTS)


if __name__ == "__main__":
    if MISSING.returncode != 0:
        print(f"[skipped] {MISSING.stderr.strip().splitlines()[-1]}: {PYTHON}; KLEIN_REFERENCE_PYTHON may name another")
        sys.exit(77)
    unittest.main()
