"""Names and output of others do not command a terminal, nor write lines into a log."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys

import pytest

from fxhpc.printable import in_one_line, make_logs_safe, printable

EVIL = "f\x1b]0;gone\x07\x1b[2J\x9b31m\x08\x7f\u202etxt\r"


def test_a_terminal_is_not_commanded() -> None:
    shown = printable(EVIL)
    assert shown.isprintable()
    assert shown.startswith("f\\x1b]0;gone\\x07")
    assert printable("two\nlines\tand \x1b[31mred\x1b[0m") == "two\nlines\tand \x1b[31mred\x1b[0m"
    assert printable("Größe 3 µm \u2013 你好") == "Größe 3 µm \u2013 你好"


def test_a_log_has_no_lines_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_one_line("m\n2026 INFO all is well") == "m\\n2026 INFO all is well"
    root, stream = logging.getLogger(), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    before, root.handlers = root.handlers, [handler]
    try:
        make_logs_safe()
        logging.warning("manager %s registered", EVIL + "\nINFO forged")
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            logging.exception("it failed")
    finally:
        root.handlers = before
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("WARNING manager f\\x1b")
    assert lines[1] == "ERROR it failed"
    assert lines[2].startswith("Traceback")
    assert lines[-1] == "ValueError: \\x1b[2J" or lines[-1].startswith("ValueError")
    assert not [line for line in lines if line.startswith("INFO")]


def test_commands_on_a_terminal() -> None:
    """An endpoint's name, an error's text: nothing of it reaches the terminal as a command."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "fxhpc.cli.main", "endpoint", "status", "x\x1b]0;gone\x07y"],
            stdout=theirs,
            stderr=theirs,
            stdin=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
        os.set_blocking(ours, False)
        said = os.read(ours, 100_000)
    finally:
        os.close(theirs)
        os.close(ours)
    assert b"gone" in said
    assert b"\x1b]" not in said
    assert b"\x07" not in said
