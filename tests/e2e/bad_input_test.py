"""Every kind of bad input is one clear error with the contract's status, and leaves nothing behind."""

import json
import os
import resource
import shutil
import struct
import subprocess
import unittest
from pathlib import Path

import support
from support import BASE, FIXTURES, PROMPT, TINY, ProgramTest, fixture, np, safetensors_bytes, write_safetensors

USAGE, NOT_FOUND, FORMAT, SHAPE, UNSUPPORTED, IO, MEMORY = 2, 3, 4, 5, 6, 7, 8
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


class Requests(ProgramTest):
    def fails(self, status, *arguments, fragments=(), model=TINY):
        return self.assert_fails(status, ("generate", PROMPT, "--quiet", *model, *arguments), *fragments)

    def test_flags(self):
        for arguments, fragment in (
                (("--no-such-flag",), '"--no-such-flag"'), (("--width", "0"), "0"), (("--width", "-16"), "-16"),
                (("--width", "100000", "--height", "100000"), "100000 x 100000"), (("--steps", "0"), "0"),
                (("--steps", "-3"), "-3"), (("--guidance", "-1"), "-1"), (("--seed", "-1"), '"-1"'),
                (("--output", "a.bmp"), '"a.bmp"'), (("--sigmas", "2"), "2"), (("--rng", "x"), '"x"'),
                (("--width", "2x"), "2x"), (("more",), '"more"')):
            with self.subTest(arguments):
                self.fails(USAGE, *arguments, fragments=[fragment])

    def test_commands(self):
        for arguments in ((), ("paint",), ("edit", PROMPT), ("serve",), ("--nothing",)):
            with self.subTest(arguments):
                self.assert_fails(USAGE, arguments)

    def test_a_width_that_is_no_multiple_of_16_is_rounded_down_with_a_warning(self):
        result = self.klein("generate", PROMPT, *TINY, "--width", "250", "--steps", "1", "--json", "--quiet")
        report = json.loads(result.stdout)
        self.assertEqual(report["width"], 240)
        self.assertEqual(support.pixels(self.folder / "image.png").shape, (48, 240, 3))
        self.assertEqual(len(report["warnings"]), 1)
        self.assertIn("250", report["warnings"][0])
        self.assertEqual(result.stderr, f"warning: {report['warnings'][0]}\n")

    def test_a_distilled_model_refuses_guidance_and_negative_prompt_with_the_reason(self):
        self.fails(USAGE, "--guidance", "4", fragments=["distilled", "4"])
        self.fails(USAGE, "--negative-prompt", "blue", fragments=["distilled", "negative prompt"])
        self.klein("generate", PROMPT, *TINY, "--steps", "1", "--guidance", "1", "--negative-prompt", "")

    def test_tensor_files(self):
        noise = fixture("distilled")["noise"]
        bad = noise.copy()
        bad[0, 5, 1, 1] = np.nan
        for name, tensors in {"nan": {"latents": bad}, "thin": {"latents": noise[:, :64]}, "flat": {"latents": noise[0]},
                              "other": {"noise": noise}, "wide": {"latents": np.repeat(noise, 2, axis=3)},
                              "whole": {"latents": noise.astype("<i8")}, "embeds": {"prompt_embeds": noise},
                              "inf": {"prompt_embeds": np.full((1, 4, 96), np.inf, "<f4")}}.items():
            write_safetensors(self.folder / f"{name}.safetensors", **tensors)
        for name, status, fragment in (("nan", FORMAT, "NaN"), ("thin", SHAPE, "[1, 64, 3, 4]"),
                                       ("flat", SHAPE, "[128, 3, 4]"), ("other", NOT_FOUND, "`latents`"),
                                       ("wide", SHAPE, "8"), ("whole", UNSUPPORTED, "I64"), ("none", NOT_FOUND, "none")):
            with self.subTest(name):
                self.fails(status, "--latents", f"{name}.safetensors", fragments=[fragment, f"{name}.safetensors"])
        self.fails(SHAPE, "--prompt-embeds", "embeds.safetensors", fragments=["[1, 128, 3, 4]", "embeds.safetensors"])
        self.fails(FORMAT, "--prompt-embeds", "inf.safetensors", fragments=["infinity"])


