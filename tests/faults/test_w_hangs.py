"""Tasks that do not end: they are ended from outside, with all that they have started."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fxhpc import Executor, errors
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause, OutcomeKind
from tests.faults.figures import record_figure
from tests.process.workers import tasks
from tests.process.workers.interchange import Interchange
from tests.process.workers.manager import values, worker_pids

LIMIT_S = 0.5


HANGS = [tasks.spin, tasks.hang_in_compiled_code, tasks.hang_deaf, tasks.stop_itself]


def test_w06_every_hang_is_ended_at_its_walltime() -> None:
    """W6: a task that does not end, in Python, in compiled code that holds the interpreter's lock,
    deaf to signals, or stopped, is ended when its declared walltime is over. The error names limit
    and time, and shows where the task was, if its process could tell; what it had printed is kept,
    if that was asked for. Another worker is there at once, and nobody else is charged.
    """
    with Executor(2) as executor:
        assert executor.submit(tasks.pid).result(60)
        executor.resource_specification = {"walltime": LIMIT_S}
        futures = [executor.submit(hang) for hang in HANGS]
        executor.capture_output = True
        speaks = executor.submit(tasks.speak_and_hang, "until then")
        executor.capture_output = False
        executor.resource_specification = None
        others = [executor.submit(tasks.pid) for _ in range(100)]
        for hang, future in zip(HANGS, futures, strict=True):
            error = future.exception(60)
            assert type(error) is errors.TaskWalltimeExceeded, repr(error)
            assert error.limit == LIMIT_S
            assert LIMIT_S <= error.ran < LIMIT_S + 2
            assert not error.attempts
            assert error.host
            assert error.pid
            assert "its declared walltime of 500 ms was over" in str(error)
            if hang in (tasks.spin, tasks.hang_in_compiled_code):
                assert f"in {hang.__name__}" in error.stderr
            record_figure("W6", f"{hang.__name__}: ended late by", error.ran - LIMIT_S, "s")
        assert isinstance(speaks.exception(60), errors.TaskWalltimeExceeded)
        assert "python until then\n" in speaks.stdout
        assert "python error until then\n" in speaks.stderr
        assert len({other.result(60) for other in others}) >= 1


def test_w06_until_the_worker_is_back(interchange: Interchange) -> None:
    """W6: how long after the walltime the loss is told, and the worker's place is filled again."""
    stream = interchange.send(tasks.spin, (), walltime_s=LIMIT_S)
    interchange.until(lambda: interchange.started)
    before = worker_pids(interchange)
    sent = time.monotonic()
    interchange.until(lambda: interchange.lost)
    told = time.monotonic()
    interchange.until(lambda: len(worker_pids(interchange) | before) == 3)
    record_figure("W6", "walltime over, until the loss is told (first noticed)", told - sent, "s")
    record_figure("W6", "then, until another worker is there", time.monotonic() - told, "s")
    (lost,) = interchange.lost
    assert (lost.stream, lost.index) == (stream, 0)
    assert lost.loss.cause == LossCause.TASK_WALLTIME
    assert lost.loss.limit_s == LIMIT_S


def test_w06_what_it_started_ends_too(interchange: Interchange, tmp_path: Path) -> None:
    """W6: so does a daemon of the task, two forks and a session of its own away."""
    path = tmp_path / "pid"
    interchange.send(tasks.leave_daemon, (str(path), 600.0), walltime_s=1.0)
    interchange.until(path.exists)
    daemon = psutil.Process(int(path.read_text()))
    interchange.until(lambda: interchange.lost)
    daemon.wait(5)
    assert values(interchange.run(tasks.double, *[(1,)] * 10)) == [2] * 10


def test_w06_others_in_the_workers_hands_are_not_charged(interchange: Interchange) -> None:
    """W6: a task that is ended stood among short ones that its worker had been given too."""
    assert values(interchange.run(tasks.nap, *[(0.0,)] * 200))
    naps = [(0.0,)] * 100 + [(60.0,)] + [(0.0,)] * 100
    stream = interchange.send(tasks.nap, *naps, walltime_s=LIMIT_S)
    interchange.until(lambda: interchange.lost)
    interchange.wait(stream, 200)
    assert [lost.index for lost in interchange.lost] == [100]
    assert {outcome.kind for outcome in interchange.outcomes[stream].values()} == {
        OutcomeKind.VALUE
    }
    assert interchange.twice == 0


def test_cancelling_ends_the_whole_tree(interchange: Interchange, tmp_path: Path) -> None:
    """A running task is cancelled with `interrupt=True`: its worker is ended, with all that the
    task has started, and replaced; it is no loss of anybody.
    """
    path = tmp_path / "pid"
    before = worker_pids(interchange)
    stream = interchange.send(tasks.leave_daemon, (str(path), 600.0))
    interchange.until(path.exists)
    daemon = psutil.Process(int(path.read_text()))
    asked = time.monotonic()
    interchange.say(msg.Cancel([msg.TaskRefs(stream, [0, 1])], interrupt=True))
    (outcome,) = interchange.wait(stream, 1)
    record_figure("F11", "running task cancelled, until it is told", time.monotonic() - asked, "s")
    assert outcome.kind == OutcomeKind.CANCELLED
    daemon.wait(5)
    interchange.until(lambda: len(worker_pids(interchange) | before) == 3)
    assert not interchange.lost


@pytest.mark.parametrize("hang", [tasks.spin, tasks.hang_in_compiled_code, tasks.stop_itself])
def test_cancelling_ends_a_hang(interchange: Interchange, hang: Callable[[], Any]) -> None:
    """Neither a loop nor compiled code that holds the interpreter's lock keeps it from ending."""
    stream = interchange.send(hang, ())
    interchange.until(lambda: interchange.started)
    interchange.say(msg.Cancel([msg.TaskRefs(stream, [0, 1])], interrupt=True))
    assert interchange.wait(stream, 1)[0].kind == OutcomeKind.CANCELLED
    assert values(interchange.run(tasks.double, *[(1,)] * 4)) == [2] * 4
    assert not interchange.lost


def test_w06_a_declared_task_wakes_nobody_up_more_often(interchange: Interchange) -> None:
    """W6: a manager whose task has a walltime of an hour rests as one whose task has none."""
    interchange.send(tasks.nap, (600.0,), walltime_s=3600.0)
    interchange.until(lambda: interchange.started)
    manager = psutil.Process(interchange.process.pid)
    began, before = time.monotonic(), manager.num_ctx_switches().voluntary
    interchange.until(lambda: time.monotonic() - began > 1.0)
    switches = manager.num_ctx_switches().voluntary - before
    record_figure("W6", "wake-ups of a manager with a declared task", switches, "/s")
    assert switches < 30
