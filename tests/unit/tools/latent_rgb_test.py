"""tools/latent_rgb.py finds a linear map again and writes it in the layout that previews read."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import latent_rgb  # noqa: E402


class LatentRgb(unittest.TestCase):
    def setUp(self):
        rng = np.random.default_rng(1)
        self.latents, self.weight, self.bias = rng.normal(size=(200, 32)), rng.normal(size=(32, 3)), rng.normal(size=3)
        self.colours = self.latents @ self.weight + self.bias

    def test_a_linear_map_is_found_again(self):
        weight, bias = latent_rgb.fit(self.latents, self.colours)
        np.testing.assert_allclose(weight, self.weight, atol=1e-12)
        np.testing.assert_allclose(bias, self.bias, atol=1e-12)

    def test_a_perfect_map_explains_all_and_the_mean_nothing(self):
        np.testing.assert_allclose(latent_rgb.explained(self.latents, self.colours, self.weight, self.bias), 1)
        mean = latent_rgb.explained(self.latents, self.colours, 0 * self.weight, self.colours.mean(0))
        np.testing.assert_allclose(mean, 0, atol=1e-12)

    def test_cells_are_means_of_blocks_in_rows(self):
        picture = np.zeros((16, 24, 3), np.float32)
        picture[:8, 8:16] = (255, 0, 127.5)
        picture[8:, 16:20] = 255
        want = np.full((6, 3), -1.0)
        want[1], want[5] = (1, -1, 0), 0
        np.testing.assert_allclose(latent_rgb.cells(picture), want)

    def test_the_file_has_five_digits_and_a_row_for_each_channel(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.json"
            latent_rgb.write(path, self.weight, self.bias, 0.98765, 7)
            data = json.loads(path.read_text())
        self.assertEqual(list(data), ["about", "weight", "bias"])
        self.assertIn("R^2 of 0.9877 on 7 pictures", data["about"])
        np.testing.assert_allclose(data["weight"], self.weight, rtol=5e-5)
        np.testing.assert_allclose(data["bias"], self.bias, rtol=5e-5)
        self.assertTrue(all(len(f"{v}".lstrip("-0.").replace(".", "")) <= 5 for row in data["weight"] for v in row))


if __name__ == "__main__":
    unittest.main()
