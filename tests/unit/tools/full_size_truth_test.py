"""tools/full_size_truth.py measures and judges rightly, and tools/random_checkpoint.py draws usable weights."""

import math
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import full_size_truth as truth  # noqa: E402
import random_checkpoint  # noqa: E402


def result(scale=1.0, level=100):
    tensor = scale * np.array([[[3.0, 4.0], [1.0, 0.0]]], np.float32)
    picture = np.full((2, 2, 3), level, np.uint8)
    return {part: tensor for part in truth.PARTS} | {"picture": picture, "decoded": picture}


class Measures(unittest.TestCase):
    def test_cosine_ignores_scale_and_sees_direction(self):
        self.assertAlmostEqual(truth.cosine(np.array([3.0, 4.0]), np.array([6.0, 8.0])), 1.0)
        self.assertAlmostEqual(truth.cosine(np.array([3.0, 4.0]), np.array([4.0, -3.0])), 0.0)
        self.assertAlmostEqual(truth.cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])), 0.96)

    def test_the_worst_token_is_one_row(self):
        a = np.array([[[3.0, 4.0], [1.0, 0.0]]])
        self.assertAlmostEqual(truth.worst_cosine(a, np.array([[[3.0, 4.0], [0.6, 0.8]]])), 0.6)

    def test_relative_error_is_of_norms(self):
        self.assertAlmostEqual(truth.relative_error(np.array([3.0, 4.5]), np.array([3.0, 4.0])), 0.1)

    def test_psnr_of_one_level_everywhere(self):
        a = np.full((4, 4, 3), 100, np.uint8)
        self.assertAlmostEqual(truth.psnr(a, a + 1), 48.1308, places=4)
        self.assertEqual(truth.psnr(a, a), math.inf)

    def test_tokens_run_row_by_row(self):
        grid = np.arange(12).reshape(1, 2, 2, 3)
        self.assertEqual(truth.tokens(grid)[0, :, 0].tolist(), [0, 1, 2, 3, 4, 5])


class Judgement(unittest.TestCase):
    def test_equal_results_pass_every_row(self):
        rows = truth.compare(result(), result(), None, None)
        self.assertEqual([row[0] for row in rows], [*truth.PARTS, "picture", "decoder alone"])
        self.assertTrue(all(truth.passes(row) for row in rows))

    def test_a_picture_five_levels_off_fails(self):
        rows = truth.compare(result(level=105), result(), None, None)
        self.assertEqual([row[0] for row in rows if not truth.passes(row)], ["picture", "decoder alone"])

    def test_another_direction_fails(self):
        off = result() | {"first velocity": np.array([[[4.0, 3.0], [1.0, 0.0]]], np.float32)}
        rows = truth.compare(off, result(), None, None)
        self.assertEqual([row[0] for row in rows if not truth.passes(row)], ["first velocity"])

    def test_numbers_that_are_not_numbers_fail(self):
        rows = truth.compare(result(scale=math.nan), result(), None, None)
        self.assertEqual([row[0] for row in rows if not truth.passes(row)], list(truth.PARTS))

    def test_yardsticks_stand_beside_each_number(self):
        first = truth.compare(result(scale=1.1), result(), result(scale=0.8), result(scale=2.0))[0]
        self.assertEqual([round(x, 6) for x in first[5:]], [0.45, 0.5, 0.2])


class RandomCheckpoint(unittest.TestCase):
    def test_rows_of_a_wide_matrix_do_not_come_back(self):
        values = random_checkpoint.Values(0)
        rows = values.draw("to_qkv_mlp_proj.weight", (5000, 4096)).reshape(5000, 4096)
        self.assertFalse((rows[:904] == rows[4096:]).all(axis=1).any())

    def test_norm_weights_scatter_around_one_and_biases_around_zero(self):
        values = random_checkpoint.Values(0)

        def floats(name, shape):
            return (values.draw(name, shape).astype(np.uint32) << 16).view(np.float32)

        for name, centre in (("norm1.weight", 1), ("bn.running_var", 1), ("norm1.bias", 0), ("bn.running_mean", 0)):
            drawn = floats(name, (4096,))
            self.assertAlmostEqual(drawn.mean(), centre, delta=0.01, msg=name)
            self.assertAlmostEqual(drawn.std(), 0.1, delta=0.01, msg=name)
        self.assertAlmostEqual(floats("transformer_blocks.0.attn.norm_added_k.weight", (4096,)).mean(), 2, delta=0.02)
        self.assertAlmostEqual(floats("transformer_blocks.0.attn.to_out.0.weight", (64, 64)).std(), 3 / 8, delta=0.02)
        self.assertAlmostEqual(floats("transformer_blocks.0.attn.to_q.weight", (64, 64)).std(), 1 / 8, delta=0.01)

    def test_the_chat_template_is_copied_where_it_is_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "tokenizer"
            random_checkpoint.copy_tokenizer(ROOT / "tests/fixtures/tokenizer/qwen3", target)
            self.assertEqual(sorted(x.name for x in target.iterdir()),
                             ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"])


if __name__ == "__main__":
    unittest.main()
