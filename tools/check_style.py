#!/usr/bin/env python3
"""Checks the rules of STYLE.md that a program can check.

Usage: check_style.py [ROOT]
Prints one line per finding, `file:line: reason`. A finding that starts with `note` is only a
question for review; any other one makes the status 1.
"""

import re
import subprocess
import sys
from pathlib import Path

FILE_LINES_NOTED = 400
FILE_LINES_REFUSED = 450
FUNCTION_LINES_NOTED = 60
REPOSITORY_BYTES = 44_000_000

CODE = {".h", ".cpp"}
TEXT = CODE | {".py", ".sh", ".md", ".txt", ".cmake", ".yaml", ".yml", ".toml", ".in", ""}
SKIPPED_FOLDERS = {".git", "build", "__pycache__", ".cache"}
# Data that others wrote, and the checkers themselves, which have to name what they refuse.
UNREAD = ("models/", "tests/fixtures/", "tests/fuzz/corpus/", "LICENSE", "tools/check_style.py", "tests/unit/tools/")

LIBRARY_BANS = [
    (re.compile(r"\bstd::(cout|cerr|clog|printf|puts|putchar)\b"), "the library never prints"),
    (re.compile(r"(?<![\w:.>])(std::|::)?(f?printf|puts|fputs|putchar|perror)\s*\("), "the library never prints"),
    (re.compile(r"\bfmt::print(ln)?\s*\("), "the library never prints"),
    (re.compile(r"(?<![\w:.>])(std::|::)?(abort|exit|_exit|_Exit|quick_exit|terminate)\s*\("),
     "the library never ends the process; throw klein::Error"),
    (re.compile(r"\bthrow\s+(std::(?!bad_alloc\b)|mlx::)"), "klein::Error is the only exception"),
]
TEXT_BANS = [
    (re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), "unfinished work is an issue, not a comment"),
    (re.compile(r"(?<![\w.~$}*])/(home|root|work|Users)/\w"), "a folder of one machine has no place here"),
]

ARRAY_NAME = re.compile(r"\bmx::array&?\s+(\w+)\s*[=,;){(]|\bauto\s+(\w+)\s*=\s*mx::\w+\(")
NUMBER = r"(?<![\w.])\d+\.\d*(?:e-?\d+)?f?"


def without_comments_and_strings(text):
    """The same text, same line breaks, with comments and literals blanked out."""
    token = re.compile(
        r'R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.S)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def functions(code):
    """(first line, last line) of every function body at namespace or class scope."""
    found, stack, head, head_line, line = [], [], "", 1, 1
    for char in code:
        if char == "\n":
            line += 1
        if char == "{":
            inside = "function" in stack
            is_function = (")" in head and not inside
                           and not re.search(r"\bTEST_SUITE\b|\bnamespace\b|=\s*$", head.strip()))
            stack.append("function" if is_function else "block")
            if is_function:
                start = head_line
            head = ""
        elif char == "}":
            if stack and stack.pop() == "function":
                found.append((start, line))
            head = ""
        elif char == ";":
            head = ""
        elif char.strip() or head:
            if not head:
                head_line = line
            head += char
    return found


def file_length(path, lines):
    if len(lines) > FILE_LINES_REFUSED:
        yield f"{path}:{len(lines)}: {len(lines)} lines, more than {FILE_LINES_REFUSED}; split the file"
    elif len(lines) > FILE_LINES_NOTED:
        yield f"note {path}:{len(lines)}: {len(lines)} lines, more than {FILE_LINES_NOTED}"


def function_lengths(path, code):
    for first, last in functions(code):
        if last - first + 1 > FUNCTION_LINES_NOTED:
            yield f"note {path}:{first}: a function of {last - first + 1} lines, more than {FUNCTION_LINES_NOTED}"


def library_bans(path, code):
    for number, line in enumerate(code.splitlines(), start=1):
        for pattern, reason in LIBRARY_BANS:
            if pattern.search(line):
                yield f"{path}:{number}: {reason}"


def float_times_array(path, code, lines):
    """In MLX's C++, bfloat16 array * 2.0f is float32. scalar_like keeps the type; else say why."""
    names = {name for pair in ARRAY_NAME.findall(code) for name in pair if name}
    if not names:
        return
    name = r"(?:" + "|".join(sorted(names)) + r")\b(?!\s*[.(\[]|->|::)"
    trap = re.compile(rf"{NUMBER}\s*[-+*/]\s*{name}|(?<![\w.>]){name}\s*[-+*/]\s*{NUMBER}")
    for number, line in enumerate(code.splitlines(), start=1):
        if trap.search(line) and "//" not in lines[number - 1] + lines[max(0, number - 2)]:
            yield (f"{path}:{number}: a number beside an array makes it float32; "
                   "use scalar_like, or say why in a comment")


def text_rules(path, lines):
    for number, line in enumerate(lines, start=1):
        for pattern, reason in TEXT_BANS:
            if pattern.search(line):
                yield f"{path}:{number}: {reason}"
        if line != line.rstrip() and not path.endswith(".md"):
            yield f"{path}:{number}: space at the end of the line"


def check_code(path, text):
    lines, code = text.splitlines(), without_comments_and_strings(text)
    yield from file_length(path, lines)
    yield from function_lengths(path, code)
    if path.startswith("klein/") and not path.startswith("klein/cli/"):
        yield from library_bans(path, code)
    if path.startswith("klein/"):
        yield from float_times_array(path, code, lines)


def check_file(path, text):
    """All findings of one file; `path` is relative to the root, with forward slashes."""
    if path.endswith((".h", ".cpp")):
        yield from check_code(path, text)
    yield from text_rules(path, text.splitlines())
    if text and not text.endswith("\n"):
        yield f"{path}:{len(text.splitlines())}: no line break at the end of the file"


def project_files(root):
    """Relative paths of what the repository holds; without git, of all that is not built."""
    try:
        command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
        found = [path for path in listed if path and (root / path).is_file()]
        if found:
            return sorted(found)
    except (OSError, subprocess.CalledProcessError):
        pass
    walked = (file.relative_to(root) for file in root.rglob("*") if file.is_file() and not file.is_symlink())
    return sorted(path.as_posix() for path in walked
                  if not any(part in SKIPPED_FOLDERS or part.startswith(".venv") for part in path.parts))


def findings(root):
    files, total = project_files(root), 0
    for path in files:
        file = root / path
        total += file.stat().st_size
        if file.suffix in TEXT and not path.startswith(UNREAD):
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            yield from check_file(path, text)
    if total > REPOSITORY_BYTES:
        yield f".:1: the repository holds {total} bytes, more than {REPOSITORY_BYTES}"


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = list(findings(root))
    refused = [line for line in found if not line.startswith("note ")]
    print("\n".join(found + [f"style: {len(refused)} refused, {len(found) - len(refused)} noted"]))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
