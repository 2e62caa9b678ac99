"""Each call of a chunk has the walltime that was declared, and is ended when that is over."""

from __future__ import annotations

import pytest
from simulation import Node

from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause

S = b"s" * 12


@pytest.fixture
def node() -> Node:
    node = Node(slots=1)
    node.say(msg.Body(b"f", b"body"))
    return node


def losses(node: Node) -> list[Loss]:
    return [lost.loss for message in node.of(msg.Lost) for lost in message.tasks]  # type: ignore[attr-defined]


def at(node: Node, call: int, seconds: float) -> None:
    """The worker is at this call for so long, if it lives."""
    for worker in node.workers.values():
        worker.call = call
    node.run_for(seconds)


def test_a_call_that_hangs_is_ended_when_its_own_walltime_is_over(node: Node) -> None:
    node.send(S, [b"5000"], walltime_s=6.0, calls=6)
    at(node, 0, 0.7)
    at(node, 1, 0.7)
    assert not losses(node)
    at(node, 2, 1.3)
    (loss,) = losses(node)
    assert (loss.cause, loss.call, loss.limit_s) == (LossCause.TASK_WALLTIME, 2, 1.0)
    assert 1.0 <= loss.ran_s < 1.2
    assert "had run the call for" in loss.text
    assert "its declared walltime of 1.0 s was over" in loss.text


def test_calls_that_end_in_time_are_left_alone(node: Node) -> None:
    node.send(S, [b"5000"], walltime_s=6.0, calls=6)
    for call in range(6):
        at(node, call, 0.99)
    at(node, -1, 0.99)
    assert not losses(node)
    at(node, 0, 0.99)  # its value is packed
    assert not losses(node)


def test_what_is_done_between_calls_has_the_walltime_of_the_chunk(node: Node) -> None:
    node.send(S, [b"5000"], walltime_s=6.0, calls=6)
    at(node, -1, 5.9)
    assert not losses(node)
    at(node, -1, 0.3)
    (loss,) = losses(node)
    assert (loss.call, loss.limit_s) == (-1, 6.0)
    assert "had run the task for" in loss.text


def test_the_call_is_charged_that_was_overdue_though_another_began_before_the_end(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "kill", lambda *_: None)
    node.send(S, [b"5000"], walltime_s=6.0, calls=6)
    at(node, 3, 1.2)
    at(node, 4, 0.1)
    monkeypatch.undo()
    node.kill(1)
    node.turn()
    assert losses(node)[0].call == 3


def test_a_manager_that_could_not_look_for_long_does_not_guess(node: Node) -> None:
    """It may be another time at a call of the same number: values are packed after all calls."""
    node.send(S, [b"5000"], walltime_s=6.0, calls=6)
    at(node, 0, 0.1)
    node.now += 1.5
    node.look()
    at(node, 0, 0.9)
    assert not losses(node)
    at(node, 0, 0.3)
    assert losses(node)[0].call == 0


def test_looks_are_few_and_there_are_none_for_chunks_without_a_walltime(node: Node) -> None:
    node.send(S, [b"100"], calls=6)
    node.run_for(1)
    assert not node.core.calling
    assert node.core.wait_s(node.now) == node.core.heartbeat_s / 2
    node.run_for(100)
    node.send(S, [b"100"], first=1, walltime_s=48.0, calls=6)
    at(node, 0, 0.1)
    at(node, 0, 0.1)
    assert node.core.calling == {1}
    assert node.core.wait_s(node.now) == 1.0
