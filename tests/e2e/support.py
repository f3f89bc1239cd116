"""What the tests of the real program share: running it, fixtures, tensor files, damaged models."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np
    from PIL import Image
except ImportError as error:
    print(f"[skipped] {error}; requirements-test.txt names what is needed")
    sys.exit(77)

ROOT = Path(os.environ["KLEIN_ROOT"])
PROGRAM = os.environ["KLEIN_PROGRAM"]
FIXTURES = ROOT / "tests/fixtures"
MODELS = FIXTURES / "models"
PROMPT = "a red apple on a wooden table"
TINY = ("--model", MODELS / "tiny-distilled", "--width", "64", "--height", "48", "--device", "cpu")
BASE = ("--model", MODELS / "tiny-base", *TINY[2:])
F32 = ("--dtype", "float32")

DTYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "U8": np.dtype("u1"), "BF16": np.dtype("<u2")}


def read_safetensors(path):
    """Name -> array; a bfloat16 tensor comes as its 16-bit patterns."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def safetensors_bytes(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def write_safetensors(path, **tensors):
    header, body = {}, b""
    for name, value in tensors.items():
        dtype = next(key for key, kind in DTYPES.items() if kind == value.dtype)
        header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": [len(body), len(body) + value.nbytes]}
        body += np.ascontiguousarray(value).tobytes()
    Path(path).write_bytes(safetensors_bytes(header, body))


def fixture(name):
    return read_safetensors(FIXTURES / f"pipeline/{name}.safetensors")


def settings(name):
    return json.loads((FIXTURES / f"pipeline/{name}.json").read_text(encoding="utf-8"))


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def environment(**changes):
    """Without the variables that would choose another model."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("KLEIN_")}
    if "KLEIN_MODELS" in os.environ:
        plain["KLEIN_MODELS"] = os.environ["KLEIN_MODELS"]
    return plain | changes


class ProgramTest(unittest.TestCase):
    """A test in an empty folder of its own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="klein-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_program(self, *arguments, **options):
        options = {"capture_output": True, "text": True, "timeout": 120, "cwd": self.folder,
                   "env": environment()} | options
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([PROGRAM, *map(str, arguments)], **options)

    def klein(self, *arguments, **options):
        """Runs the program, which must succeed."""
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def generate(self, *arguments, **options):
        """The report of one `klein generate --json --quiet`."""
        result = self.klein("generate", *arguments, "--json", "--quiet", **options)
        self.assertEqual(result.stdout.count("\n"), 1)
        return json.loads(result.stdout)

    def files(self):
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if not path.is_dir())

    def assert_fails(self, status, arguments, *fragments, **options):
        """One error of the contract's form, nothing on standard output, and no file more than before.

        Returns the message.
        """
        before = self.files()
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.returncode, status, result.stderr)
        if isinstance(result.stdout, str):
            self.assertEqual(result.stdout, "")
        lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
        self.assertIn(len(lines), (1, 2), result.stderr)
        self.assertRegex(lines[0], r"^klein: error: .*[^.]$")
        for line in lines[1:]:
            self.assertRegex(line, r"^hint: .+")
        for fragment in fragments:
            self.assertIn(fragment, lines[0])
        self.assertEqual(self.files(), before)
        return lines[0]

    def model(self, name="tiny-distilled"):
        """A copy of a tiny model, to be damaged."""
        return Path(shutil.copytree(MODELS / name, self.folder / f"model-{name}"))
