#!/usr/bin/env python3
"""Pictures in little memory: they are the same, peaks are kept, refusals say why."""

import re
import unittest

import support
from support import BASE, PROMPT, TINY

DEMO = ("--model", "demo", "--device", "cpu", "--seed", "7", "--steps", "2")
WHOLE = ("--vae-tiling", "off")  # strips round bfloat16 otherwise, here and there


class MemoryTest(support.ProgramTest):
    def least_gb(self, *arguments):
        """What the program says that it needs at the very least."""
        message = self.assert_fails(8, ("generate", *arguments, "--quiet", "--memory-budget", "0.01"),
                                    "got a budget of 0.01 GB")
        return float(re.search(r"expected at least ([\d.]+) GB of memory", message).group(1))

    def picture(self, name, *arguments):
        report = self.generate(*arguments, "--output", name, "--overwrite")
        return report, support.pixels(self.folder / name)

    def check_same_picture_in_the_least(self, *arguments):
        _, whole = self.picture("whole.png", *arguments)
        budget = self.least_gb(*arguments) + 0.01
        report, small = self.picture("small.png", *arguments, "--memory-budget", budget)
        self.assertLessEqual(report["memory"]["expected_peak_bytes"], budget * 1e9)
        self.assertLessEqual(report["peak_memory_bytes"], report["memory"]["expected_peak_bytes"])
        self.assertTrue((whole == small).all())

    def test_the_least_memory_draws_the_same_picture(self):
        self.check_same_picture_in_the_least(*DEMO, *WHOLE, PROMPT)
        self.check_same_picture_in_the_least(*TINY, *WHOLE, "--seed", "1", "--dtype", "float32", PROMPT)
        self.check_same_picture_in_the_least(*BASE, *WHOLE, "--seed", "1", "--steps", "2", "--guidance", "3",
                                             "--negative-prompt", "dull", PROMPT)

    def test_low_ram_draws_the_same_picture_and_says_so(self):
        _, whole = self.picture("whole.png", *DEMO, *WHOLE, PROMPT)
        _, low = self.picture("low.png", *DEMO, *WHOLE, "--low-ram", PROMPT)
        self.assertTrue((whole == low).all())
        result = self.klein("generate", *DEMO, "--low-ram", "--output", "strips.png", PROMPT)
        self.assertRegex(result.stderr, r"(?m)^memory: expected peak [\d.]+ GB of [\d.]+ GB, text encoder dropped "
                                        r"after the prompt, transformer dropped before the decoder, decoded in strips "
                                        r"of \d+ rows$")
        difference = abs(whole.astype(int) - support.pixels(self.folder / "strips.png"))
        self.assertLess(difference.mean(), 0.5)

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

    def test_exact_arithmetic_on_the_cpu_is_said_to_have_no_effect(self):
        report = self.generate(*TINY, "--device", "cpu", "--precision", "exact", PROMPT)
        self.assertIn("the precision exact has no effect on the CPU, which computes in one way only", report["warnings"])


if __name__ == "__main__":
    unittest.main()
