"""What tasks leave changed in a worker's process is put back; here in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, signal, sys
from fxhpc.worker.state import State

home, other = sys.argv[1:]
os.chdir(home)
state = State()
{task}
state.restore()
{then}
print(os.getcwd())
"""


def cwd_after(task: str, tmp_path: Path, then: str = "") -> str:
    """Where a worker is that was at `home` when a task has done this."""
    for name in ("home", "other"):
        (tmp_path / name).mkdir()
    code = CODE.format(task=task, then=then)
    arguments = [str(tmp_path / "home"), str(tmp_path / "other")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "task",
    [
        "os.chdir(other)",
        "os.chdir(other); os.rmdir(other)",
        "os.chdir(other); os.closerange(3, 100)",
        "os.close(state._cwd_fd)",
    ],
)
def test_the_directory_is_put_back(task: str, tmp_path: Path) -> None:
    assert cwd_after(task, tmp_path) == str(tmp_path / "home")


@pytest.mark.parametrize(
    "task",
    [
        "os.rmdir(home); os.mkdir(home)",
        "os.chdir(other); os.rename(home, home + '2'); os.mkdir(home)",
        "os.close(state._cwd_fd); os.open(other, os.O_RDONLY)",
    ],
)
def test_a_directory_that_is_another_by_now_is_found_when_outcomes_are_sent(
    task: str, tmp_path: Path
) -> None:
    twice = "state.restore_rest(); state.restore()"
    assert cwd_after(task, tmp_path, twice) == str(tmp_path / "home")


def test_handlers_are_put_back(tmp_path: Path) -> None:
    task = "signal.signal(signal.SIGUSR1, print); signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    then = (
        "assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL"
    )
    assert cwd_after(task, tmp_path, then) == str(tmp_path / "home")
