"""klein save: what is saved draws the same picture, bit for bit, whatever the layout and the packing."""

import gzip
import json
import shutil
import signal
import struct
import subprocess
import time
import unittest

import support
from support import FIXTURES, MODELS, PROGRAM, ROOT, ProgramTest

DEMO = ROOT / "models/demo"
SMALL = ("a red apple", "--width", 64, "--height", 64, "--steps", 2, "--seed", 3, "--device", "cpu", "--overwrite")
PARTS = ("transformer", "text_encoder", "vae")


def header(path):
    data = path.read_bytes()
    return json.loads(data[8:8 + struct.unpack_from("<Q", data)[0]])


def tensors(folder):
    """Name -> shape and dtype of all shards of a folder."""
    found = {}
    for path in folder.glob("*.safetensors"):
        found |= {name: entry for name, entry in header(path).items() if name != "__metadata__"}
    return found


class SaveTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.target = self.folder / "saved"

    def picture(self, *arguments):
        self.generate(*SMALL, *arguments)
        return (self.folder / "image.png").read_bytes()

    def save(self, *arguments):
        return json.loads(self.klein("save", "--path", self.target, *arguments, "--json", "--quiet").stdout)


@unittest.skipUnless((DEMO / "model_index.json").exists(), "needs the demo model")
class Demo(SaveTest):
    def test_the_same_picture_from_mflux_and_diffusers_layouts(self):
        whole = self.picture("-m", DEMO)
        for layout in ("mflux", "diffusers"):
            report = self.save("--model", DEMO, "--format", layout)
            files = [path for path in self.target.rglob("*") if path.is_file()]
            self.assertEqual(sorted(report["files"]), sorted(map(str, files)))
            self.assertEqual(report["bytes"], sum(path.stat().st_size for path in files))
            self.assertEqual(self.picture("-m", self.target), whole, layout)
            self.assertEqual((self.target / "tokenizer/tokenizer.json").read_bytes(),
                             (DEMO / "tokenizer/tokenizer.json").read_bytes())
            shutil.rmtree(self.target)

    def test_every_packing_is_the_one_in_memory(self):
        group = {"mxfp8": 32, "mxfp4": 32, "nvfp4": 16, "fp8": 1}
        for packing in ("3", "4", "5", "6", "8", "fp8", "mxfp8", "mxfp4", "nvfp4"):
            with self.subTest(packing):
                self.save("--model", DEMO, "-q", packing)
                self.assertEqual(self.picture("-m", self.target), self.picture("-m", DEMO, "-q", packing))
                for part in PARTS:
                    matrices = {name.removeprefix("model.") for name, entry in tensors(DEMO / part).items()
                                if len(entry["shape"]) == 2 and entry["shape"][1] % group.get(packing, 64) == 0}
                    scales = ".weight_scale" if packing == "fp8" else ".scales"
                    packed = {name.removesuffix(scales) + ".weight" for name in tensors(self.target / part)
                              if name.endswith(scales)}
                    self.assertEqual(len(packed), len(matrices), part)
                    metadata = header(self.target / part / "0.safetensors")["__metadata__"]
                    self.assertEqual(metadata["quantization_level"], packing if matrices else "None")
                shutil.rmtree(self.target)

    def test_parts_may_be_packed_differently_and_stay_so_when_saved_again(self):
        mixed = ("--quantize-transformer", 4, "--quantize-text-encoder", 8)
        picture = self.picture("-m", DEMO, *mixed)
        self.save("--model", DEMO, *mixed)
        self.assertEqual(self.picture("-m", self.target), picture)
        again = self.folder / "again"
        self.klein("save", "--model", self.target, "--path", again)
        self.assertEqual(self.picture("-m", again), picture)
        for part, level in (("transformer", "4"), ("text_encoder", "8"), ("vae", "None")):
            self.assertEqual(header(again / part / "0.safetensors")["__metadata__"]["quantization_level"], level)
        index = json.loads((again / "transformer/model.safetensors.index.json").read_text())
        self.assertEqual(set(index["weight_map"]), set(tensors(again / "transformer")))

    def test_parts_from_elsewhere_are_saved(self):
        self.save("--model", DEMO, "--vae", DEMO / "vae", "--tokenizer", DEMO / "tokenizer/tokenizer.json")
        self.assertEqual(self.picture("-m", self.target), self.picture("-m", DEMO))

    def test_an_interrupted_save_leaves_nothing(self):
        for _ in range(20):  # it may be done before the signal comes
            process = subprocess.Popen([PROGRAM, "save", "--model", DEMO, "-q", "3", "--path", "a/b/c"],
                                       cwd=self.folder, env=support.environment(), stderr=subprocess.PIPE, text=True)
            while process.poll() is None and not any(self.folder.rglob(".klein-*")):
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            if process.returncode != 0:
                break
            shutil.rmtree(self.folder / "a")
        self.assertEqual(process.returncode, 130, errors)
        self.assertTrue(errors.endswith("klein: error: stopped on request\n"), errors)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_refusals(self):
        (self.folder / "full").mkdir()
        (self.folder / "full/a").touch()
        for path in ("full", "full/a"):
            self.assertEqual(self.assert_fails(2, ("save", "--model", DEMO, "--path", path)),
                             f"klein: error: expected a new or empty folder, got one that is not: {path}")
        self.assertEqual(
            self.assert_fails(2, ("save", "--model", DEMO, "--path", "new", "-q", 4, "--format", "diffusers")),
            "klein: error: expected no quantization, since only mflux's layout can hold packed weights")
        self.assertEqual(
            self.assert_fails(6, ("save", "--model", DEMO, "--path", "new", "--format", "bfl")),
            "klein: error: expected norm_num_groups to be 32, which readers of BFL's files take for granted, got 8: "
            f"{DEMO}")
        self.assert_fails(2, ("save", "--model", DEMO), "expected --path, got none")
        self.assert_fails(2, ("save", "--model", DEMO, "--path", "new", "--format", "gguf"))
        (self.folder / "empty").mkdir()
        self.target = self.folder / "empty"
        self.save("--model", DEMO)
        self.assertTrue((self.target / "model_index.json").exists())


