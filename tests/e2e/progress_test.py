"""What a person sees while a picture is made, and what stopping does."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
import unittest

import support
from support import PROMPT, TINY, ProgramTest

STEPS = 4


def read_terminal(descriptor):
    """Everything until the other end is closed."""
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # how Linux says that nobody writes any more
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


class Progress(ProgramTest):
    def on_terminal(self, *arguments, columns=80):
        """Runs the program with a terminal for standard error; returns what it shows."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = support.environment(TERM="xterm")
        process = subprocess.Popen([support.PROGRAM, *map(str, arguments)], cwd=self.folder, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        shown = read_terminal(ours)
        os.close(ours)
        out = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 0, shown)
        return shown, out.decode()

    def test_lines_without_a_terminal(self):
        result = self.klein("generate", PROMPT, *TINY, "--seed", 7)
        self.assertEqual(result.stdout, "")
        shown = re.sub(r"\d+\.\d+ s", "T", result.stderr)
        self.assertEqual(shown, "seed 7\nload: T\ntext: T\nstep 1 of 4: T, T left\nstep 2 of 4: T, T left\n"
                                "step 3 of 4: T, T left\nstep 4 of 4: T\ndecode: T\n"
                                "image.png: 64 x 48, 4 steps, seed 7, T\n")

    def test_a_live_line_on_a_terminal(self):
        shown, out = self.on_terminal("generate", PROMPT, *TINY, "--seed", 7)
        self.assertEqual(out, "")
        self.assertTrue(shown.endswith("\n"))
        for part in ("load ", "text ", "step ", "decode ", "done "):
            self.assertIn("\r" + part, shown)
        self.assertRegex(shown, r"\rstep   \[=+>? *\] 3/4  \d+\.\d\d s/step, \d+\.\d\d s left\x1b\[K")
        self.assertIn("image.png: 64 x 48", shown.split("\n")[-2])

    def test_a_narrow_terminal_never_wraps(self):
        shown, _ = self.on_terminal("generate", PROMPT, *TINY, columns=20)
        for drawn in re.findall(r"\r([^\r\n\x1b]*)\x1b\[K", shown):
            self.assertLess(len(drawn), 20)

    def test_quiet_says_nothing(self):
        shown, out = self.on_terminal("generate", PROMPT, *TINY, "--quiet")
        self.assertEqual((shown, out), ("", ""))
        self.assertEqual(self.files(), ["image.png"])

    def test_json_is_all_of_standard_output(self):
        result = self.klein("generate", PROMPT, *TINY, "--seed", 7, 8, "--json")
        self.assertIn("picture 2 of 2, seed 8", result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(set(report), {"files", "seeds", "batch", "seconds", "step_seconds", "peak_memory_bytes", "memory",
                                       "width", "height", "steps", "guidance", "model", "loras", "warnings"})
        self.assertEqual(set(report["seconds"]), {"load", "encode_text", "denoise", "decode", "save", "total"})
        self.assertEqual((report["seeds"], report["steps"], report["guidance"]), ([7, 8], STEPS, 1.0))
        self.assertEqual(len(report["step_seconds"]), 2 * STEPS)
        self.assertGreater(report["peak_memory_bytes"], 1_000_000)
        parts = sum(value for key, value in report["seconds"].items() if key != "total")
        self.assertLessEqual(parts, report["seconds"]["total"])
        self.assertEqual(report["model"], str(TINY[1]))

    def test_a_random_seed_is_shown_and_repeats_the_picture(self):
        result = self.klein("generate", PROMPT, *TINY, "--steps", 1, "--json")
        (seed,) = json.loads(result.stdout)["seeds"]
        self.assertIn(f"seed {seed}\n", result.stderr)
        self.generate(PROMPT, *TINY, "--steps", 1, "--seed", seed, "--output", "again.png")
        self.assertEqual((self.folder / "image.png").read_bytes(), (self.folder / "again.png").read_bytes())


class Stopping(ProgramTest):
    def start(self, *arguments):
        """A run that is far from its end once this returns."""
        process = subprocess.Popen([support.PROGRAM, "generate", PROMPT, "--steps", "1000", *map(str, TINY), "--width",
                                    "256", "--height", "256", *arguments], cwd=self.folder, env=support.environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        for line in process.stderr:
            if line.startswith("step 2 of 1000"):
                return process
        self.fail("the run ended before its second step")

    def test_the_first_signal_stops_between_steps(self):
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal_number):
                process = self.start("--json", "--output", "new/image.png")
                begin = time.monotonic()
                process.send_signal(signal_number)
                out, err = process.communicate(timeout=30)
                self.assertLess(time.monotonic() - begin, 5.0)
                self.assertEqual(process.returncode, 130)
                self.assertEqual(out, "")
                self.assertEqual(err.splitlines()[-1], "klein: error: stopped on request")
                self.assertEqual(self.files(), [])

    def test_a_signal_while_input_is_awaited_ends_the_program(self):
        process = subprocess.Popen([support.PROGRAM, "generate", "--prompt", "-", *map(str, TINY)], cwd=self.folder,
                                   env=support.environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=30), 130)
        process.communicate()


if __name__ == "__main__":
    unittest.main()
