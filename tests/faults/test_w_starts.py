"""Workers that cannot start say why; those that start slowly are waited for."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fxhpc import Executor, errors
from fxhpc.protocol.outcome import LossCause
from tests.faults.figures import record_figure
from tests.process.homes import TestHome, finish
from tests.process.workers import tasks
from tests.process.workers.interchange import ROOT, Interchange
from tests.process.workers.manager import values


@contextmanager
def manager(**spec: Any) -> Iterator[Interchange]:
    interchange = Interchange(**spec)
    try:
        yield interchange.ready()
    finally:
        interchange.close()


def test_w14_workers_that_cannot_start_say_why() -> None:
    """W14: workers die before they can run anything, three in a row: tasks end with what the last
    one said. The manager stays, and tries again now and then.
    """
    began = time.monotonic()
    with manager(cwd="/there/is/no/such/directory") as interchange:
        stream = interchange.send(tasks.double, (1,), (2,))
        interchange.until(lambda: len(interchange.lost) == 2)
        record_figure(
            "W14", "start of the manager, until tasks say why", time.monotonic() - began, "s"
        )
        loss = interchange.lost[0].loss
        assert interchange.lost[0].stream == stream
        assert loss.cause == LossCause.WORKER_UNSTARTABLE
        assert "/there/is/no/such/directory" in loss.text
        assert "three in a row" in loss.text
        assert interchange.process.poll() is None


def test_w14_workers_of_an_executor_that_cannot_start(tmp_path: Path) -> None:
    """W14: the directory that an executor's workers start in is removed under them. Those that are
    to take the place of others cannot start; whoever waits is told, with their last lines.
    """
    folder = tmp_path / "gone"
    folder.mkdir()
    before = os.getcwd()
    os.chdir(folder)
    try:
        with Executor(1) as executor:
            pid = executor.submit(os.getpid).result(60)
            folder.rmdir()
            os.kill(pid, signal.SIGKILL)
            error = executor.submit(os.getpid).exception(60)
    finally:
        os.chdir(before)
    assert isinstance(error, errors.WorkerStartFailed), repr(error)
    assert str(folder) in str(error)
    assert "What to do" in str(error)


def test_w14_a_home_that_cannot_be_written_to(home: TestHome, tmp_path: Path) -> None:
    """W14: a `$HOME` that is read-only, or is no directory, is no hindrance to `Executor`."""
    (tmp_path / "file").touch()
    home.environment["HOME"] = str(tmp_path / "file")
    code = """
    import os
    from fxhpc import Executor, errors
    with Executor(2) as executor:
        print(sorted(executor.map(abs, [-1, -2])), os.environ["HOME"] == executor.submit(
            os.getenv, "HOME").result(60))
    """
    assert finish(home.start("homeless.py", code)) == "[1, 2] True\n"


def test_w15_a_slow_interpreter_is_waited_for(tmp_path: Path) -> None:
    """W15: the interpreter takes long to start (a slow file system, a `.pth` with much in it)."""
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(1.2)\n")
    with manager(environ={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}) as interchange:
        assert values(interchange.run(tasks.double, (1,), (2,))) == [2, 4]
        assert not interchange.lost
        assert len(interchange.registered) == 1


@pytest.mark.parametrize("slow_s", [1.5, pytest.param(40.0, marks=pytest.mark.load)])
def test_w15_slow_imports_of_workers_are_no_death(tmp_path: Path, slow_s: float) -> None:
    """W15: what workers import takes longer than many heartbeats. Meanwhile the manager beats, and
    is not lost; tasks that wait there run when the workers are ready.
    """
    (tmp_path / "slow_one.py").write_text(f"import time\ntime.sleep({slow_s})\n")
    with manager(
        sys_path=[str(tmp_path), ROOT, *sys.path], preload=["slow_one"], workers=1
    ) as interchange:
        began = time.monotonic()
        stream = interchange.send(tasks.imported, (["slow_one"],))
        assert values(interchange.wait(stream, 1, slow_s + 20)) == [["slow_one"]]
        record_figure(
            "W15", f"first task, behind imports of {slow_s:g} s", time.monotonic() - began, "s"
        )
        assert not interchange.lost
        assert len(interchange.registered) == 1
