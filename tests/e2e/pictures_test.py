"""The program draws what diffusers drew, and tensors and pictures survive the way through a file."""

import json
import unittest

import numpy as np

from support import BASE, F32, MODELS, PROMPT, TINY, Image, ProgramTest, ROOT, fixture, pixels, read_safetensors, settings, \
    write_safetensors


class EqualToDiffusers(ProgramTest):
    def assert_draws(self, name, *arguments, levels=1):
        report = self.generate(*arguments)
        wanted = fixture(name)["image_u8"]
        self.assertEqual(len(report["files"]), len(wanted))
        for file, picture in zip(report["files"], wanted):
            difference = np.abs(pixels(self.folder / file).astype(int) - picture)
            self.assertLessEqual(difference.max(), levels, name)

    def arguments(self, name, model=TINY):
        """The flags that say what the fixture's settings say."""
        case = settings(name)
        flags = [case["prompts"][0], *model, *F32, "--seed", case["seeds"][0], "--steps", case["steps"]]
        if "guidance" in case:
            flags += ["--guidance", case["guidance"]]
        if "negative" in case:
            flags += ["--negative-prompt", case["negative"]]
        if "sigmas" in case:
            flags += ["--sigmas", *case["sigmas"]]
        return flags

    def test_a_distilled_model(self):
        self.assert_draws("distilled", *self.arguments("distilled"))

    def test_the_defaults_of_a_distilled_model(self):
        self.assert_draws("distilled", PROMPT, *TINY, *F32, "--seed", 42)

    def test_a_base_model_with_guidance(self):
        self.assert_draws("base_cfg", *self.arguments("base_cfg", BASE))

    def test_a_base_model_without_guidance(self):
        self.assert_draws("base_guidance_one", *self.arguments("base_guidance_one", BASE))

    def test_a_negative_prompt(self):
        self.assert_draws("base_negative", *self.arguments("base_negative", BASE))

    def test_own_sigmas(self):
        self.assert_draws("custom_sigmas", *self.arguments("custom_sigmas"))

    def test_empty_long_and_unusual_prompts(self):
        for name in ("empty_prompt", "long_prompt", "unusual_prompt"):
            with self.subTest(name):
                self.assert_draws(name, *self.arguments(name))

    def test_a_batch_from_latents_and_embeddings(self):
        case = fixture("distilled_batch")
        write_safetensors(self.folder / "noise.safetensors", latents=case["noise"])
        write_safetensors(self.folder / "embeds.safetensors", prompt_embeds=np.repeat(case["prompt_embeds"], 2, axis=0))
        self.assert_draws("distilled_batch", *TINY, *F32, "--steps", 2, "--latents", "noise.safetensors",
                          "--prompt-embeds", "embeds.safetensors")
        self.assertIn("image_4.png", self.files())

    def test_shards_in_bfloat16(self):
        sharded = ("--model", MODELS / "tiny-sharded", *TINY[2:])
        whole = self.generate(PROMPT, *TINY, "--seed", 42, "--output", "whole.png")
        split = self.generate(PROMPT, *sharded, "--seed", 42, "--output", "split.png")
        wanted = fixture("distilled_bf16")["image_u8"][0]
        a, b = (pixels(self.folder / report["files"][0]) for report in (whole, split))
        self.assertTrue(np.array_equal(a, b))
        self.assertLess(np.abs(a.astype(float) - wanted).mean(), 1.5)


class SeedsAtOnce(ProgramTest):
    def assert_same(self, command, *arguments):
        """Three seeds by twos and one by one: equal latents, and pictures but for 8-bit rounding."""
        def run(*more):
            return json.loads(self.klein(command, PROMPT, *arguments, *F32, "--device", "cpu", "--steps", 2, "--seed", 1, 2, 3,
                                         "--json", *more).stdout)

        alone = run("--output", "one.png", "--save-latents", "one.safetensors")
        both = run("--output", "two.png", "--save-latents", "two.safetensors", "--batch", 2)
        self.assertEqual((both["files"], both["seeds"], both["batch"], alone["batch"]),
                         ([f"two_seed_{seed}.png" for seed in (1, 2, 3)], [1, 2, 3], 2, 1))
        self.assertEqual(3 * len(both["step_seconds"]), 2 * len(alone["step_seconds"]))
        for seed in (1, 2, 3):
            one, two = (read_safetensors(self.folder / f"{name}_seed_{seed}.safetensors")["latents"] for name in ("one", "two"))
            self.assertLess(np.abs(one - two).max() / np.abs(one).max(), 1e-5)
            one, two = (pixels(self.folder / f"{name}_seed_{seed}.png").astype(int) for name in ("one", "two"))
            self.assertLessEqual(np.abs(one - two).max(), 1)

    def test_from_a_prompt(self):
        self.assert_same("generate", "--model", ROOT / "models/demo", "--width", 64, "--height", 48,
                         "--stepwise-image-output-dir", "steps", "--overwrite")
        self.assertIn("steps/seed_2_step2of2.png", self.files())
        self.assertTrue(np.array_equal(pixels(self.folder / "steps/seed_2_step2of2.png"), pixels(self.folder / "two_seed_2.png")))

    def test_with_guidance(self):
        self.assert_same("generate", *BASE, "--guidance", 3)

    def test_from_pictures(self):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(self.folder / "a.png")
        model = TINY[:2]
        for command, *flags in (("edit", "--image-paths", "a.png", "a.png", "--kv-cache", "off"),
                                ("edit", "--image-paths", "a.png", "--kv-cache", "on"), ("generate", "--image", "a.png", 0.5),
                                ("inpaint", "--image", "a.png", "--mask", "a.png", "--preserve", "blend")):
            with self.subTest(flags):
                self.assert_same(command, *model, *flags, "--overwrite")

    def test_what_does_not_fit_is_refused_with_the_number_of_pictures(self):
        arguments = ("generate", PROMPT, "--model", ROOT / "models/demo", "--device", "cpu", "--width", 1024, "--height", 1024)
        self.assert_fails(8, (*arguments, "--seed", *range(64), "--batch", 64, "--memory-budget", 0.8, "--quiet"),
                          "for 64 pictures of 1024 x 1024 pixels, got a budget of 0.80 GB")


