"""A real manager with real workers: what it is sent, what it says, and how it ends.

How tasks and workers can end is in tests/faults.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from workers import tasks
from workers.interchange import Interchange
from workers.manager import count, seed_pid, values, worker_pids

from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause, OutcomeKind
from fxhpc.protocol.pool import ManagerSpec


def test_values(interchange: Interchange) -> None:
    outcomes = interchange.run(tasks.double, *[(number,) for number in range(1000)])
    assert values(outcomes) == [2 * number for number in range(1000)]


def test_large_arguments_and_results(interchange: Interchange) -> None:
    sizes = [0, 60_000, 65_000, 70_000, 1 << 20, 4 << 20]
    outcomes = interchange.run(tasks.echo, *[(b"x" * size,) for size in sizes])
    assert [len(value) for value in values(outcomes)] == sizes


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


def test_another_interchange_learns_what_is_held(interchange: Interchange) -> None:
    interchange.store = False
    done = interchange.send(tasks.double, (1,), (2,))
    interchange.wait(done, 2)
    running = interchange.send(tasks.nap, (0.5,), (0.5,))
    interchange.until(lambda: count(interchange.started) == 2)
    # Others would be given back: both workers are busy for long.
    queued = interchange.send(tasks.nap, (0.0,), (0.0,), suspect=True)
    interchange.say(msg.GiveBack(1))
    interchange.until(lambda: interchange.answers)  # so it has got them
    sent_before = list(interchange.results)
    interchange.outcomes.clear()
    interchange.restart()
    interchange.store = True
    interchange.until(lambda: len(interchange.registered) == 2)
    registered = interchange.registered[1]
    assert registered.manager == interchange.registered[0].manager
    assert registered.unstored == sent_before
    assert [(refs.stream, refs.ranges) for refs in registered.running] == [(running, [0, 2])]
    assert [(refs.stream, refs.ranges) for refs in registered.queued] == [(queued, [0, 2])]
    assert values(interchange.wait(done, 2)) == [2, 4]
    assert values(interchange.wait(running, 2)) == [0.5, 0.5]
    assert values(interchange.wait(queued, 2)) == [0.0, 0.0]
    assert interchange.twice == 0


def test_a_reset_is_answered_by_another_greeting(interchange: Interchange) -> None:
    stream = interchange.send(tasks.nap, (0.5,))
    interchange.say(msg.Reset())
    interchange.until(lambda: len(interchange.registered) == 2)
    assert values(interchange.wait(stream, 1)) == [0.5]


def test_drain_returns_what_has_not_begun(interchange: Interchange) -> None:
    interchange.sends_again = False
    stream = interchange.send(tasks.nap, *[(0.3,)] * 6)
    interchange.until(lambda: interchange.started)
    interchange.say(msg.Drain())
    interchange.until(lambda: interchange.returned)
    interchange.until(lambda: interchange.bye)
    assert interchange.process.wait(5) == 0
    assert count(interchange.returned) + len(interchange.outcomes[stream]) == 6
    assert len(interchange.outcomes[stream]) >= 2


def test_give_back(interchange: Interchange) -> None:
    interchange.sends_again = False
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
