"""A real manager with real workers: every way in which a task, a worker or its seed can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from workers import tasks
from workers.interchange import Interchange

from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause, Outcome, OutcomeKind
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.serialize import unpack_exception, unpack_result


@pytest.fixture
def interchange() -> Iterator[Interchange]:
    interchange = Interchange()
    try:
        interchange.ready()
        interchange.until(lambda: len(worker_pids(interchange)) == 2)
        yield interchange
    finally:
        interchange.close()


def values(outcomes: list[Outcome]) -> list[Any]:
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.VALUE}
    return [unpack_result(outcome.data) for outcome in outcomes]


def error(outcome: Outcome) -> str:
    assert outcome.kind == OutcomeKind.ERROR
    return str(unpack_exception(outcome.data))


def count(tasks: list[msg.TaskRefs]) -> int:
    return sum(sum(refs.ranges[1::2]) for refs in tasks)


def worker_pids(interchange: Interchange) -> set[int]:
    """The workers' processes: the children of the seed."""
    return {process.pid for process in psutil.Process(seed_pid(interchange)).children()}


def seed_pid(interchange: Interchange) -> int:
    (seed,) = psutil.Process(interchange.process.pid).children()
    return seed.pid


def test_values(interchange: Interchange) -> None:
    outcomes = interchange.run(tasks.double, *[(number,) for number in range(1000)])
    assert values(outcomes) == [2 * number for number in range(1000)]


def test_large_arguments_and_results(interchange: Interchange) -> None:
    sizes = [0, 60_000, 65_000, 70_000, 1 << 20, 4 << 20]
    outcomes = interchange.run(tasks.echo, *[(b"x" * size,) for size in sizes])
    assert [len(value) for value in values(outcomes)] == sizes


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (tasks.leave, (3,), "SystemExit"),
        (tasks.interrupt, (), "KeyboardInterrupt"),
        (tasks.recurse, (), "RecursionError"),
        (tasks.unpicklable, (), "generator"),
        (tasks.raise_two, (), "1 and 2"),
        (tasks.echo, (b"x" * (6 << 20),), "6291"),
    ],
)
def test_errors_of_the_user(
    interchange: Interchange, function: Any, arguments: tuple[Any, ...], expected: str
) -> None:
    before = worker_pids(interchange)
    (outcome,) = interchange.run(function, arguments)
    assert expected in error(outcome)
    assert values(interchange.run(tasks.double, (1,), (2,))) == [2, 4]
    assert worker_pids(interchange) == before


def test_exit_is_the_tasks_own_end(interchange: Interchange) -> None:
    stream = interchange.send(tasks.exit_at_once, (4,))
    interchange.until(lambda: interchange.lost)
    (lost,) = interchange.lost
    assert (lost.stream, lost.index, lost.attempt) == (stream, 0, 1)
    assert lost.loss.cause == LossCause.WORKER_EXITED
    assert lost.loss.exit_code == 4
    assert "code 4" in lost.loss.text
    assert values(interchange.run(tasks.double, (1,), (2,))) == [2, 4]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_signal_is_named(interchange: Interchange, number: signal.Signals) -> None:
    interchange.send(tasks.kill_self, (int(number),))
    interchange.until(lambda: interchange.lost)
    loss = interchange.lost[0].loss
    assert loss.cause == LossCause.WORKER_KILLED
    assert loss.signal == number
    assert number.name in loss.text
    assert loss.peak_memory > 1 << 20


def test_a_crash_in_compiled_code_shows_where(interchange: Interchange) -> None:
    interchange.send(tasks.crash, ())
    interchange.until(lambda: interchange.lost)
    loss = interchange.lost[0].loss
    assert loss.signal == signal.SIGSEGV
    assert "in crash" in loss.stderr


def test_last_words(interchange: Interchange) -> None:
    interchange.send(tasks.say_and_crash, ())
    interchange.until(lambda: interchange.lost)
    assert "the last words" in interchange.lost[0].loss.stderr


