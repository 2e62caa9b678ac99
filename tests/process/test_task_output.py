"""What tasks print, where it is asked for: all of it, bounded, and in the story of a loss."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from workers import tasks
from workers.interchange import Interchange

from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause, Outcome, OutcomeKind, Output
from fxhpc.serialize import unpack_result


@pytest.fixture
def interchange() -> Iterator[Interchange]:
    interchange = Interchange()
    try:
        yield interchange.ready()
    finally:
        interchange.close()


def output(outcome: Outcome) -> Output:
    return msgspec.msgpack.decode(outcome.output, type=Output)


def test_all_that_a_task_prints(interchange: Interchange) -> None:
    stream = interchange.send(tasks.speak, ("one",), ("two",), ("three",), capture=4096)
    for outcome, name in zip(interchange.wait(stream, 3), ("one", "two", "three"), strict=True):
        found = output(outcome)
        lines = sorted(found.stdout.decode().splitlines())
        assert lines == [f"child {name}", f"compiled {name}", f"python {name}"]
        errors = found.stderr.decode().splitlines()
        assert errors == [f"python error {name}", f"child error {name}", "raw"]
        assert (found.stdout_bytes, found.stderr_bytes) == (len(found.stdout), len(found.stderr))


def test_nothing_is_kept_that_nobody_asked_for(interchange: Interchange) -> None:
    (first,) = interchange.run(tasks.speak, ("one",))
    (second,) = interchange.wait(interchange.send(tasks.double, (1,), capture=100), 1)
    (third,) = interchange.run(tasks.speak, ("three",))
    for outcome in (first, second, third):
        if outcome.output:  # it took so long that it is told what it used
            told = output(outcome)
            assert (told.stdout, told.stderr) == (b"", b"")
            assert (told.stdout_bytes, told.stderr_bytes) == (0, 0)


def test_errors_have_output_too(interchange: Interchange) -> None:
    (outcome,) = interchange.wait(interchange.send(tasks.print_and_raise, (), capture=100), 1)
    assert outcome.kind == OutcomeKind.ERROR
    assert output(outcome).stdout == b"before the error\n"


@pytest.mark.parametrize("result", [10, 40_000, 200_000])
@pytest.mark.parametrize("limit", [100, 20_000, 100_000, 1 << 30])
def test_the_last_of_much(interchange: Interchange, limit: int, result: int) -> None:
    size = 3 << 20
    stream = interchange.send(tasks.print_much, (size, result), (size, result), capture=limit)
    for outcome in interchange.wait(stream, 2):
        found = output(outcome)
        assert found.stdout_bytes == size + 8
        assert len(found.stdout) == min(limit, 1 << 20)
        assert found.stdout.endswith(b"x\nthe end\n")
        assert len(unpack_result(outcome.data)) == result


def test_a_flood_needs_little_memory(interchange: Interchange) -> None:
    size = 400 << 20
    stream = interchange.send(tasks.flood, (size,), capture=1000)
    most = 0

    def flooded() -> bool:
        nonlocal most
        most = max(most, held(interchange.process.pid))
        return bool(interchange.outcomes.get(stream))

    interchange.until(flooded, 60)
    (outcome,) = interchange.wait(stream, 1)
    assert output(outcome).stderr_bytes >= size
    assert output(outcome).stderr == b"x" * 1000
    interchange.until(lambda: held(interchange.process.pid) < 8 << 20)
    assert most < size


def held(pid: int) -> int:
    """Bytes that a process's files without names take."""
    folder = Path(f"/proc/{pid}/fd")
    found = 0
    for path in folder.iterdir():
        try:
            if "memfd:fxhpc" in os.readlink(path):
                found += path.stat().st_blocks * 512
        except OSError:
            continue  # closed meanwhile
    return found


def test_last_words_of_a_task_whose_output_is_captured(interchange: Interchange) -> None:
    interchange.send(tasks.say_and_crash, (), capture=1000)
    interchange.until(lambda: interchange.lost)
    loss = interchange.lost[0].loss
    assert loss.signal == signal.SIGABRT
    assert "the last words" in loss.stderr


def test_a_task_that_closes_its_streams(interchange: Interchange) -> None:
    stream = interchange.send(tasks.print_and_close, *[()] * 4, capture=1000)
    found = [output(outcome).stdout for outcome in interchange.wait(stream, 4)]
    assert found == [b"before it is closed\n"] * 4
    stream = interchange.send(tasks.speak, ("again",), capture=1000)
    assert b"compiled again\n" in output(interchange.wait(stream, 1)[0]).stdout


def test_a_manager_with_captures_rests_when_they_are_over(interchange: Interchange) -> None:
    interchange.wait(interchange.send(tasks.speak, ("one",), capture=1000), 1)
    manager = psutil.Process(interchange.process.pid)
    interchange.until(lambda: _rests(manager, interchange), 20)


def _rests(manager: psutil.Process, interchange: Interchange) -> bool:
    before = manager.num_ctx_switches().voluntary
    interchange.pump(1.0)
    return manager.num_ctx_switches().voluntary - before <= 5


def test_what_a_task_printed_until_its_walltime_ended_it(interchange: Interchange) -> None:
    interchange.wait(interchange.send(tasks.speak, *[("before",)] * 4, capture=1000), 4)
    interchange.send(tasks.speak_and_hang, ("now",), capture=10, walltime_s=0.3)
    interchange.until(lambda: interchange.lost)
    loss = interchange.lost[0].loss
    assert loss.cause == LossCause.TASK_WALLTIME
    found = msgspec.msgpack.decode(loss.output, type=Output)
    assert len(found.stdout) == 10
    assert found.stdout.endswith(b" now\n")
    assert found.stdout_bytes == len("python now\nchild now\ncompiled now\n")
    assert "python error now" in loss.stderr
    assert "before" not in loss.stderr, "that was another task"


def test_what_a_task_printed_until_it_was_interrupted(interchange: Interchange) -> None:
    stream = interchange.send(tasks.speak_and_hang, ("now",), capture=1000)
    interchange.until(lambda: interchange.started)
    interchange.say(msg.Cancel([msg.TaskRefs(stream, [0, 1])], interrupt=True))
    (outcome,) = interchange.wait(stream, 1)
    assert outcome.kind == OutcomeKind.CANCELLED
    assert b"python now\n" in output(outcome).stdout


def test_a_task_that_prints_nothing_is_not_shown_what_others_printed(
    interchange: Interchange,
) -> None:
    interchange.wait(interchange.send(tasks.speak, *[("before",)] * 4, capture=1000), 4)
    interchange.send(tasks.kill_self, (9,), capture=1000)
    interchange.until(lambda: interchange.lost)
    assert interchange.lost[0].loss.output == b""
    assert "before" not in interchange.lost[0].loss.stderr
