"""The installed library serves another program: install, build the examples against it, run it."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ["KLEIN_ROOT"])
BUILD = Path(os.environ["KLEIN_BUILD"])
CMAKE = os.environ["KLEIN_CMAKE"]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", data[:8]
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.prefix = Path(cls.folder.name) / "prefix"
        run(CMAKE, "--install", BUILD, "--prefix", cls.prefix)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_other_programs_find_the_package_and_paint(self):
        build = Path(self.folder.name) / "examples"
        run(CMAKE, "-G", "Ninja", "-S", ROOT / "examples", "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run(CMAKE, "--build", build)
        run(build / "hello", cwd=build)
        size = png_size(build / "hello.png")
        self.assertEqual((size[0] % 16, size[1] % 16), (0, 0))
        run(build / "edit", "hello.png", "change the background to blue", cwd=build)
        self.assertEqual(png_size(build / "edit.png"), size)
        for step in range(1, 5):
            self.assertEqual(png_size(build / f"preview_{step}.png"), (size[0] // 8, size[1] // 8))
        tiny = ROOT / "tests/fixtures/models/tiny-distilled"
        run(build / "lora", ROOT / "tests/fixtures/lora/diffusers.safetensors", "a red apple", tiny, cwd=build)
        pictures = [(build / f"lora_{scale}.png").read_bytes() for scale in ("0.0", "0.5", "1.0")]
        self.assertEqual(len(set(pictures)), 3)

    def test_the_installed_program_needs_nothing_of_the_checkout(self):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("KLEIN", "MLX"))}
        picture = Path(self.folder.name) / "installed.png"
        run(self.prefix / "bin/klein", "generate", "a red apple", "--seed", "1", "--output", picture,
            cwd=self.folder.name, env=environment)
        self.assertGreater(png_size(picture)[0], 0)
        libraries = run("ldd", self.prefix / "bin/klein")
        self.assertNotIn(str(ROOT), libraries)

    def test_only_public_headers_are_installed(self):
        headers = {path.relative_to(self.prefix / "include").as_posix() for path in self.prefix.rglob("*.h")}
        self.assertIn("klein/klein.h", headers)
        self.assertNotIn("klein/tensor/mlx.h", headers)


if __name__ == "__main__":
    unittest.main()