class Models(ProgramTest):
    def fails(self, status, folder, *fragments):
        return self.assert_fails(status, ("generate", PROMPT, "--quiet", "--model", folder, *TINY[2:]), *fragments)

    def test_no_model(self):
        self.fails(NOT_FOUND, "no/such/folder", "no/such/folder")
        self.fails(NOT_FOUND, self.folder)
        self.fails(NOT_FOUND, "\x1b[31mred\n", r"\x1b[31mred\n")

    def test_a_missing_file_is_named(self):
        for name in ("model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
                     "text_encoder/model.safetensors", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
                     "transformer/config.json", TRANSFORMER, "vae/config.json",
                     "vae/diffusion_pytorch_model.safetensors"):
            with self.subTest(name):
                folder = self.model()
                (folder / name).unlink()
                self.fails(FORMAT if name.endswith("tokenizer_config.json") else NOT_FOUND, folder)
                shutil.rmtree(folder)

    def test_a_missing_shard_is_named(self):
        folder = self.model("tiny-sharded")
        (folder / "text_encoder/model-00002-of-00003.safetensors").unlink()
        self.fails(NOT_FOUND, folder, "model-00002-of-00003.safetensors")

    def test_json_of_the_wrong_shape(self):
        for name, text in (("model_index.json", "[]"), ("model_index.json", "{"), ("model_index.json", ""),
                           ("model_index.json", '{"_class_name": "StableDiffusionPipeline"}'),
                           ("model_index.json", '{"_class_name": "Flux2KleinPipeline", "num_inference_steps": 0}'),
                           ("model_index.json", '{"_class_name": "Flux2KleinPipeline", "guidance_scale": "high"}'),
                           ("model_index.json", '{"_class_name": "Flux2KleinPipeline", "guidance_scale": 1e9}'),
                           ("model_index.json", "[" * 100_000), ("transformer/config.json", '{"num_layers": "two"}'),
                           ("transformer/config.json", '{"num_layers": -1}'), ("vae/config.json", "null"),
                           ("scheduler/scheduler_config.json", '{"shift": []}'),
                           ("text_encoder/config.json", '{"hidden_size": 1e99}'), ("tokenizer/tokenizer.json", "{}"),
                           ("tokenizer/tokenizer.json", '{"model": {"type": "BPE", "merges": []}}')):
            with self.subTest(f"{name}: {text[:20]}"):
                folder = self.model()
                (folder / name).write_text(text, encoding="utf-8")
                message = self.assert_fails_with(("generate", PROMPT, "--quiet", "--model", folder, *TINY[2:]))
                self.assertIn(Path(name).name, message)
                shutil.rmtree(folder)

    def assert_fails_with(self, arguments, statuses=(FORMAT, UNSUPPORTED)):
        for status in statuses[:-1]:
            if self.run_program(*arguments).returncode == status:
                return self.assert_fails(status, arguments)
        return self.assert_fails(statuses[-1], arguments)

    def test_a_tokenizer_without_vocabulary(self):
        folder = self.model()
        file = folder / "tokenizer/tokenizer.json"
        tokenizer = json.loads(file.read_text(encoding="utf-8"))
        del tokenizer["model"]["vocab"]
        file.write_text(json.dumps(tokenizer), encoding="utf-8")
        self.fails(FORMAT, folder, "vocab", "tokenizer.json")
        self.assert_fails(FORMAT, ("tokenize", "-m", folder, "a cat"), "vocab")

    def test_broken_weights(self):
        whole = (support.MODELS / "tiny-distilled" / TRANSFORMER).read_bytes()
        (length,) = struct.unpack_from("<Q", whole)
        header = json.loads(whole[8:8 + length])
        names = [name for name in header if name != "__metadata__"]

        def changed(change):
            copy = json.loads(json.dumps(header))
            change(copy)
            return safetensors_bytes(copy, whole[8 + length:])

        def beyond(h):
            h[names[0]]["data_offsets"][1] = 1 << 62

        def overlap(h):
            h[names[0]]["data_offsets"] = h[names[1]]["data_offsets"]

        def lie(h):
            h[names[0]]["shape"] = [1 << 40, 1 << 40]

        def dtype(h):
            h[names[0]]["dtype"] = "F7"

        cases = {"truncated": whole[:-100], "cut in the header": whole[:length // 2], "empty": b"",
                 "giant header": struct.pack("<Q", 1 << 60) + whole[8:], "no JSON": safetensors_bytes(b"[" * 1000),
                 "list": safetensors_bytes([]), "too long": whole + b"more", "offsets beyond": changed(beyond),
                 "overlapping": changed(overlap), "lying shape": changed(lie), "unknown type": changed(dtype)}
        folder = self.model()
        for name, data in cases.items():
            with self.subTest(name):
                (folder / TRANSFORMER).write_bytes(data)
                message = self.assert_fails_with(("generate", PROMPT, "--quiet", "--model", folder, *TINY[2:]))
                self.assertIn("diffusion_pytorch_model.safetensors", message)

    def test_every_wrong_tensor_is_named_in_one_message(self):
        folder = self.model()
        tensors = support.read_safetensors(folder / TRANSFORMER)
        missing, misshapen = sorted(tensors)[:2]
        tensors.pop(missing)
        tensors[misshapen] = np.zeros((3, 1, 2), "<f4")
        tensors["surplus.weight"] = np.zeros(2, "<f4")
        write_safetensors(folder / TRANSFORMER, **tensors)
        message = self.assert_fails_with(("generate", PROMPT, "--quiet", "--model", folder, *TINY[2:]), (SHAPE, FORMAT))
        for name in (missing, misshapen, "surplus.weight", "[3, 1, 2]"):
            self.assertIn(name, message)

    def test_weights_that_are_not_numbers(self):
        folder = self.model()
        tensors = support.read_safetensors(folder / TRANSFORMER)
        name = "proj_out.weight"
        tensors[name] = np.full_like(tensors[name], np.nan)
        write_safetensors(folder / TRANSFORMER, **tensors)
        result = self.run_program("generate", PROMPT, "--quiet", "--model", folder, *TINY[2:])
        self.assertIn(result.returncode, (FORMAT, 70))
        self.assertRegex(result.stderr, "^klein: error: .*NaN")
        self.assertNotIn("image.png", self.files())


class Places(ProgramTest):
    def fails(self, *arguments, **options):
        return self.assert_fails(IO, ("generate", PROMPT, "--quiet", *TINY, "--steps", "1", *arguments), **options)

    def test_a_folder_that_cannot_be(self):
        (self.folder / "file").write_text("x", encoding="utf-8")
        self.fails("--output", "file/below/image.png")
        self.fails("--save-latents", "file/latents.safetensors")
        if os.path.isdir("/proc/self"):
            self.fails("--output", "/proc/klein/image.png")
            self.fails("--output", "/proc/image.png")

    def test_a_folder_without_permission(self):
        closed = self.folder / "closed"
        closed.mkdir(mode=0o555)
        if os.access(closed, os.W_OK):
            self.skipTest("this user may write everywhere")
        self.fails("--output", "closed/image.png")

    def test_a_folder_as_a_file(self):
        (self.folder / "image.png").mkdir()
        self.fails("--overwrite")

    def test_a_file_that_exists_is_not_replaced(self):
        (self.folder / "latents.safetensors").write_text("x", encoding="utf-8")
        self.assert_fails(USAGE, ("generate", PROMPT, "--quiet", *TINY, "--save-latents", "latents.safetensors"),
                          "latents.safetensors")

    def test_a_limit_on_file_sizes(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        self.fails(preexec_fn=limit)

    def test_a_full_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "klein-e2e", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            self.skipTest("needs the right to mount")
        try:
            self.fails("--output", "disk/image.png")
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def test_output_that_nobody_can_take(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("needs /dev/full")
        with open("/dev/full", "w", encoding="utf-8") as full:
            for arguments in (("--help",), ("tokenize", "-m", TINY[1], "a cat")):
                self.assert_fails(IO, arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)

    def test_a_closed_pipe(self):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            self.assert_fails(IO, ("tokenize", "-m", TINY[1], "a cat"), capture_output=False, stdout=writer,
                              stderr=subprocess.PIPE)
        finally:
            os.close(writer)

    def test_closed_standard_streams_do_not_spoil_the_picture(self):
        command = 'exec "$@" <&- >&- 2>&-'
        result = subprocess.run(["sh", "-c", command, "sh", support.PROGRAM, "generate", PROMPT, *map(str, TINY),
                                 "--steps", "1"], cwd=self.folder, env=support.environment(), timeout=120)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(support.pixels(self.folder / "image.png").shape, (48, 64, 3))


class Tokenize(ProgramTest):
    def test_input_that_is_no_list_of_strings(self):
        for text in ("", "{}", '["a", 1]', '["a"', "\xff"):
            with self.subTest(text):
                self.assert_fails(FORMAT, ("tokenize", "-m", TINY[1], "--json"), input=text)

    def test_no_tokenizer(self):
        self.assert_fails(NOT_FOUND, ("tokenize", "-m", "none", "a cat"), "none")


if __name__ == "__main__":
    unittest.main()