class InParts(ProgramTest):
    def test_exact_strips_paint_the_same_picture(self):
        size = (*TINY, *F32, "--seed", 3, "--width", 80, "--height", 176)  # strips have 64 rows
        paint = {way: self.generate(PROMPT, *size, "--vae-tiling", way, "--output", f"{way}.png")
                 for way in ("off", "exact", "diffusers")}
        off, exact, tiles = (pixels(self.folder / report["files"][0]).astype(int) for report in paint.values())
        self.assertLessEqual(np.abs(off - exact).max(), 1)
        self.assertTrue(np.array_equal(off, tiles))  # smaller than a tile


class ThroughFiles(ProgramTest):
    def test_a_seed_repeats_its_picture(self):
        report = self.generate(PROMPT, *TINY, "--seed", 5, 5, 6, "--rng", "mlx")
        self.assertEqual(report["seeds"], [5, 5, 6])
        self.assertEqual(report["files"], ["image_seed_5.png", "image_seed_5_1.png", "image_seed_6.png"])
        first, second, third = (pixels(self.folder / file) for file in report["files"])
        self.assertTrue(np.array_equal(first, second))
        self.assertFalse(np.array_equal(first, third))

    def test_latents_come_out_as_diffusers_has_them(self):
        self.generate(PROMPT, *TINY, *F32, "--seed", 42, "--save-latents", "out/latents.safetensors")
        saved = read_safetensors(self.folder / "out/latents.safetensors")["latents"]
        wanted = fixture("distilled")["latents_3"]
        self.assertEqual((saved.shape, saved.dtype), (wanted.shape, wanted.dtype))
        self.assertLess(np.abs(saved - wanted).max(), 1e-4 * np.abs(wanted).max())

    def test_noise_and_embeddings_stand_for_seed_and_prompt(self):
        case = fixture("distilled")
        write_safetensors(self.folder / "noise.safetensors", latents=case["noise"])
        plain = self.generate(PROMPT, *TINY, *F32, "--seed", 42, "--output", "plain.png",
                              "--save-prompt-embeds", "embeds.safetensors")
        given = self.generate(*TINY, *F32, "--output", "given.png", "--latents", "noise.safetensors",
                              "--prompt-embeds", "embeds.safetensors")
        a, b = (pixels(self.folder / report["files"][0]).astype(int) for report in (plain, given))
        self.assertLessEqual(np.abs(a - b).max(), 1)  # torch's logarithm differs in the last bit
        saved = read_safetensors(self.folder / "embeds.safetensors")["prompt_embeds"]
        self.assertLess(np.abs(saved - case["prompt_embeds"]).max(), 1e-4 * np.abs(saved).max())

    def test_size_comes_from_the_latents(self):
        write_safetensors(self.folder / "noise.safetensors", latents=fixture("distilled")["noise"])
        report = self.generate(PROMPT, *TINY[:2], "--steps", 1, "--latents", "noise.safetensors")
        self.assertEqual((report["width"], report["height"]), (64, 48))

    def test_every_format_holds_the_same_picture(self):
        names = ("a.png", "a.jpg", "a.jpeg", "a.WebP")
        for name in names:
            report = self.generate(PROMPT, *TINY, "--seed", 42, "--steps", 1, "--output", name)
            self.assertEqual(report["files"], [name])
        pictures = [Image.open(self.folder / name) for name in names]
        self.assertEqual([picture.format for picture in pictures], ["PNG", "JPEG", "JPEG", "WEBP"])
        self.assertEqual({picture.size for picture in pictures}, {(64, 48)})
        # The brightness alone: a random model's colours are noise, which a lossy WebP halves.
        png, *lossy = (np.asarray(picture.convert("L")).astype(float) for picture in pictures)
        for name, picture in zip(names[1:], lossy):
            self.assertLess(np.abs(picture - png).mean(), 6.0, name)

    def test_a_prompt_from_a_file_and_from_input(self):
        (self.folder / "prompt.txt").write_text(f"\n{PROMPT}\n", encoding="utf-8")
        pictures = []
        for number, (flags, options) in enumerate([((PROMPT,), {}), (("--prompt-file", "prompt.txt"), {}),
                                                   (("--prompt", "-"), {"input": PROMPT + "\n"})]):
            report = self.generate(*flags, *TINY, "--seed", 1, "--steps", 1, "--output", f"{number}.png", **options)
            pictures.append(pixels(self.folder / report["files"][0]))
        self.assertTrue(all(np.array_equal(pictures[0], picture) for picture in pictures))


if __name__ == "__main__":
    unittest.main()
