"""What a task had printed when its worker was ended: told with how it ended, of that task alone."""

from __future__ import annotations

import msgspec
import pytest
from simulation import Node

from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause, Output

S = b"s" * 12

PRINTED = Output(b"1234567890", b"abc", 10, 3)


def told(node: Node) -> list[bytes]:
    """Of all tasks that have ended, what they printed."""
    lost = [one.loss.output for message in node.of(msg.Lost) for one in message.tasks]  # type: ignore[attr-defined]
    ended = [
        outcome.output
        for message in node.of(msg.Results)
        for run in message.runs  # type: ignore[attr-defined]
        for outcome in run.outcomes
    ]
    return lost + ended


@pytest.mark.parametrize("signal", [9, 0])
def test_a_death_has_as_much_of_it_as_was_asked_for(node: Node, signal: int) -> None:
    node.send(S, [b"1000"], capture=4)
    node.kill(1, signal, -1 if signal else 4, printed=PRINTED)
    node.turn()
    (output,) = told(node)
    assert msgspec.msgpack.decode(output, type=Output) == Output(b"7890", b"abc", 10, 3)


def test_nothing_where_nobody_asked_or_nothing_was_printed(node: Node) -> None:
    node.send(S, [b"1000"])
    node.kill(1, printed=PRINTED)
    node.send(S, [b"1000"], first=1, capture=4)
    node.kill(2, printed=Output())
    node.turn()
    assert told(node) == [b"", b""]


@pytest.mark.parametrize("interrupt", [False, True])
def test_what_was_ended_from_outside_has_it_too(
    node: Node, monkeypatch: pytest.MonkeyPatch, interrupt: bool
) -> None:
    kill = node.kill
    monkeypatch.setattr(node, "kill", lambda number, *_: kill(number, printed=PRINTED))
    node.send(S, [b"1000"], capture=100, walltime_s=0.0 if interrupt else 1.0)
    node.run_for(0.5)
    if interrupt:
        node.say(msg.Cancel([msg.TaskRefs(S, [0, 1])], interrupt=True))
    node.run_for(1)
    assert node.ended == {(S, 0): ["CANCELLED" if interrupt else "lost"]}
    (output,) = told(node)
    assert msgspec.msgpack.decode(output, type=Output) == PRINTED


def test_where_a_task_was_when_its_walltime_was_over_is_not_what_it_printed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = b"Fatal Python error: Aborted\n\nCurrent thread 0x01 (most recent call first):\n"
    found = Output(b"", b"abc" + dump, 0, 1000 + 3 + len(dump))
    kill = node.kill
    monkeypatch.setattr(node, "kill", lambda number, *_: kill(number, printed=found))
    node.send(S, [b"1000"], capture=2, walltime_s=1.0)
    node.run_for(2)
    (output,) = told(node)
    assert msgspec.msgpack.decode(output, type=Output) == Output(b"", b"bc", 0, 1003)


def test_one_whose_outcome_was_lost_is_not_given_what_the_next_one_printed(node: Node) -> None:
    node.send(S, [b"0.0001"] * 100)
    node.run_for(1)
    node.said.clear()
    # Short ones share a message, and their outcomes one too.
    node.send(S, [*[b"0.0001"] * 3, b"1000"] * 2, first=100, capture=100)
    worker = node.workers[1]
    node.run_for(0.001)
    assert len(worker.held) == 3
    worker.held.clear()
    node.kill(1, printed=PRINTED)
    found = [one.loss for message in node.of(msg.Lost) for one in message.tasks]  # type: ignore[attr-defined]
    assert [loss.cause for loss in found] == [LossCause.INTERRUPTED] * 3 + [LossCause.WORKER_KILLED]
    assert [bool(loss.output) for loss in found] == [False] * 3 + [True]
