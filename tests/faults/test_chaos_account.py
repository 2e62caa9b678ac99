"""What the tasks of a chaos workload say of themselves is read rightly: a check that sees nothing
would pass everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from fxhpc import hosts
from fxhpc.errors import TaskLost
from fxhpc.testing.chaos import Hit
from fxhpc.testing.marks import Account, account, marked
from tests.waiting import eventually


def _write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def _hit(kind: str, pid: int, clock: float, how: str = "SIGKILL") -> Hit:
    return Hit(clock, kind, pid, how, clock)


def _account(path: Path, outcomes: dict[int, object], *story: Hit) -> Account:
    return account(path, outcomes, [0], story)


FIRST = ("begin a 10.0 1 2 3 4", "begin b 12.0 5 6 7 4", "end b 12.5")
VALUE: dict[int, object] = {0: (0, "b")}


def test_a_further_run_is_explained_by_a_kill_of_what_had_the_first(tmp_path: Path) -> None:
    _write(tmp_path / "0", *FIRST)
    for pid, kind in ((1, "worker"), (2, "seed"), (3, "manager"), (4, "client")):
        found = _account(tmp_path, VALUE, _hit(kind, pid, 11.0))
        assert found.is_clean(), found.tell()
        assert (found.again, found.runs) == (1, 2)


def test_a_further_run_without_a_kill_is_reported(tmp_path: Path) -> None:
    _write(tmp_path / "0", *FIRST)
    for story in (
        [],
        [_hit("worker", 9, 11.0)],  # another worker
        [_hit("worker", 1, 5.0)],  # before its pid was this one's
        [_hit("worker", 1, 20.0)],  # after
        [_hit("worker", 1, 11.0, "SIGSTOP for 1.0 s")],  # it went on
        [_hit("forwarder", 0, 11.0)],
    ):
        found = _account(tmp_path, VALUE, *story)
        assert len(found.unexplained) == 1, story
        assert not found.is_clean()


def test_two_that_ran_at_once_are_reported_whatever_was_killed(tmp_path: Path) -> None:
    kill = _hit("worker", 1, 11.0)
    _write(tmp_path / "0", *FIRST, "end a 12.1")
    assert len(_account(tmp_path, VALUE, kill).twice) == 1
    _write(tmp_path / "0", *FIRST, "beside b 1.000000 a 0")
    assert len(_account(tmp_path, VALUE, kill).twice) == 1


def test_a_worker_that_dies_with_its_manager_is_a_figure_of_its_own(tmp_path: Path) -> None:
    _write(tmp_path / "0", *FIRST, "beside b 0.020000 a 1")
    found = _account(tmp_path, VALUE, _hit("manager", 3, 11.9))
    assert found.is_clean(), found.tell()
    assert found.dying_s == [0.02]


def test_a_task_whose_manager_had_just_died_is_told_whose_it_was(tmp_path: Path) -> None:
    _write(tmp_path / "0", "begin a 10.0 1 2 1 0", "begin b 12.0 5 6 7 4", "end b 12.5")
    _write(tmp_path / "1", "begin c 9.0 1 2 3 4", "end c 9.5")
    assert _account(tmp_path, VALUE, _hit("manager", 3, 9.9)).is_clean()


def test_the_first_task_of_a_seed_whose_manager_had_just_died_was_that_managers(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "0", "begin a 10.0 1 2 1 0", "begin b 12.0 5 6 7 4", "end b 12.5")
    assert _account(tmp_path, VALUE, _hit("manager", 3, 9.9)).is_clean()
    for other in (_hit("worker", 3, 9.9), _hit("manager", 3, 5.0)):
        assert len(_account(tmp_path, VALUE, other).unexplained) == 1


def test_whatever_has_not_ended_well_is_told(tmp_path: Path) -> None:
    _write(tmp_path / "0", *FIRST)
    kill = _hit("worker", 1, 11.0)
    assert _account(tmp_path, {}, kill).hung == [0]
    assert "gone" in _account(tmp_path, {0: TaskLost("gone")}, kill).lost[0]
    for wrong in (None, (1, "b"), (0, "a"), ValueError("of the task's own")):
        assert len(_account(tmp_path, {0: wrong}, kill).failed) == 1, wrong
    assert not account(tmp_path, {}, [], []).is_clean()  # nothing was submitted at all


def test_a_run_sees_an_earlier_one_that_lives(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    try:
        name = f"{other.pid}-{hosts.start_time(other.pid):.2f}-1"
        _write(tmp_path / "0", f"begin {name} 1.0 {other.pid} 2 3 4")
        begun = threading.Thread(target=marked, args=(str(tmp_path), 0))
        begun.start()
        eventually(lambda: str(os.getpid()) in (tmp_path / "0").read_text())
        other.kill()
        other.wait()
        begun.join(10)
        (line,) = [
            line for line in (tmp_path / "0").read_text().splitlines() if line.startswith("beside")
        ]
        assert line.endswith(f"{name} 1")
    finally:
        other.kill()
        other.wait()
        assert other.stdin is not None
        other.stdin.close()
