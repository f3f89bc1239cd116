"""The smaller commands, the shells' completions and the demo model, with the real program."""

import json
import os
import shutil
import subprocess
import sys
import time
import unittest

import support
from support import PROMPT, ROOT, TINY, ProgramTest

DEMO = ROOT / "models/demo"


class Commands(ProgramTest):
    def test_version_and_help(self):
        self.assertRegex(self.klein("--version").stdout, r"^klein \d+\.\d+\.\d+\n$")
        commands = ("generate", "save", "info", "tokenize", "bench", "models", "lora", "completions")
        overview = self.klein("--help").stdout
        for command in commands:
            self.assertIn(command, overview)
            self.assertIn("Usage: klein " + command, self.klein(command, "--help").stdout)

    def test_bench(self):
        report = json.loads(self.klein("bench", *TINY, "--steps", 2, "--json", "--quiet").stdout)
        self.assertEqual(set(report["tflops_per_second"]), {"text", "denoise", "step", "decode", "gemm"})
        self.assertTrue(all(speed > 0 for speed in report["tflops_per_second"].values()))
        self.assertEqual((report["runs"], len(report["step_seconds"])), (3, 6))
        for part in ("text", "step", "denoise", "decode", "picture", "picture_cached_prompt"):
            self.assertGreaterEqual(report["warm"][part]["median"], report["warm"][part]["best"])
        self.assertEqual(set(report["first"]), {"load", "encode_text", "denoise", "decode", "total"})
        self.assertAlmostEqual(report["best_step_seconds"], min(report["step_seconds"]))
        self.assertGreater(report["peak_memory_bytes"], 1_000_000)
        self.assertEqual(self.files(), [])
        batches = json.loads(self.klein("bench", *TINY, "--runs", 1, "--batch", 1, 3, "--json", "--quiet").stdout)["batches"]
        self.assertEqual([batch["pictures"] for batch in batches], [1, 3])
        for batch in batches:
            self.assertAlmostEqual(batch["pictures_per_second"] * batch["seconds"]["median"], batch["pictures"])
        table = self.klein("bench", *TINY, "--steps", 2, "--batch", 2).stdout
        for word in ("load", "text", "step", "decode", "GEMM", "peak memory", "cached prompt", "pictures/s"):
            self.assertIn(word, table)

    def test_a_python_without_diffusers_is_told_apart(self):
        python = self.folder / "python"
        python.write_text(f"#!{sys.executable}\nimport runpy, sys\nsys.modules['diffusers'] = None\nsys.argv = sys.argv[1:]\n"
                          "runpy.run_path(sys.argv[0], run_name='__main__')\n")
        python.chmod(0o700)
        arguments = ("bench", *TINY, "--compare-diffusers", "--quiet")
        message = self.assert_fails(3, (*arguments, "--python", python), "expected a Python with diffusers' Flux2KleinPipeline, but ",
                                    "diffusers", sys.executable)
        print(message)
        self.assert_fails(3, (*arguments, "--python", "no-such-python"), "cannot start the program", "no-such-python")

    def test_the_model_may_come_from_the_environment(self):
        environment = support.environment(KLEIN_MODEL=str(TINY[1]))
        report = self.generate(PROMPT, *TINY[2:], "--steps", 1, env=environment)
        self.assertEqual(report["model"], str(TINY[1]))


