#!/usr/bin/env python3
"""LoRAs with the real program: at run time and merged, their names, what is refused, and the library."""

import json
import unittest

import support
from support import F32, FIXTURES, MODELS, PROMPT, TINY, np, write_safetensors

LORAS = FIXTURES / "lora"
IMAGE, TEXT = LORAS / "kohya.safetensors", LORAS / "text_kohya.safetensors"
SEED = ("--seed", "1", "--steps", "2")
NOT_FOUND, FORMAT, SHAPE, UNSUPPORTED = 3, 4, 5, 6


def factors(layer, rank, in_, out, value=1.0):
    return {f"{layer}.lora_A.weight": np.full((rank, in_), value, np.float32),
            f"{layer}.lora_B.weight": np.full((out, rank), 0.01, np.float32)}


class LoraTest(support.ProgramTest):
    def write(self, name, *layers, folder="."):
        path = self.folder / folder / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, **{key: value for layer in layers for key, value in factors(*layer).items()})
        return path

    def latents(self, *arguments):
        self.generate(PROMPT, *TINY, *SEED, *F32, *arguments, "--output", "x.png", "--save-latents", "x.safetensors",
                      "--overwrite")
        return support.read_safetensors(self.folder / "x.safetensors")["latents"]

    def assert_close(self, got, want, tolerance=1e-4):
        self.assertLess(abs(got - want).max() / abs(want).max(), tolerance)

    def assert_apart(self, got, other):
        self.assertGreater(abs(got - other).max() / abs(other).max(), 1e-3)


class Pictures(LoraTest):
    def test_at_run_time_and_merged_it_is_the_same_picture(self):
        plain = self.latents()
        for loras in (("--lora", IMAGE, "0.8"), ("--lora", LORAS / "lokr_ai_toolkit.safetensors"),
                      ("--lora", LORAS / "loha.safetensors"), ("--lora", IMAGE, "--lora", TEXT, "0.5")):
            at_run_time, merged = self.latents(*loras), self.latents(*loras, "--merge-loras")
            self.assert_close(at_run_time, merged)
            self.assert_apart(at_run_time, plain)

    def test_scales_count_and_loras_add_up(self):
        plain, once = self.latents(), self.latents("--lora", IMAGE)
        half = self.latents("--lora", IMAGE, "0.5")
        self.assert_apart(half, once)
        self.assertTrue((self.latents("--lora", IMAGE, "0") == plain).all())
        self.assert_close(self.latents("--lora", IMAGE, "0.5", "--lora", IMAGE, "0.5"), once)
        self.assert_close(self.latents("--lora", IMAGE, "--lora", IMAGE, "-1"), plain)
        both = self.latents("--lora", IMAGE, "--lora", TEXT)
        self.assert_apart(both, once)
        self.assert_apart(both, self.latents("--lora", TEXT))

    def test_packed_weights_stay_packed(self):
        picture = lambda *flags: support.pixels(self.folder / self.generate(
            PROMPT, *TINY, *SEED, *flags, "--output", "x.png", "--overwrite")["files"][0])
        lora = ("-q", "fp8", "--lora", IMAGE)
        self.assertFalse((picture(*lora) == picture("-q", "fp8")).all())
        self.klein("save", "--model", MODELS / "tiny-distilled", "-q", "mxfp8", "--path", "packed")
        on_packed = ("generate", PROMPT, "--model", "packed", *TINY[2:], *SEED, "--lora", IMAGE)
        self.assertNotIn("become bfloat16", self.klein(*on_packed).stderr)
        self.assertIn("become bfloat16", self.klein(*on_packed, "--merge-loras").stderr)

    def test_parts_that_come_and_go_get_them_too(self):
        loras = ("--lora", IMAGE, "--lora", TEXT)
        whole = self.latents(*loras)
        self.assertTrue((self.latents(*loras, "--low-ram") == whole).all())
        self.generate(PROMPT, *TINY, *F32, *loras, "--seed", "5", "1", "--steps", "2", "--output", "{seed}.png",
                      "--save-latents", "{seed}.safetensors")
        self.assertTrue((support.read_safetensors(self.folder / "1.safetensors")["latents"] == whole).all())


class Reports(LoraTest):
    def test_the_report_lists_files_and_scales(self):
        library = support.environment(LORA_LIBRARY_PATH=str(LORAS))
        for command in (("generate", PROMPT, "--seed", "1"), ("bench",)):
            for flags, merged in (((), False), (("--merge-loras",), True)):
                result = self.klein(*command, *TINY, "--steps", "2", "--lora", "kohya", "0.5", "--lora", TEXT, *flags, "--json",
                                    "--quiet", env=library)
                self.assertEqual(json.loads(result.stdout)["loras"], [
                    {"name": "kohya", "file": str(IMAGE), "scale": 0.5, "merged": merged},
                    {"name": str(TEXT), "file": str(TEXT), "scale": 1.0, "merged": merged}])
        self.assertEqual(self.generate(PROMPT, *TINY, *SEED)["loras"], [])

    def test_every_layer_without_a_place_is_named_once(self):
        path = self.write("x", ("proj_out", 1, 16, 128), ("unet.mid", 1, 2, 2), ("double_blocks.9.img_mlp.0", 1, 16, 96))
        expected = ("the model has no place for 2 of 3 layers of x.safetensors: double_blocks.9.img_mlp.0, unet.mid")
        for flags in ((), ("--merge-loras",)):
            result = self.klein("generate", PROMPT, *TINY, "--steps", "1", "--seed", "1", "2", "--lora", path, *flags)
            self.assertEqual(result.stderr.count("warning: " + expected), 1)


