"""Workers die: while they are busy, while idle, by every signal, by a task that kills them all."""

from __future__ import annotations

import functools
import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fxhpc import Executor, errors
from fxhpc.protocol.outcome import LossCause
from tests.faults.figures import record_figure
from tests.process.homes import TestHome, finish
from tests.process.workers import tasks
from tests.process.workers.interchange import Interchange
from tests.process.workers.manager import values, worker_pids
from tests.waiting import eventually

MANY = [3, pytest.param(40, marks=pytest.mark.load)]


def record(row: str, name: str, seconds: list[float]) -> None:
    """Median and 99th percentile (of few: the largest)."""
    ordered = sorted(seconds)
    record_figure(row, f"{name}, p50 of {len(ordered)}", statistics.median(ordered), "s")
    record_figure(
        row, f"{name}, p99", ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], "s"
    )


def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("kills", MANY)
def test_w01_a_busy_worker_killed_its_task_runs_again(tmp_path: Path, kills: int) -> None:
    """W1: a worker dies of SIGKILL while it runs a task. That task runs again elsewhere within
    0.1 s, all others are untouched; a second and a third death of the kind end it (see below).
    """
    took: list[float] = []
    with Executor(2) as executor:
        assert executor.submit(double, 4).result(60) == 8
        for number in range(kills):
            folder = tmp_path / str(number)
            folder.mkdir()
            future = executor.submit(tasks.note_and_hold, str(folder))
            (pid,) = map(int, eventually(lambda folder=folder: os.listdir(folder)))  # type: ignore[misc]
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            first, began = future.result(60)
            assert first == pid
            took.append(began - killed)
        assert list(executor.map(double, range(50))) == [2 * x for x in range(50)]
    record("W1", "worker killed, until its task runs again", took)
    assert statistics.median(took) < 1.0


@pytest.mark.parametrize("kills", MANY)
def test_w01_the_death_is_told_at_once_and_charges_its_task_alone(
    interchange: Interchange, kills: int
) -> None:
    """W1, at the manager: the death is told within 0.1 s, of the task that ran and of no other,
    and what stood behind it in the worker's hands ends elsewhere.
    """
    assert values(interchange.run(tasks.nap, *[(0.0,)] * 200))  # so that naps count as short
    took: list[float] = []
    for _ in range(kills):
        interchange.lost.clear()
        interchange.started.clear()
        stream = interchange.send(tasks.nap, *[(0.0,)] * 20, (60.0,), *[(0.0,)] * 20)
        interchange.until(lambda: interchange.started)
        interchange.wait(stream, 40)
        idle = set(values(interchange.run(tasks.pid, *[()] * 4)))
        (busy,) = worker_pids(interchange) - idle
        killed = time.monotonic()
        os.kill(busy, signal.SIGKILL)
        interchange.until(lambda: interchange.lost)
        took.append(time.monotonic() - killed)
        assert [lost.index for lost in interchange.lost] == [20]
        assert len(interchange.outcomes[stream]) == 40
        interchange.until(lambda: len(worker_pids(interchange)) == 2)
    record("W1", "worker killed, until its manager has told", took)
    assert statistics.median(took) < 1.0


def test_w01_two_deaths_from_outside_cost_two_attempts(home: TestHome, tmp_path: Path) -> None:
    """W1: what is killed twice from outside runs a third time, and its value is all that comes."""
    code = """
    import os, sys, time
    from fxhpc import Executor

    def hold_on(folder):
        import os, time
        tries = len(os.listdir(folder))
        with open(os.path.join(folder, f"{os.getpid()}"), "w"):
            pass
        if tries < 2:
            time.sleep(1000)
        return tries

    def double(x):
        return 2 * x

    with Executor(2) as executor:
        future = executor.submit(hold_on, sys.argv[1])
        others = [executor.submit(double, x) for x in range(200)]
        assert [other.result(60) for other in others] == [2 * x for x in range(200)]
        print(future.result(60))
    """
    folder = tmp_path / "tries"
    folder.mkdir()
    process = home.start("outside.py", code, str(folder))
    killed: set[int] = set()
    for _ in range(2):
        (pid,) = eventually(lambda: {int(n) for n in os.listdir(folder)} - killed)
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
    assert finish(process) == "2\n"


def die_at(poison: int, folder: str, x: int) -> int:
    note(folder, x)
    if x == poison:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * x


def test_w05_a_call_that_kills_its_worker_in_a_chunk(tmp_path: Path) -> None:
    """W5, in chunks: a call of a map that kills each of its workers is made three times, and lost
    alone. Those before it in its chunk run once more, no others, and no other chunk.
    """
    with Executor(2) as executor:
        call = functools.partial(die_at, 333, str(tmp_path))
        values: Any = executor.map(call, range(1000), chunksize=100)
        futures = values.futures
        error = futures[333].exception(60)
        assert type(error) is errors.WorkerDied
        assert (error.task_id, len(error.attempts)) == (futures[333].task_id, 2)
        good = [future.result(60) for x, future in enumerate(futures) if x != 333]
        assert good == [2 * x for x in range(1000) if x != 333]
        assert [next(values) for _ in range(333)] == [2 * x for x in range(333)]
        with pytest.raises(errors.WorkerDied, match="It had element 333 of the map"):
            next(values)
    ran = [len((tmp_path / str(x)).read_text()) for x in range(1000)]
    assert ran[300:400] == [2] * 33 + [3] + [1] * 66
    assert ran[:300] + ran[400:] == [1] * 900


