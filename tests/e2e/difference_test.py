"""A model whose transformer is a LoRA on another model's weights: the same as the weights that numpy adds up."""

import json
import shutil
import unittest

import support
from support import F32, FIXTURES, MODELS, PROMPT, np, read_safetensors, write_safetensors

BASE = MODELS / "tiny-base"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL = ("--width", 64, "--height", 48, "--device", "cpu", "--seed", 1, "--steps", 2)
NOT_FOUND, UNSUPPORTED = 3, 6


def widened(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(values):
    """To the nearest bfloat16, ties to even, as its bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


class Difference(support.ProgramTest):
    """folder/low-rank, whose transformer holds a LoRA on every matrix of folder/base, and folder/full with the sums."""

    def setUp(self):
        super().setUp()
        for model in ("base", "low-rank", "full"):
            (self.folder / model).mkdir()
            for part in ("model_index.json", "scheduler", "text_encoder", "tokenizer", "vae"):
                (self.folder / model / part).symlink_to(BASE / part)
        shutil.copytree(BASE / "transformer", self.folder / "base/transformer")
        self.adapter, full = self.folder / "low-rank/transformer", self.folder / "full/transformer"
        for folder in (self.adapter, full):
            folder.mkdir()
            (folder / "config.json").symlink_to("../../base/transformer/config.json")
        self.write_config("../../base/transformer")
        lora, self.sums = self.add_up(read_safetensors(BASE / "transformer" / WEIGHTS))
        write_safetensors(self.adapter / "adapter_model.safetensors", **lora)
        write_safetensors(full / WEIGHTS, **self.sums)

    def add_up(self, weights):
        """Factors for every matrix, and the sums; multiples of 2^-6, so that all products are exact."""
        random = np.random.default_rng(0)
        lora, sums = {}, dict(weights)
        for name, weight in weights.items():
            if weight.ndim != 2:
                continue
            a, b = (random.integers(-8, 9, shape).astype(np.float32) / 64
                    for shape in ((3, weight.shape[1]), (weight.shape[0], 3)))
            layer = "transformer." + name.removesuffix(".weight")
            lora |= {layer + ".lora_A.weight": a, layer + ".lora_B.weight": b}
            is_bfloat16 = weight.dtype == np.uint16
            total = (widened(weight) if is_bfloat16 else weight) + b @ a
            sums[name] = rounded(total) if is_bfloat16 else total
        return lora, sums

    def write_config(self, base):
        config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 3, "lora_alpha": 3}
        (self.adapter / "adapter_config.json").write_text(json.dumps(config))

    def latents(self, model, *arguments, command="generate"):
        self.klein(command, PROMPT, "--model", model, *SMALL, *arguments, "--output", "x.png",
                   "--save-latents", "x.safetensors", "--overwrite", "--quiet")
        return read_safetensors(self.folder / "x.safetensors")["latents"].tobytes()

    def test_pictures_are_those_of_the_sums(self):
        lora = ("--lora", FIXTURES / "lora/diffusers.safetensors")
        plain = self.latents("full", *F32)
        self.assertNotEqual(plain, self.latents("base", *F32))
        for flags in (F32, (*F32, "--low-ram"), (*F32, "--guidance", 1), ("-q", 8),
                      ("-q", "fp8"), (*F32, *lora), (*F32, *lora, "--merge-loras"), (*lora, "--merge-loras", "-q", 4)):
            with self.subTest(flags):
                self.assertEqual(self.latents("low-rank", *flags), self.latents("full", *flags))
        self.assertEqual(self.latents("base", *F32, "--transformer", self.adapter), plain)
        self.assertEqual(self.latents("base", *F32, "--transformer", "low-rank"), plain)
        edit = ("--image-paths", FIXTURES / "demo/0.png", "--kv-cache", "on", *F32)
        self.assertEqual(self.latents("low-rank", *edit, command="edit"), self.latents("full", *edit, command="edit"))

    def test_what_is_saved_are_the_sums(self):
        for layout, flags in (("diffusers", ()), ("mflux", ()), ("mflux", ("-q", 4))):
            for model in ("low-rank", "full"):
                self.klein("save", "--model", model, "--path", f"{model}-saved", "--format", layout, *flags)
            saved, wanted = (sorted((self.folder / f"{model}-saved").rglob("*.*")) for model in ("low-rank", "full"))
            self.assertEqual([a.read_bytes() for a in saved if a.is_file()],
                             [b.read_bytes() for b in wanted if b.is_file()])
            if layout == "diffusers":
                weights = read_safetensors(self.folder / "low-rank-saved/transformer" / WEIGHTS)
                self.assertEqual(set(weights), set(self.sums))
                for name, total in self.sums.items():
                    np.testing.assert_array_equal(weights[name], total, name)
            for model in ("low-rank", "full"):
                shutil.rmtree(self.folder / f"{model}-saved")

    def test_reports_tell_of_it_and_of_no_lora(self):
        transformer, *others = json.loads(self.klein("info", "low-rank", "--json").stdout)["parts"]
        full = json.loads(self.klein("info", "full", "--json").stdout)["parts"][0]
        base = str((self.folder / "base/transformer").resolve())
        self.assertEqual((transformer["base"], transformer["path"]), (base, "low-rank/transformer"))
        self.assertEqual((transformer["sizes"], transformer["parameters"]), (full["sizes"], full["parameters"]))
        self.assertEqual([part["base"] for part in (full, *others)], [None] * 3)
        self.assertIn(f"a low-rank difference to {base}\n", self.klein("info", "low-rank").stdout)
        self.assertEqual(self.generate(PROMPT, "--model", "low-rank", *SMALL)["loras"], [])
        self.assertNotIn(b"adapter_model", (self.folder / "image.png").read_bytes())
        report = json.loads(self.klein("bench", "-m", "low-rank", "--device", "cpu", "--width", 64, "--height", 48,
                                       "--steps", 1, "--runs", 1, "--json", "--quiet").stdout)
        self.assertEqual(report["loras"], [])

    def test_a_base_that_cannot_be_is_refused(self):
        for base, status, message in (
                ("org/model", UNSUPPORTED, "expected base_model_name_or_path to be a path that begins with ./ or ../, got"),
                ("../../none", NOT_FOUND, "expected a folder of weights where base_model_name_or_path leads, found none"),
                ("./", UNSUPPORTED, "expected weights where base_model_name_or_path leads, got another LoRA")):
            self.write_config(base)
            for command in (("info", "low-rank"), ("generate", PROMPT, "--model", "low-rank", "--quiet"),
                            ("save", "--model", "low-rank", "--path", "saved")):
                self.assert_fails(status, command, message, "low-rank/transformer/adapter_config.json")


if __name__ == "__main__":
    unittest.main()