class Refusals(LoraTest):
    def refused(self, status, message, path):
        for flags in ((), ("--merge-loras",)):
            arguments = ("generate", PROMPT, *TINY, *SEED, "--quiet", "--lora", path, *flags)
            self.assertEqual(self.assert_fails(status, arguments), "klein: error: " + message)

    def test_files_that_are_no_lora_for_this_model(self):
        x = self.folder / "x.safetensors"
        self.write("x", ("unet.mid", 1, 2, 2))
        self.refused(UNSUPPORTED, "expected a LoRA for FLUX.2 [klein], got one that changes none of its layers, with "
                                  f"unet.mid: {x}", x)
        self.write("x", ("proj_out", 1, 3072, 128))
        self.refused(SHAPE, f"expected a LoRA of the model's size, [128, 16] for proj_out, got [128, 3072]: {x}", x)
        self.write("x", ("proj_out", 1, 16, 128, float("nan")))
        self.refused(FORMAT, f"expected finite numbers, got a NaN or an infinity in proj_out.lora_A: {x}", x)
        self.refused(NOT_FOUND, "expected a LoRA's file, a name in LORA_LIBRARY_PATH, org/repo or org/repo:FILE, found "
                                "none: nowhere.safetensors", "nowhere.safetensors")

    def test_a_table_of_embeddings_can_only_be_merged(self):
        with (MODELS / "tiny-distilled/text_encoder/config.json").open() as config:
            sizes = json.load(config)
        path = self.write("x", ("text_encoder.model.embed_tokens", 1, sizes["hidden_size"], sizes["vocab_size"]))
        arguments = (PROMPT, *TINY, *SEED, "--quiet", "--lora", path)
        self.assert_fails(UNSUPPORTED, ("generate", *arguments), "expected a LoRA that changes linear layers, got one "
                          "that changes the table model.embed_tokens.weight")
        self.klein("generate", *arguments, "--merge-loras")


class Library(LoraTest):
    def test_it_lists_what_is_there(self):
        self.write("fox", ("transformer.proj_out", 4, 3072, 128), folder="a/deep")
        self.write("fox", ("transformer.proj_out", 8, 4096, 128), folder="b")
        self.write("owl", ("transformer.proj_out", 8, 4096, 128), ("img_in", 2, 128, 4096), folder="b")
        (self.folder / "b/broken.safetensors").write_bytes(b"x")
        env = support.environment(LORA_LIBRARY_PATH=f"{self.folder}/a:{self.folder}/b")
        broken, fox, owl = json.loads(self.klein("lora", "list", "--json", env=env).stdout)
        self.assertEqual(fox, {"name": "fox", "file": str(self.folder / "a/deep/fox.safetensors"), "kind": "LoRA",
                               "bytes": (self.folder / "a/deep/fox.safetensors").stat().st_size, "ranks": [4],
                               "layers": 1, "models": ["4B"], "fault": None})
        self.assertEqual((owl["models"], owl["ranks"], owl["layers"]), (["9B"], [2, 8], 2))
        self.assertEqual((broken["name"], broken["kind"], broken["layers"]), ("broken", None, 0))
        self.assertIn("broken.safetensors", broken["fault"])
        table = self.klein("lora", "list", env=env).stdout
        self.assertRegex(table, r"(?m)^fox +LoRA +4 +1 +4B ")
        self.assertRegex(table, r"(?m)^owl +LoRA +2-8 +2 +9B ")
        self.assertIn("  cannot be used: ", table)
        self.assertTrue(table.endswith("\n3 LoRAs\n"))
        listed = json.loads(self.klein("lora", "list", "--json", "--paths", self.folder / "b", self.folder / "a").stdout)
        self.assertEqual([lora["models"] for lora in listed if lora["name"] == "fox"], [["9B"]])

    def test_without_folders_it_says_what_to_do(self):
        env = support.environment()
        env.pop("LORA_LIBRARY_PATH", None)
        self.assert_fails(NOT_FOUND, ("lora", "list"), "expected folders of LoRAs in LORA_LIBRARY_PATH, found none",
                          env=env)
        self.assert_fails(NOT_FOUND, ("lora", "list", "--paths", "none"), "expected folders of LoRAs, found none: none")
        self.assert_fails(2, ("lora",), "expected ACTION, got none")
        self.assertIn("Usage: klein lora", self.klein("lora", "--help").stdout)
        (self.folder / "empty").mkdir()
        self.assertEqual(self.klein("lora", "list", "--paths", "empty").stdout, "0 LoRAs\n")


if __name__ == "__main__":
    unittest.main()
