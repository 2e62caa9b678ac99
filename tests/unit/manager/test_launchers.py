"""What starts ranks on other nodes is asked to end them before it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import subprocess, sys
from fxhpc.manager import processes

child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
processes.kill_children(set())
"""
SCRIPT = """#!/bin/bash
trap 'echo asked > "$1"; exit' TERM
echo ready
read -r
"""


@pytest.mark.parametrize(("name", "asked"), [("srun", True), ("solver", False)])
def test_a_launcher_is_asked_first(tmp_path: Path, name: str, asked: bool) -> None:
    program, told = tmp_path / name, tmp_path / "told"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    command = [sys.executable, "-c", CODE, str(program), str(told)]
    subprocess.run(command, check=True, timeout=30)
    assert told.exists() == asked