def rate(executor: Executor, tasks_: int) -> float:
    """Tasks a second."""
    began = time.monotonic()
    assert list(executor.map(double, range(tasks_))) == [2 * x for x in range(tasks_)]
    return tasks_ / (time.monotonic() - began)


@pytest.mark.parametrize("count", [2000, pytest.param(50_000, marks=pytest.mark.load)])
def test_w02_idle_workers_killed_twenty_times(count: int) -> None:
    """W2: idle workers are killed, twenty times. Others take their places, nothing is lost or
    hangs, and the rest is as fast as before.
    """

    def workers() -> set[int]:
        found = psutil.Process().children(recursive=True)
        return {one.pid for one in found if "fxhpc: worker" in _title(one)}

    with Executor(2) as executor:
        rate(executor, count)
        before = rate(executor, count)
        for _ in range(20):
            pids = eventually(lambda: pids if len(pids := workers()) == 2 else set())
            os.kill(pids.pop(), signal.SIGKILL)
            assert executor.submit(double, 1).result(60) == 2
        eventually(lambda: len(workers()) == 2)
        rate(executor, count)
        after = rate(executor, count)
    record_figure("W2", f"{count:,} tasks before", before, "/s")
    record_figure("W2", f"{count:,} tasks after 20 kills of idle workers", after, "/s")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_w02_both_idle_workers_killed_at_once(interchange: Interchange) -> None:
    """W2, at the manager: all workers at once; nothing is told as lost, for nothing was."""
    for _ in range(4):
        for pid in worker_pids(interchange):
            os.kill(pid, signal.SIGKILL)
        assert values(interchange.run(tasks.double, *[(1,)] * 50)) == [2] * 50
    assert not interchange.lost


def test_w03_each_signal_is_named(interchange: Interchange) -> None:
    """W3: a task's process dies of a signal. The loss names it, with the peak of memory; cores
    are not dumped, unless the task itself raises the limit.
    """
    assert values(interchange.run(tasks.core_limit, ())) == [0]
    fatal = [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE]
    interchange.send(tasks.kill_self, *[(int(number),) for number in fatal])
    interchange.until(lambda: len(interchange.lost) == len(fatal))
    for lost in interchange.lost:
        loss, number = lost.loss, fatal[lost.index]
        assert loss.cause == LossCause.WORKER_KILLED
        assert loss.signal == number
        assert f"signal {int(number)} ({number.name})" in loss.text
        assert loss.peak_memory > 1 << 20
        assert not loss.oom


def test_w03_a_crash_in_compiled_code_shows_where(interchange: Interchange) -> None:
    """W3: the last lines of stderr are the stack at the crash, from its top, however deep."""
    interchange.send(tasks.crash_deep, (0,), (90,))
    interchange.until(lambda: len(interchange.lost) == 2)
    for lost in interchange.lost:
        assert lost.loss.signal == signal.SIGSEGV
        assert lost.loss.stderr.count("in crash\n") == 1
        assert "Fatal Python error" in lost.loss.stderr


def test_w03_last_words(interchange: Interchange) -> None:
    """W3: what a task wrote last is told with its loss, also after another closed the streams."""
    interchange.run(tasks.close_streams, *[()] * 4)
    interchange.send(tasks.say_and_crash, ())
    interchange.until(lambda: interchange.lost)
    assert "the last words" in interchange.lost[0].loss.stderr


def fatal(path: str) -> None:
    with open(path, "a") as file:
        file.write("tried\n")
    os.kill(os.getpid(), signal.SIGKILL)


def test_w05_a_poison_task_among_a_thousand(tmp_path: Path) -> None:
    """W5: a task kills each worker that runs it, among a thousand good ones. It dies three times
    and ends with the story of each time; the thousand end well, and none of them runs twice.
    """
    notes, poison = tmp_path / "notes", tmp_path / "poison"
    notes.mkdir()
    with Executor(2) as executor:
        rate(executor, 1000)
        alone = _makespan(lambda: [executor.submit(note, str(notes), x) for x in range(1000)])
        both = _makespan(
            lambda: [
                *(executor.submit(note, str(notes), 1000 + x) for x in range(500)),
                executor.submit(fatal, str(poison)),
                *(executor.submit(note, str(notes), 1500 + x) for x in range(500)),
            ]
        )
    assert poison.read_text().split() == ["tried"] * 3
    assert all((notes / str(x)).read_text() == "x" for x in range(2000))
    record_figure("W5", "deaths of a poison task", 3)
    record_figure("W5", "1,000 tasks beside it take longer by", both - alone, "s")


def note(folder: str, x: int) -> int:
    with open(os.path.join(folder, str(x)), "a") as file:
        file.write("x")
    return x


def _makespan(submit: Callable[[], list[Any]]) -> float:
    began = time.monotonic()
    futures = submit()
    failed = [future.exception(60) for future in futures]
    took = time.monotonic() - began
    for error in filter(None, failed):
        assert type(error) is errors.WorkerDied
        assert error.signal == signal.SIGKILL
        assert len(error.attempts) == 2
        assert all(
            f"on {error.host} was killed by signal 9 (SIGKILL)" in told for told in error.attempts
        )
    assert sum(error is not None for error in failed) == len(futures) - 1000
    return took
