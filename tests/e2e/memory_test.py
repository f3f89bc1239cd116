#!/usr/bin/env python3
"""Pictures in little memory: streamed and resident weights draw the same, peaks are kept, refusals say why."""

import re
import unittest

import support
from support import BASE, PROMPT, TINY

DEMO = ("--model", "demo", "--device", "cpu", "--seed", "7", "--steps", "2")


class MemoryTest(support.ProgramTest):
    def least_gb(self, *arguments):
        """What the program says that it needs at the very least."""
        message = self.assert_fails(8, ("generate", *arguments, "--memory-budget", "0.01"), "got a budget of 0.01 GB")
        return float(re.search(r"expected at least ([\d.]+) GB of memory", message).group(1))

    def picture(self, name, *arguments):
        report = self.generate(*arguments, "--output", name, "--overwrite")
        return report, support.pixels(self.folder / name)

    def check_streamed(self, *arguments):
        _, whole = self.picture("whole.png", *arguments)
        budget = self.least_gb(*arguments) + 0.01
        report, streamed = self.picture("streamed.png", *arguments, "--memory-budget", budget)
        self.assertGreater(report["memory"]["streamed_bytes"], 0)
        self.assertLessEqual(report["memory"]["expected_peak_bytes"], budget * 1e9)
        self.assertTrue((whole == streamed).all())

    def test_streamed_weights_draw_the_same_picture(self):
        self.check_streamed(*DEMO, PROMPT)

    def test_two_passes_share_a_streamed_block(self):
        self.check_streamed(*BASE, "--seed", "1", "--steps", "2", "--guidance", "3", "--negative-prompt", "dull", PROMPT)

    def test_float32_streams_too(self):
        self.check_streamed(*TINY, "--seed", "1", "--dtype", "float32", PROMPT)

    def test_low_ram_draws_the_same_picture_and_says_so(self):
        _, whole = self.picture("whole.png", *DEMO, PROMPT)
        result = self.klein("generate", *DEMO, "--low-ram", "--output", "low.png", PROMPT)
        self.assertRegex(result.stderr, r"(?m)^memory: expected peak [\d.]+ GB of [\d.]+ GB, text encoder dropped "
                                        r"after the prompt, transformer dropped before the decoder, decoded in strips "
                                        r"of \d+ rows$")
        self.assertTrue((whole == support.pixels(self.folder / "low.png")).all())

    def test_nothing_is_said_where_memory_abounds(self):
        self.assertNotIn("memory:", self.klein("generate", *TINY, PROMPT).stderr)

    def test_several_seeds_and_prompts_stay_within_a_budget(self):
        budget = self.least_gb(*TINY, PROMPT) + 0.01
        plain = self.generate(*TINY, "--seed", "1", "2", "--output", "plain_{seed}.png", "--prompt", PROMPT)
        report = self.generate(*TINY, "--seed", "1", "2", "--output", "small_{seed}.png", "--prompt", PROMPT,
                               "--memory-budget", budget)
        self.assertEqual(len(plain["files"]), 2)
        for wanted, got in zip(plain["files"], report["files"]):
            self.assertTrue((support.pixels(self.folder / wanted) == support.pixels(self.folder / got)).all())

    def test_a_larger_picture_asks_for_more(self):
        small = self.least_gb(*DEMO, "--width", "256", "--height", "256", PROMPT)
        large = self.least_gb(*DEMO, "--width", "1024", "--height", "1024", PROMPT)
        self.assertGreater(large, small)

    def test_numbers_are_checked(self):
        for flag in ("--memory-budget", "--mlx-cache-limit-gb"):
            for text in ("0", "-1", "nan", "inf", "much"):
                self.assert_fails(2, ("generate", *TINY, PROMPT, f"{flag}={text}"),
                                  f'expected {flag} to be a number of GB above 0, got "{text}"')

    def test_a_cache_limit_on_the_cpu_is_said_to_have_no_effect(self):
        report = self.generate(*TINY, "--mlx-cache-limit-gb", "2", PROMPT)
        self.assertIn("the cache limit has no effect on the CPU, which keeps no freed memory", report["warnings"])

    def test_a_damaged_streamed_model_is_refused_before_the_first_step(self):
        budget = self.least_gb(*TINY, PROMPT) + 0.01
        model = self.model()
        weights = model / "transformer/diffusion_pytorch_model.safetensors"
        tensors = support.read_safetensors(weights)
        tensors.pop(next(name for name in tensors if name.startswith("single_transformer_blocks.")))
        support.write_safetensors(weights, **tensors)
        self.assert_fails(5, ("generate", "--model", model, *TINY[2:], PROMPT, "--memory-budget", budget),
                          "weights do not fit the model")


if __name__ == "__main__":
    unittest.main()
