"""klein info: what a model, a part of one or an adapter is."""

import gzip
import json
import math
import struct
import unittest

import support
from hub_server import File, Hub, Repo, repo_of
from support import FIXTURES, MODELS, ROOT, ProgramTest

DEMO = ROOT / "models/demo"
TINY = MODELS / "tiny-distilled"


def counted(path):
    """Tensors, parameters and bytes of a .safetensors file, by its header."""
    data = path.read_bytes()
    header = json.loads(data[8:8 + struct.unpack_from("<Q", data)[0]])
    header.pop("__metadata__", None)
    return (len(header), sum(math.prod(entry["shape"]) for entry in header.values()),
            sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values()))


class Info(ProgramTest):
    def setUp(self):
        super().setUp()
        self.hub = Hub()
        self.addCleanup(self.hub.close)

    def environment(self, **changes):
        plain = {key: value for key, value in support.environment().items()
                 if not key.startswith(("HF_", "HUGGING", "XDG_CACHE")) and not key.lower().endswith("_proxy")}
        return plain | {"HOME": str(self.folder), "HF_HOME": str(self.folder / "hf"),
                        "HF_ENDPOINT": self.hub.url} | changes

    def info(self, *arguments, **changes):
        result = self.klein("info", *arguments, "--json", env=self.environment(**changes))
        return json.loads(result.stdout)

    def fixture(self, name):
        path = self.folder / name
        path.write_bytes(gzip.decompress((FIXTURES / "formats" / (name + ".gz")).read_bytes()))
        return path

    def test_a_diffusers_folder(self):
        model = self.info(DEMO)
        self.assertEqual((model["kind"], model["path"], model["complete"]), ("diffusers folder", str(DEMO), True))
        self.assertEqual((model["variant"], model["variant_source"]), ("distilled", "model_index.json"))
        self.assertEqual((model["default_steps"], model["default_guidance"]), (4, 1.0))
        transformer, text_encoder, vae = model["parts"]
        for part, folder, file in ((transformer, "transformer", "diffusion_pytorch_model"),
                                   (text_encoder, "text_encoder", "model"), (vae, "vae", "diffusion_pytorch_model")):
            count, parameters, size = counted(DEMO / folder / f"{file}.safetensors")
            self.assertEqual((part["path"], part["parameters"], part["bytes"]),
                             (str(DEMO / folder), parameters, size))
            self.assertEqual(sum(form["tensors"] for form in part["formats"]), count)
        self.assertEqual(transformer["sizes"], {"double blocks": 1, "single blocks": 6, "heads": 4, "head width": 64,
                                                "width": 256, "prompt width": 384})
        self.assertEqual((text_encoder["sizes"]["layers"], vae["sizes"]["latent channels"]), (4, 32))
        self.assertEqual([part["names"] for part in model["parts"]], ["diffusers", "transformers", "diffusers"])
        self.assertGreater(model["peak_bytes_1024"], model["least_peak_bytes_1024"])
        self.assertLess(self.info(DEMO, "-q", 4)["least_peak_bytes_1024"], model["peak_bytes_1024"])
        text = self.klein("info", DEMO).stdout
        for piece in ("diffusers folder", "distilled, says model_index.json", "single blocks 6", "M parameters",
                      "for a picture of 1024 x 1024"):
            self.assertIn(piece, text)

    def test_a_saved_folder(self):
        self.klein("save", "--model", DEMO, "-q", 4, "--path", "saved")
        model = self.info("saved")
        self.assertEqual(model["kind"], "mflux folder")
        transformer = model["parts"][0]
        self.assertEqual((transformer["names"], transformer["saved_by"]), ("mflux", "mflux 0.24.0"))
        self.assertIn("affine 4-bit", [form["name"] for form in transformer["formats"]])
        self.assertEqual(transformer["parameters"], self.info(DEMO)["parts"][0]["parameters"])

    def test_single_parts(self):
        gguf = self.info(self.fixture("transformer-Q4_K_M.gguf"))
        self.assertEqual((gguf["kind"], gguf["complete"]), ("file of a transformer", False))
        self.assertEqual(gguf["missing_parts"], ["text_encoder", "vae", "tokenizer"])
        self.assertEqual(gguf["parts"][0]["names"], "BFL")
        self.assertIn("Q4_K", [form["name"] for form in gguf["parts"][0]["formats"]])
        self.assertIsNone(gguf["variant"])
        vae = self.info(self.fixture("ae.safetensors"))
        self.assertEqual((vae["kind"], vae["parts"][0]["names"]), ("file of an autoencoder", "BFL"))
        text_encoder = self.info(TINY / "text_encoder")
        self.assertEqual((text_encoder["kind"], text_encoder["parts"][0]["sizes"]["layers"]),
                         ("folder of a text encoder", 4))
        self.assertEqual(self.info(self.fixture("comfy_checkpoint.safetensors"))["kind"],
                         "file of a transformer, a text encoder and an autoencoder")

    def test_the_name_of_a_file_tells_the_variant_and_where_the_rest_comes_from(self):
        path = self.fixture("bfl.safetensors").rename(self.folder / "flux-2-klein-base-4b.safetensors")
        model = self.info(path)
        self.assertEqual((model["variant"], model["variant_source"]), ("base", "its name"))
        self.assertEqual(model["missing_from"], "black-forest-labs/FLUX.2-klein-base-4B")
        model = self.info(path, "--base-model", "klein-9b-kv")
        self.assertEqual((model["variant"], model["variant_source"]), ("kv", "--base-model"))
        self.assertEqual(self.hub.requests, [])

    def test_an_adapter(self):
        lora = self.info(self.fixture("refused_lora.safetensors"))
        self.assertEqual((lora["kind"], lora["parts"][0]["name"], lora["parts"][0]["sizes"]),
                         ("LoRA", "LoRA", {"rank": 4}))
        self.assertEqual(lora["parts"][0]["formats"], [{"name": "F32", "tensors": 1, "bytes": 64}])

    def test_a_repository_that_is_not_here(self):
        self.hub.repos["org/tiny"] = Repo(repo_of(MODELS / "tiny-sharded") | {"README.md": File(b"x" * 99)})
        model = self.info("org/tiny")
        self.assertEqual((model["kind"], model["path"], model["repo"], model["complete"]),
                         ("repository of the Hugging Face hub", None, "org/tiny", False))
        files = {path.relative_to(MODELS / "tiny-sharded").as_posix(): path.stat().st_size
                 for path in (MODELS / "tiny-sharded").rglob("*") if path.is_file()}
        listed = {file["name"]: file["bytes"] for file in model["download"]["files"]}
        self.assertLessEqual(listed.items(), files.items())
        self.assertLessEqual({name for name in files if name.endswith(".safetensors")}, set(listed))
        self.assertEqual(model["download"]["bytes"], sum(listed.values()))
        self.assertEqual(model["download"]["missing_bytes"], sum(listed.values()))
        self.assertFalse((self.folder / "hf").exists())
        self.assertIn("are not here yet", self.klein("info", "org/tiny", env=self.environment()).stdout)

        self.klein("generate", "a cat", "-m", "org/tiny", "--width", 64, "--height", 48, "--steps", 1,
                   env=self.environment())
        model = self.info("org/tiny")
        self.assertEqual((model["kind"], model["repo"], model["download"]), ("diffusers folder", "org/tiny", None))

    def test_a_known_name_without_the_hub(self):
        result = self.klein("info", "klein-9b-kv", "--json", env=self.environment(HF_HUB_OFFLINE="1"))
        model = json.loads(result.stdout)
        self.assertEqual((model["variant"], model["repo"]), ("kv", "black-forest-labs/FLUX.2-klein-9b-kv"))
        self.assertEqual((model["download"]["bytes"], model["download"]["files"]), (34_723_000_000, []))
        self.assertTrue(result.stderr.startswith("warning: the size is only about right, since the hub did not tell "
                                                 "it: expected black-forest-labs/FLUX.2-klein-9b-kv in the cache"))

    def test_refusals(self):
        picture = FIXTURES / "demo/0.png"
        self.assertEqual(
            self.assert_fails(6, ("info", picture)),
            f"klein: error: expected a model, a part of one or an adapter, got a picture: {picture}")
        (self.folder / "text").write_text("hello, this is no model")
        self.assert_fails(4, ("info", "text"))
        (self.folder / "empty").mkdir()
        self.assert_fails(3, ("info", "empty"), "expected weights", "found 0 files")
        self.assert_fails(3, ("info", "nowhere"), "found none: nowhere")
        self.assert_fails(6, ("info", self.fixture("refused_flux1.safetensors")), "FLUX.1")
        self.assert_fails(2, ("info",), "expected MODEL, got none")
        self.assert_fails(2, ("info", DEMO, DEMO), "expected nothing more")


if __name__ == "__main__":
    unittest.main()