class Loras(SaveTest):
    def test_a_lora_is_merged_before_the_weights_are_packed(self):
        tiny, lora = MODELS / "tiny-distilled", ("--lora", FIXTURES / "lora/diffusers.safetensors", "0.5")
        for packing in ((), ("-q", "fp8")):
            self.save("--model", tiny, *lora, *packing)
            with_lora = self.picture("-m", tiny, *lora, "--merge-loras", *packing, "--dtype", "bfloat16")
            self.assertEqual(self.picture("-m", self.target, "--dtype", "bfloat16"), with_lora)
            self.assertNotEqual(self.picture("-m", tiny, *packing), with_lora)
            shutil.rmtree(self.target)


class SingleFiles(SaveTest):
    """A model whose settings are those that every reader of BFL's files takes for granted."""

    def unpacked(self, name):
        path = self.folder / "unpacked.safetensors"
        path.write_bytes(gzip.decompress((FIXTURES / "formats/diffusers" / (name + ".gz")).read_bytes()))
        return support.read_safetensors(path)

    def make(self, variant):
        """The fixtures' transformer and autoencoder, with 28 narrow layers of a tiny model's text encoder."""
        model = self.folder / f"model-{variant}"
        shutil.copytree(MODELS / "tiny-distilled/tokenizer", model / "tokenizer")
        shutil.copytree(MODELS / "tiny-distilled/scheduler", model / "scheduler")
        for part in PARTS:
            source = MODELS / "tiny-distilled" if part == "text_encoder" else FIXTURES / "formats/diffusers"
            (model / part).mkdir()
            shutil.copy(source / part / "config.json", model / part)
        transformer = self.unpacked("transformer/diffusion_pytorch_model.safetensors")
        transformer["context_embedder.weight"] = transformer["context_embedder.weight"][:, :96]
        support.write_safetensors(model / "transformer/diffusion_pytorch_model.safetensors", **transformer)
        support.write_safetensors(model / "vae/diffusion_pytorch_model.safetensors",
                                  **self.unpacked("vae/diffusion_pytorch_model.safetensors"))
        tiny = support.read_safetensors(MODELS / "tiny-distilled/text_encoder/model.safetensors")
        text = {name: value for name, value in tiny.items() if ".layers." not in name}
        for layer in range(28):
            prefix = f"model.layers.{layer % 4}."
            text |= {f"model.layers.{layer}." + name.removeprefix(prefix): value
                     for name, value in tiny.items() if name.startswith(prefix)}
        support.write_safetensors(model / "text_encoder/model.safetensors", **text)
        self.change(model / "transformer/config.json", joint_attention_dim=96)
        self.change(model / "text_encoder/config.json", num_hidden_layers=28, layer_types=["full_attention"] * 28)
        index = json.loads((MODELS / "tiny-distilled/model_index.json").read_text())
        index |= {"text_encoder_out_layers": [9, 18, 27], "max_sequence_length": 512,
                  "is_distilled": variant == "distilled"}
        (model / "model_index.json").write_text(json.dumps(index))
        return model

    def change(self, path, **fields):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    def test_the_same_picture_from_single_files(self):
        for variant, name in (("distilled", "flux-2-klein"), ("base", "flux-2-klein-base")):
            model = self.make(variant)
            picture = self.picture("-m", model)
            self.save("--model", model, "--format", "bfl")
            self.assertEqual(sorted(path.name for path in self.target.iterdir()),
                             ["ae.safetensors", name + ".safetensors", "text_encoder", "tokenizer"])
            names = tensors(self.target)
            self.assertIn("double_blocks.0.img_attn.qkv.weight", names)
            self.assertEqual(names["encoder.mid.attn_1.q.weight"]["shape"][2:], [1, 1])
            parts = ("--vae", self.target / "ae.safetensors", "--text-encoder", self.target / "text_encoder",
                     "--tokenizer", self.target / "tokenizer")
            report = self.generate(*SMALL, "-m", self.target / (name + ".safetensors"), *parts)
            self.assertEqual((self.folder / "image.png").read_bytes(), picture)
            self.assertEqual(report["guidance"], 4.0 if variant == "base" else 1.0)
            shutil.rmtree(self.target)


if __name__ == "__main__":
    unittest.main()
