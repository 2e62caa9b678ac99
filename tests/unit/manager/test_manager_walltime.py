"""The manager's core ends tasks that take longer than they were declared to."""

from __future__ import annotations

import pytest
from endpoint_simulation import Endpoint
from simulation import Node

from fxhpc.manager import staff as staff_module
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause, OutcomeKind, unpack_loss

S, T = b"s" * 12, b"t" * 12


def losses(node: Node) -> list[Loss]:
    return [lost.loss for message in node.of(msg.Lost) for lost in message.tasks]  # type: ignore[attr-defined]


@pytest.mark.parametrize("walltime_s", [0.005, 0.2, 3.0, 1000.0])
def test_a_task_is_ended_when_its_walltime_is_over(node: Node, walltime_s: float) -> None:
    began = node.now
    node.send(S, [b"5000"], walltime_s=walltime_s)
    while not node.ended:
        node.step()
    assert node.ended == {(S, 0): ["lost"]}
    (loss,) = losses(node)
    assert loss.cause == LossCause.TASK_WALLTIME
    assert loss.limit_s == walltime_s
    assert walltime_s - 1e-6 <= loss.ran_s < walltime_s + 0.05
    assert node.now - began < walltime_s + 0.05
    assert (loss.signal, loss.exit_code) == (0, -1)
    assert "on node1" in loss.text
    assert "its declared walltime of" in loss.text


def test_what_ends_in_time_is_left_alone(node: Node) -> None:
    node.send(S, [b"0.5"] * 20, walltime_s=1.0)
    node.run_for(10)
    assert set(map(tuple, node.ended.values())) == {("VALUE",)}
    assert len(node.ended) == 20


def test_waiting_behind_another_does_not_count() -> None:
    endpoint = Endpoint(2)
    endpoint.submit(S, [0.001] * 200)
    endpoint.run_all(200, 1.0)
    # Short ones share a message, so that the long ones come in the middle of what a worker has.
    endpoint.submit(T, ([0.001] * 20 + [30.0] + [0.001] * 20) * 2, walltime_s=2.0)
    endpoint.run_all(200 + 82, 20.0)
    late = {task: each for task, each in endpoint.outcomes.items() if each.kind == OutcomeKind.LOST}
    assert late.keys() == {(T, 20), (T, 61)}
    assert all(1.999 <= unpack_loss(each.data).ran_s < 2.1 for each in late.values())
    assert set(endpoint.ran.values()) == {1}


def test_the_worker_is_replaced_and_nobody_else_is_charged(node: Node) -> None:
    node.send(S, [b"1000"] * 6 + [b"0.1"] * 4, walltime_s=1.0)
    node.run_for(8)
    assert [node.ended[S, index] for index in range(6)] == [["lost"]] * 6
    assert [node.ended[S, index] for index in range(6, 10)] == [["VALUE"]] * 4
    assert {loss.cause for loss in losses(node)} == {LossCause.TASK_WALLTIME}
    assert len(node.workers) == 2


def test_a_cancelled_task_that_is_out_of_time_too_is_cancelled(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its worker takes its time to die, so that both are known before it has.
    monkeypatch.setattr(node, "kill", lambda *_: None)
    node.send(S, [b"1000"], walltime_s=1.0)
    node.run_for(2)
    node.say(msg.Cancel([msg.TaskRefs(S, [0, 1])], interrupt=True))
    monkeypatch.undo()
    node.kill(1)
    node.turn()
    assert node.ended == {(S, 0): ["CANCELLED"]}


def test_it_ended_at_the_last_moment(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outcome was on its way when it was to be killed: it counts, and nothing else is lost."""
    killed: list[int] = []
    monkeypatch.setattr(node, "kill", lambda number, *_: killed.append(number))
    node.send(S, [b"1.05"], walltime_s=1.0)
    node.run_for(1.03)
    assert killed == [1]
    node.run_for(1)
    monkeypatch.undo()
    node.kill(1)
    node.send(S, [b"0.1"], first=1)
    node.run_for(1)
    assert node.ended == {(S, 0): ["VALUE"], (S, 1): ["VALUE"]}


def test_no_more_turns_than_without_a_walltime(node: Node) -> None:
    node.send(S, [b"60"] * 2, walltime_s=50.0)
    node.run_for(staff_module.STARTED_S * 2)
    assert node.core.wait_s(node.now) == node.core.heartbeat_s / 2
    node.run_for(49)
    assert node.core.wait_s(node.now) < 1.0
    node.run_for(2)
    assert node.core.wait_s(node.now) == node.core.heartbeat_s / 2


@pytest.mark.parametrize("cancel", [False, True])
def test_a_worker_that_does_not_die_is_given_up(
    node: Node, monkeypatch: pytest.MonkeyPatch, cancel: bool
) -> None:
    """Its process hangs in the kernel: the task ends nevertheless, and the place is filled."""
    monkeypatch.setattr(node, "kill", lambda *_: None)
    node.send(S, [b"1000"] * 2, walltime_s=0.0 if cancel else 1.0)
    if cancel:
        node.run_for(1)
        node.say(msg.Cancel([msg.TaskRefs(S, [0, 2])], interrupt=True))
    node.run_for(8)
    assert not node.ended
    undead = dict(node.workers)
    node.run_for(8)
    assert set(map(tuple, node.ended.values())) == {("CANCELLED",) if cancel else ("lost",)}
    assert len(node.ended) == 2
    assert all("has not died of that" in loss.text for loss in losses(node))
    node.send(S, [b"0.1"] * 4, first=2)
    node.run_for(2)
    assert [node.ended[S, index] for index in range(2, 6)] == [["VALUE"]] * 4
    monkeypatch.undo()
    for number in undead:  # what they say at last is of no interest any more
        node.kill(number)
    node.run_for(1)
    assert len(node.ended) == 6
