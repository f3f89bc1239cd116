"""tools/check_includes.py catches each kind of violation, and lets good files pass."""

import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import check_includes  # noqa: E402


class CheckIncludes(unittest.TestCase):
    def violations(self, path, *includes):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "klein" / path
            file.parent.mkdir(parents=True)
            file.write_text("#pragma once\n" + "".join(f"#include {i}\n" for i in includes))
            return check_includes.violations(Path(folder))

    def test_allowed_includes_pass(self):
        self.assertEqual(self.violations("io/file.cpp", "<vector>", "<sys/mman.h>", "<fmt/format.h>",
                                         '"klein/io/file.h"', '"klein/core/error.h"'), [])
        self.assertEqual(self.violations("models/flux2/vae.h", '"mlx/mlx.h"', '"klein/nn/conv.h"',
                                         '"klein/models/qwen3/text_encoder.h"'), [])
        self.assertEqual(self.violations("io/json.h", "<nlohmann/json.hpp>"), [])

    def test_a_lower_module_may_not_include_a_higher_one(self):
        self.assertEqual(self.violations("core/error.h", "<string>", '"klein/io/file.h"'),
                         ["klein/core/error.h:3: core may include nothing else of klein; not klein/io/file.h"])

    def test_a_family_may_not_include_a_family_above_it(self):
        found = self.violations("models/qwen3/text_encoder.cpp", '"klein/models/flux2/vae.h"')
        self.assertEqual(len(found), 1)
        self.assertIn("not klein/models/flux2/vae.h", found[0])

    def test_the_program_sees_one_header_of_the_pipeline_and_no_mlx(self):
        self.assertEqual(self.violations("cli/context.h", '"klein/pipeline/request.h"'), [])
        self.assertEqual(len(self.violations("cli/context.h", '"klein/pipeline/denoise.h"')), 1)
        self.assertEqual(self.violations("cli/context.cpp", '"mlx/mlx.h"'),
                         ["klein/cli/context.cpp:2: cli may not include MLX"])

    def test_public_headers_stay_free_of_mlx_and_of_private_headers(self):
        self.assertEqual(self.violations("pipeline/request.h", "<mlx/mlx.h>"),
                         ["klein/pipeline/request.h:2: a public header may not include MLX"])
        self.assertEqual(len(self.violations("engine/engine.h", '"klein/tensor/mlx.h"')), 1)

    def test_third_party_headers_belong_into_sources(self):
        self.assertEqual(self.violations("io/image.h", "<png.h>"),
                         ["klein/io/image.h:2: <png.h> belongs into a .cpp file"])
        self.assertEqual(len(self.violations("io/file.h", "<nlohmann/json.hpp>")), 1)

    def test_includes_are_written_from_the_root(self):
        self.assertEqual(self.violations("io/image.cpp", '"image.h"'),
                         ['klein/io/image.cpp:2: "image.h" is not written from the root; expected "klein/..."'])

    def test_a_file_outside_every_module_is_named(self):
        self.assertEqual(len(self.violations("extra/thing.h")), 1)


if __name__ == "__main__":
    unittest.main()
