"""README.md says what is true: its prompt is the one that `make image` draws, its files exist."""

import os
import re
import unittest
from pathlib import Path

ROOT = Path(os.environ["KLEIN_ROOT"])
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Readme(unittest.TestCase):
    def test_it_shows_the_prompt_that_make_image_draws(self):
        prompt = re.search(r"^PROMPT \?= (.+)$", (ROOT / "Makefile").read_text(), re.M).group(1)
        self.assertIn(prompt, README)

    def test_it_names_both_doors(self):
        self.assertIn("make image", README)
        self.assertIn("make test", README)

    def test_its_links_lead_to_files(self):
        links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", README)
        links += re.findall(r'(?:src|href)="(?!https?:|#)([^"]+)"', README)
        self.assertTrue(links)
        for link in links:
            self.assertTrue((ROOT / link).exists(), link)


if __name__ == "__main__":
    unittest.main()
