"""tools/check_style.py catches each kind of finding, and lets good files pass."""

import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
import check_style  # noqa: E402


def findings(path, text):
    return list(check_style.check_file(path, text))


class CheckStyle(unittest.TestCase):
    def test_a_plain_file_passes(self):
        self.assertEqual(findings("klein/io/file.cpp", "int size() { return 1; }\n"), [])

    def test_long_files_are_noted_then_refused(self):
        self.assertEqual(findings("klein/io/file.cpp", "int a;\n" * 400), [])
        self.assertTrue(findings("klein/io/file.cpp", "int a;\n" * 401)[0].startswith("note "))
        self.assertEqual(findings("klein/io/file.cpp", "int a;\n" * 451),
                         ["klein/io/file.cpp:451: 451 lines, more than 450; split the file"])

    def test_long_functions_are_noted_with_their_first_line(self):
        body = "namespace klein {\nint f(int a) {\n" + "  a = a + 1;\n" * 60 + "  return a;\n}\n}\n"
        self.assertEqual(findings("klein/io/file.cpp", body),
                         ["note klein/io/file.cpp:2: a function of 63 lines, more than 60"])
        self.assertEqual(findings("klein/io/file.cpp", body.replace("  a = a + 1;\n" * 60, "")), [])

    def test_a_brace_in_a_string_opens_nothing(self):
        self.assertEqual(check_style.functions(check_style.without_comments_and_strings(
            'int f() {\n  g("{");\n  h(R"({{)");\n}\n')), [(1, 4)])

    def test_the_library_neither_prints_nor_exits(self):
        for line in ['std::cout << 1;', 'printf("%d", 1);', 'fmt::print("{}", 1);', 'std::fprintf(f, "x");']:
            self.assertEqual(findings("klein/io/file.cpp", f"void f() {{ {line} }}\n")[:1],
                             ["klein/io/file.cpp:1: the library never prints"], line)
        for line in ["std::abort();", "exit(1);", "std::exit(2);", "::_exit(3);"]:
            self.assertEqual(len(findings("klein/io/file.cpp", f"void f() {{ {line} }}\n")), 1, line)

    def test_the_program_may_print_and_the_library_may_format(self):
        self.assertEqual(findings("klein/cli/main.cpp", 'void f() { std::cout << "x"; }\n'), [])
        self.assertEqual(findings("klein/io/file.cpp", 'void f() { std::snprintf(b, 3, "x"); }\n'), [])
        self.assertEqual(findings("klein/io/file.cpp", "// never calls exit(1)\n"), [])

    def test_klein_error_is_the_only_exception(self):
        self.assertEqual(findings("klein/io/file.cpp", 'void f() { throw std::runtime_error("x"); }\n'),
                         ["klein/io/file.cpp:1: klein::Error is the only exception"])
        self.assertEqual(findings("klein/io/file.cpp", "void f() { throw std::bad_alloc(); }\n"), [])

    def test_a_number_beside_an_array_needs_a_reason(self):
        trap = "mx::array f(const mx::array& x) {\n  return x * 2.0f;\n}\n"
        self.assertEqual(len(findings("klein/nn/norm.cpp", trap)), 1)
        self.assertEqual(len(findings("klein/nn/norm.cpp", trap.replace("x * 2.0f", "1.0f + x"))), 1)
        self.assertEqual(findings("klein/nn/norm.cpp", trap.replace(";", ";  // float32 on purpose")), [])
        self.assertEqual(findings("klein/nn/norm.cpp", trap.replace("x * 2.0f", "x * scalar_like(x, 2.0f)")), [])
        self.assertEqual(findings("klein/nn/norm.cpp", trap.replace("x * 2.0f", "g(x.shape(0) * 2.0f)")), [])

    def test_unfinished_work_and_machine_folders_are_refused_in_any_text(self):
        self.assertEqual(findings("README.md", "TODO: write\n"),
                         ["README.md:1: unfinished work is an issue, not a comment"])
        self.assertEqual(findings("tools/a.py", 'p = "/home/ann/klein"\n'),
                         ["tools/a.py:1: a folder of one machine has no place here"])
        self.assertEqual(findings("tools/a.sh", "cd build/work/x && ls ~/home/y\n"), [])

    def test_line_ends_are_clean(self):
        self.assertEqual(findings("tools/a.py", "a = 1 \n"), ["tools/a.py:1: space at the end of the line"])
        self.assertEqual(findings("tools/a.py", "a = 1"), ["tools/a.py:1: no line break at the end of the file"])


if __name__ == "__main__":
    unittest.main()
