#!/usr/bin/env python3
"""Checks, or with --fix makes, the formatting of every C++ file with the pinned clang-format.

Usage: check_format.py [--fix]
Other versions of clang-format lay code out differently, so only the pinned one counts; it comes
from PyPI (requirements-test.txt). Status 77, "skipped", where it is not installed.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["klein", "tests", "examples", "tools"]


def pinned_version():
    match = re.search(r"^clang-format==(\S+)", (ROOT / "requirements-test.txt").read_text(), re.M)
    return match.group(1)


def clang_format():
    """The first clang-format of the pinned version, or None."""
    beside = [venv / "bin" / "clang-format" for venv in (ROOT / ".venv", ROOT / ".venv-cuda")]
    for candidate in [str(path) for path in beside if path.exists()] + [shutil.which("clang-format")]:
        if candidate is None:
            continue
        version = subprocess.run([candidate, "--version"], capture_output=True, text=True).stdout
        if f"version {pinned_version()}" in version:
            return candidate
    return None


def main():
    program = clang_format()
    if program is None:
        print(f"[skipped] clang-format {pinned_version()} is not installed; run tools/setup.sh --test")
        return 77
    files = sorted(str(file.relative_to(ROOT)) for folder in FOLDERS for file in (ROOT / folder).rglob("*")
                   if file.suffix in (".h", ".cpp"))
    mode = ["-i"] if "--fix" in sys.argv[1:] else ["--dry-run", "-Werror"]
    status = subprocess.run([program, *mode, *files], cwd=ROOT).returncode if files else 0
    print(f"format: {len(files)} files {'formatted' if mode == ['-i'] else 'checked'} with clang-format "
          f"{pinned_version()}{'' if status == 0 else '; run make format'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
