"""The program finds OpenBLAS before the reference BLAS inside MLX's wheel (30 to 80 times slower)."""

import os
import re
import shutil
import subprocess
import sys
import unittest


def needed_libraries(program):
    """The names after NEEDED in the program's dynamic section, in order."""
    dump = subprocess.run(["readelf", "--dynamic", program], check=True, capture_output=True, text=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.+?)\]", dump)


class LinkOrder(unittest.TestCase):
    def test_openblas_stands_before_mlx(self):
        names = needed_libraries(os.environ["KLEIN_PROGRAM"])
        position = {key: next(i for i, name in enumerate(names) if name.startswith(key))
                    for key in ("libopenblas", "libmlx")}
        self.assertLess(position["libopenblas"], position["libmlx"], names)


if __name__ == "__main__":
    if sys.platform != "linux" or not shutil.which("readelf"):
        print("[skipped] needs Linux and readelf")
        sys.exit(77)
    unittest.main()