def test_a_busy_worker_killed_charges_its_task_alone(interchange: Interchange) -> None:
    assert values(interchange.run(tasks.nap, *[(0.0,)] * 200))  # so that naps count as short
    stream = interchange.send(tasks.nap, *[(0.0,)] * 50, (60.0,), *[(0.0,)] * 50)
    interchange.until(lambda: interchange.started)
    interchange.wait(stream, 100)
    (busy,) = _at_work(interchange)
    os.kill(busy, signal.SIGKILL)
    killed = time.monotonic()
    interchange.until(lambda: interchange.lost)
    assert time.monotonic() - killed < 1.0
    assert [lost.index for lost in interchange.lost] == [50]
    assert len(interchange.outcomes[stream]) == 100


def _at_work(interchange: Interchange) -> set[int]:
    """Workers that do not answer: those that are in a task."""
    idle = set(values(interchange.run(tasks.pid, (), (), (), ())))
    return worker_pids(interchange) - idle


def test_idle_workers_killed(interchange: Interchange) -> None:
    for _ in range(6):
        for pid in worker_pids(interchange):
            os.kill(pid, signal.SIGKILL)
        assert values(interchange.run(tasks.double, *[(1,)] * 50)) == [2] * 50
    assert not interchange.lost


def test_a_task_that_forks(interchange: Interchange) -> None:
    assert values(interchange.run(tasks.fork, *[()] * 4)) == ["parent"] * 4
    assert values(interchange.run(tasks.fork_and_raise, *[()] * 4)) == ["parent"] * 4
    assert values(interchange.run(tasks.double, *[(1,)] * 4)) == [2] * 4
    assert interchange.twice == 0


def test_tasks_do_not_spoil_each_others_process(interchange: Interchange, tmp_path: Path) -> None:
    before = values(interchange.run(tasks.state, ()))
    interchange.run(tasks.spoil, *[(str(tmp_path),)] * 4)
    after = values(interchange.run(tasks.state, *[()] * 4))
    assert {tuple(state) for state in after} == {tuple(before[0])}


def test_nobody_waits_behind_a_long_task(interchange: Interchange) -> None:
    assert values(interchange.run(tasks.nap, *[(0.0,)] * 500))
    began = time.monotonic()
    stream = interchange.send(tasks.nap, *[(0.0,)] * 300, (30.0,), *[(0.0,)] * 300)
    interchange.wait(stream, 600)
    assert time.monotonic() - began < 5.0


def test_cancel_what_waits_and_what_runs(interchange: Interchange) -> None:
    stream = interchange.send(tasks.nap, *[(60.0,)] * 4)
    interchange.until(lambda: count(interchange.started) == 2)
    interchange.started.clear()
    interchange.say(msg.Cancel([msg.TaskRefs(stream, [0, 4])]))
    outcomes = interchange.wait(stream, 2)
    assert [(outcome.index, outcome.kind) for outcome in outcomes] == [
        (2, OutcomeKind.CANCELLED),
        (3, OutcomeKind.CANCELLED),
    ]
    interchange.until(lambda: count(interchange.started) == 2)
    interchange.say(msg.Cancel([msg.TaskRefs(stream, [0, 4])], interrupt=True))
    outcomes = interchange.wait(stream, 4)
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.CANCELLED}
    assert values(interchange.run(tasks.double, (1,))) == [2]
    assert not interchange.lost


