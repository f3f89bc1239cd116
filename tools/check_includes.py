#!/usr/bin/env python3
"""Checks who may include whom: the table below is the architecture, anything else is a violation.

Usage: check_includes.py [ROOT]
Prints one line per violation, `file:line: reason`, and ends with status 1 when there is any.
"""

import re
import sys
from pathlib import Path

# module: the modules that its files may include (its own is always allowed).
MAY_INCLUDE = {
    "core": [],
    "io": ["core"],
    "hub": ["core", "io"],
    "tensor": ["core"],
    "tokenizer": ["core", "io"],
    "quant": ["core"],
    "ops": ["core", "tensor", "quant"],
    "nn": ["core", "tensor", "ops"],
    "sampling": ["core", "tensor"],
    "weights": ["core", "io", "tensor", "quant", "ops", "nn"],
    "pipeline": ["core", "io", "tensor", "sampling"],
    "models/qwen3": ["core", "io", "tensor", "tokenizer", "ops", "nn", "weights"],
    "models/flux2": ["core", "io", "tensor", "tokenizer", "quant", "ops", "nn", "weights", "sampling", "pipeline",
                     "models/qwen3"],
    "engine": ["core", "io", "hub", "tensor", "quant", "ops", "nn", "weights", "sampling", "pipeline", "models/qwen3",
               "models/flux2"],
    "cli": ["core", "io", "engine", "tokenizer", "quant/target.h", "pipeline/request.h", "pipeline/save_request.h"],
    "klein.h": ["core", "io/file.h", "io/image.h", "io/picture.h", "engine/engine.h", "engine/describe_model.h", "pipeline/request.h",
                "pipeline/save_request.h"],
}

# Modules whose files see MLX; no other may, and the public headers may not either.
MLX_MODULES = {"tensor", "ops", "nn", "sampling", "weights", "pipeline", "models/qwen3", "models/flux2", "engine"}
PUBLIC_HEADERS = ["klein.h", "engine/engine.h", "engine/describe_model.h", "pipeline/request.h", "pipeline/save_request.h",
                  "quant/target.h", "quant/packed.h", "core/", "io/file.h", "io/image.h", "io/picture.h",
                  "pipeline/canvas.h", "pipeline/expand.h"]

# Third-party headers belong into .cpp files. The exceptions: the header, and where it may stand.
HEADER_EXCEPTIONS = {"nlohmann/": ["io/json.h"]}
CUDA_MODULE = "ops/cuda/"  # no other folder includes its headers but native.h and upload.h, which are free of CUDA

STANDARD = re.compile(r"^[a-z_0-9]+$")  # <vector>; POSIX and third-party headers end in .h or hold a slash
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def module_of(path):
    """`klein/models/flux2/vae.h` without its first part -> "models/flux2"; None when it is in no module."""
    for module in sorted(MAY_INCLUDE, key=len, reverse=True):
        if path == module or path.startswith(module + "/"):
            return module
    return None


def is_public(path):
    return any(path == p or (p.endswith("/") and path.startswith(p) and path.endswith(".h")) for p in PUBLIC_HEADERS)


def may_include(module, target):
    if module_of(target) == module:
        return True
    return any(target == allowed or target.startswith(allowed + "/") for allowed in MAY_INCLUDE[module])


def check_own(path, target):
    module = module_of(path)
    if not may_include(module, target):
        allowed = ", ".join(MAY_INCLUDE[module]) or "nothing else of klein"
        return f"{module} may include {allowed}; not klein/{target}"
    if is_public(path) and not is_public(target):
        return f"a public header may include public headers only; not klein/{target}"
    if module == "cli" and target == "tensor/mlx.h":
        return "cli may not see MLX"
    return None


def check_mlx(path):
    if is_public(path):
        return "a public header may not include MLX"
    if module_of(path) not in MLX_MODULES:
        return f"{module_of(path)} may not include MLX"
    return None


def check_third_party(path, target):
    if not path.endswith(".h") or STANDARD.match(target):
        return None
    if target.startswith("cuda") and path.startswith(CUDA_MODULE):
        return None
    for prefix, places in HEADER_EXCEPTIONS.items():
        if target.startswith(prefix) and path in places:
            return None
    return f"<{target}> belongs into a .cpp file"


def check_line(path, quote, target):
    """The reason why `path` may not include `target`, or None."""
    if target.startswith("klein/"):
        return check_own(path, target[len("klein/"):])
    if target.startswith("mlx/"):
        return check_mlx(path)
    if quote == '"':
        return f'"{target}" is not written from the root; expected "klein/..."'
    return check_third_party(path, target)


def violations(root):
    """All violations below root/klein, as `file:line: reason`."""
    found = []
    for file in sorted((root / "klein").rglob("*")):
        if file.suffix not in (".h", ".cpp"):
            continue
        path = file.relative_to(root / "klein").as_posix()
        if module_of(path) is None:
            found.append(f"klein/{path}:1: belongs to no module; add it to the table in tools/check_includes.py")
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            match = INCLUDE.match(line)
            reason = check_line(path, *match.groups()) if match else None
            if reason:
                found.append(f"klein/{path}:{number}: {reason}")
    return found


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = violations(root)
    print("\n".join(found) if found else "includes: every file keeps to the table")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