@unittest.skipUnless((DEMO / "model_index.json").exists(), "needs the demo model")
class Demo(ProgramTest):
    def setUp(self):
        super().setUp()
        self.environment = support.environment(KLEIN_MODELS=str(DEMO.parent))

    def test_it_is_listed(self):
        models = json.loads(self.klein("models", "--json", env=self.environment).stdout)
        self.assertEqual((models[0]["name"], models[0]["folder"]), ("demo", str(DEMO)))
        self.assertEqual([model["name"] for model in models if not model["name"].startswith("demo")],
                         ["flux2-klein-4b", "flux2-klein-9b", "flux2-klein-9b-kv", "flux2-klein-base-4b",
                          "flux2-klein-base-9b"])
        self.assertIn(str(DEMO), self.klein("models", env=self.environment).stdout)

    def test_its_variants_are_listed_and_drawn_with_by_their_names(self):
        models = json.loads(self.klein("models", "--json", env=self.environment).stdout)[:3]
        self.assertEqual([(m["name"], m["kind"], m["default_steps"], m["default_guidance"], m["folder"]) for m in models],
                         [("demo", "distilled", 4, 1, str(DEMO)), ("demo-kv", "kv", 4, 1, str(DEMO.parent / "demo-kv")),
                          ("demo-base", "base", 20, 2, str(DEMO.parent / "demo-base"))])
        table = self.klein("models", env=self.environment).stdout
        self.assertIn(f"demo-kv        kv                 -  complete  {DEMO.parent / 'demo-kv'}\n", table)
        small = ("--width", 64, "--height", 64, "--steps", 1, "--overwrite")
        for name in ("demo", "demo-kv", "demo-base"):
            self.assertEqual(self.generate("a fox", "-m", name, *small, env=self.environment)["model"], name)
            self.assertIn(str(DEMO.parent / name), self.klein("info", name, env=self.environment).stdout)
        self.assert_fails(3, ("generate", "a fox", "-m", "demo-bas"), "found none: demo-bas")

    def test_a_model_may_name_its_own_steps_and_guidance(self):
        small = ("--width", 64, "--height", 64)
        report = self.generate("a fox", "-m", "demo-base", *small, env=self.environment)
        self.assertEqual((report["steps"], report["guidance"]), (20, 2))
        self.klein("save", "--model", DEMO.parent / "demo-base", "--path", "saved")
        info = json.loads(self.klein("info", "saved", "--json").stdout)
        self.assertEqual((info["default_steps"], info["default_guidance"]), (20, 2))

    def test_it_is_the_default_and_draws_at_its_own_size(self):
        begin = time.monotonic()
        report = self.generate("a red apple on a yellow background", "--seed", 7, env=self.environment)
        seconds = time.monotonic() - begin
        print(f"demo picture: {seconds:.2f} s")
        self.assertEqual(report["model"], "demo")
        self.assertEqual(support.pixels(self.folder / "image.png").shape, (report["height"], report["width"], 3))
        self.assertGreater(support.pixels(self.folder / "image.png").std(), 5.0)


class Completions(ProgramTest):
    def complete(self, *words):
        """What bash offers for the last word."""
        line = " ".join(f"'{word}'" for word in ("klein", *words))
        script = (f"source <('{support.PROGRAM}' completions bash); COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
                  "_klein; printf '%s\\n' \"${COMPREPLY[@]}\"")
        result = subprocess.run(["bash", "-c", script], cwd=self.folder, capture_output=True, text=True, timeout=60)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout.split("\n")[:-1]

    @unittest.skipUnless(shutil.which("bash"), "needs bash")
    def test_bash_offers_commands_flags_words_and_files(self):
        (self.folder / "a b.png").touch()
        (self.folder / "models").mkdir()
        self.assertEqual(self.complete("gen"), ["generate"])
        self.assertEqual(self.complete("generate", "--save"), ["--save-latents", "--save-prompt-embeds"])
        self.assertEqual(self.complete("bench", "--comp"), ["--compare-diffusers", "--compile"])
        self.assertEqual(self.complete("bench", "--compile", ""), ["default", "max-autotune"])
        self.assertEqual(self.complete("generate", "--dtype", ""), ["bfloat16", "float32"])
        self.assertEqual(self.complete("generate", "--output", "a"), ["a b.png"])
        self.assertEqual(sorted(self.complete("bench", "--model", "")),
                         ["a b.png", "demo", "demo-base", "demo-kv", "klein-4b", "klein-9b", "klein-9b-kv", "klein-base-4b",
                          "klein-base-9b", "models"])
        self.assertEqual(self.complete("completions", "f"), ["fish"])
        self.assertEqual(self.complete("lora", "l"), ["list"])
        self.assertEqual(self.complete("lora", "list", "--p"), ["--paths"])
        self.assertEqual(self.complete("lora", "list", "--paths", "m"), ["models"])
        self.assertEqual(self.complete("edit", "--batch"), ["--batch"])
        self.assertEqual(self.complete("generate", "--merge"), ["--merge-loras"])
        self.assertEqual(self.complete("generate", "--prompt", "x"), [""])

    def test_every_shell_accepts_its_script(self):
        for shell, check in (("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")):
            script = self.klein("completions", shell).stdout
            self.assertGreater(len(script), 1000)
            if shutil.which(shell):
                (self.folder / shell).write_text(script, encoding="utf-8")
                checked = subprocess.run([shell, check, self.folder / shell], capture_output=True, text=True, timeout=60)
                self.assertEqual((checked.returncode, checked.stderr), (0, ""), shell)


if __name__ == "__main__":
    unittest.main()