def test_interrupt_ends_the_whole_tree(interchange: Interchange, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    stream = interchange.send(tasks.leave_daemon, (str(path), 60.0))
    interchange.until(path.exists)
    daemon = psutil.Process(int(path.read_text()))
    interchange.say(msg.Cancel([msg.TaskRefs(stream, [0, 1])], interrupt=True))
    interchange.wait(stream, 1)
    daemon.wait(5)


def test_the_seed_killed(interchange: Interchange) -> None:
    stream = interchange.send(tasks.nap, (60.0,), (60.0,), (0.0,))
    interchange.until(lambda: count(interchange.started) == 2)
    os.kill(seed_pid(interchange), signal.SIGKILL)
    assert len(interchange.wait(stream, 1)) == 1
    interchange.until(lambda: len(interchange.lost) == 2)
    assert {lost.index for lost in interchange.lost} == {0, 1}
    assert {lost.loss.cause for lost in interchange.lost} == {LossCause.MANAGER_LOST}
    assert values(interchange.run(tasks.double, (1,))) == [2]


def test_the_manager_killed(interchange: Interchange, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    interchange.send(tasks.leave_daemon, (str(path), 60.0))
    interchange.until(path.exists)
    family = interchange.family()
    os.kill(interchange.process.pid, signal.SIGKILL)
    interchange.process.wait(5)
    _, alive = psutil.wait_procs(family, timeout=2)
    assert not alive


def test_a_term_signal_ends_all(interchange: Interchange, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    interchange.send(tasks.leave_daemon, (str(path), 60.0))
    interchange.until(path.exists)
    family = interchange.family()
    interchange.process.terminate()
    interchange.until(lambda: interchange.bye)
    assert interchange.process.wait(5) == 0
    _, alive = psutil.wait_procs(family, timeout=2)
    assert not alive


def test_it_ends_with_the_process_that_it_watches() -> None:
    watched = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    interchange = Interchange(watch_pid=watched.pid)
    try:
        interchange.ready()
        stream = interchange.send(tasks.nap, (60.0,))
        interchange.until(lambda: interchange.started)
        family = interchange.family()
        watched.kill()
        watched.wait()
        _, alive = psutil.wait_procs(family, timeout=2)
        assert not alive
        assert stream
    finally:
        watched.communicate()
        interchange.close()


def test_workers_that_cannot_start_say_why() -> None:
    interchange = Interchange(cwd="/there/is/no/such/directory")
    try:
        interchange.ready()
        stream = interchange.send(tasks.double, (1,), (2,))
        interchange.until(lambda: len(interchange.lost) == 2)
        loss = interchange.lost[0].loss
        assert interchange.lost[0].stream == stream
        assert loss.cause == LossCause.WORKER_UNSTARTABLE
        assert "/there/is/no/such/directory" in loss.text
    finally:
        interchange.close()


def test_a_task_that_closes_the_standard_streams(interchange: Interchange) -> None:
    interchange.run(tasks.close_streams, *[()] * 4)
    interchange.send(tasks.say_and_crash, ())
    interchange.until(lambda: interchange.lost)
    assert "the last words" in interchange.lost[0].loss.stderr


def test_a_task_that_speaks_to_the_manager(interchange: Interchange) -> None:
    before = worker_pids(interchange)
    interchange.send(tasks.write_to_sockets, ())
    interchange.until(lambda: worker_pids(interchange) - before)
    assert values(interchange.run(tasks.double, *[(1,)] * 100)) == [2] * 100


def test_where_there_are_only_streams() -> None:
    code = (
        "import socket, sys\n"
        "import fxhpc.manager.channel as channel\n"
        "channel.PAIR_TYPE = socket.SOCK_STREAM\n"
        "from fxhpc.manager.__main__ import main\n"
        "sys.exit(main())\n"
    )
    interchange = Interchange(code)
    try:
        interchange.ready()
        assert values(interchange.run(tasks.double, *[(1,)] * 500)) == [2] * 500
        (outcome,) = interchange.run(tasks.echo, (b"x" * (1 << 20),))
        assert len(values([outcome])[0]) == 1 << 20
        interchange.send(tasks.exit_at_once, (4,))
        interchange.until(lambda: interchange.lost)
        assert interchange.lost[0].loss.exit_code == 4
    finally:
        interchange.close()


@pytest.mark.parametrize("spec", [b"", b"nonsense", msgspec.msgpack.encode({"endpoint": b"e"})])
def test_a_wrong_specification_is_refused_in_words(spec: bytes) -> None:
    command = [sys.executable, "-m", "fxhpc.manager"]
    done = subprocess.run(command, input=spec, capture_output=True, timeout=10, check=False)
    assert done.returncode == 2
    assert b"specification" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_low_limit_on_open_files_is_named() -> None:
    spec = ManagerSpec(endpoint=b"e", address="ipc:///tmp/none/managers", workers=20)
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 60; exec {sys.executable} -m fxhpc.manager"],
        input=msgspec.msgpack.encode(spec),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert b"20 workers need 184 open files" in done.stderr
    assert b"`ulimit -n`) is 60" in done.stderr
    assert b"Traceback" not in done.stderr


def test_output_is_bounded_and_blocks_nobody(interchange: Interchange) -> None:
    size = 200 << 20
    (written,) = values(interchange.run(tasks.flood, (size,)))
    assert written >= size
    assert psutil.Process(interchange.process.pid).memory_info().rss < 150 << 20


def test_another_interchange_learns_what_is_held(interchange: Interchange) -> None:
    interchange.store = False
    done = interchange.send(tasks.double, (1,), (2,))
    interchange.wait(done, 2)
    stream = interchange.send(tasks.nap, (0.5,), (0.5,), (0.0,), (0.0,))
    interchange.until(lambda: count(interchange.started) == 2)
    sent_before = list(interchange.results)
    interchange.outcomes.clear()
    interchange.restart()
    interchange.store = True
    interchange.until(lambda: len(interchange.registered) == 2)
    registered = interchange.registered[1]
    assert registered.manager == interchange.registered[0].manager
    assert registered.unstored == sent_before
    assert [refs.ranges for refs in registered.running] == [[0, 2]]
    assert [refs.ranges for refs in registered.queued] == [[2, 2]]
    assert values(interchange.wait(done, 2)) == [2, 4]
    assert values(interchange.wait(stream, 4)) == [0.5, 0.5, 0.0, 0.0]
    assert interchange.twice == 0


def test_a_reset_is_answered_by_another_greeting(interchange: Interchange) -> None:
    stream = interchange.send(tasks.nap, (0.5,))
    interchange.say(msg.Reset())
    interchange.until(lambda: len(interchange.registered) == 2)
    assert values(interchange.wait(stream, 1)) == [0.5]


def test_drain_returns_what_has_not_begun(interchange: Interchange) -> None:
    stream = interchange.send(tasks.nap, *[(0.3,)] * 6)
    interchange.until(lambda: interchange.started)
    interchange.say(msg.Drain())
    interchange.until(lambda: interchange.returned)
    interchange.until(lambda: interchange.bye)
    assert interchange.process.wait(5) == 0
    assert count(interchange.returned) + len(interchange.outcomes[stream]) == 6
    assert len(interchange.outcomes[stream]) >= 2


def test_give_back(interchange: Interchange) -> None:
    stream = interchange.send(tasks.nap, *[(0.3,)] * 6)
    interchange.until(lambda: interchange.started)
    interchange.say(msg.GiveBack(3))
    interchange.until(lambda: interchange.returned)
    assert [refs.ranges for refs in interchange.returned] == [[3, 3]]
    assert len(interchange.wait(stream, 3)) == 3


def test_a_body_that_nobody_has_ends_what_needs_it(interchange: Interchange) -> None:
    stream = b"s" * 12
    interchange.say(msg.Tasks([msg.TaskRun(stream, 0, b"d" * 32, [b"x", b"y"], 1, 1)]))
    outcomes = interchange.wait(stream, 2)
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.LOST}


def test_refused_it_ends_with_the_reason(interchange: Interchange) -> None:
    interchange.say(msg.Refuse("another version"))
    assert interchange.process.wait(5) == 78
