"""What a dead worker has kept of a chunk's calls goes up with the loss of that chunk alone."""

from __future__ import annotations

import signal

import msgspec
import pytest
from simulation import Node

from fxhpc.manager import events as ev
from fxhpc.protocol import kept
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause, Output
from fxhpc.protocol.pool import WorkRun

S = b"s" * 12
RECORDS = kept.record(0, kept.VALUE, b"zero")


@pytest.fixture
def node() -> Node:
    node = Node(slots=1)
    node.say(msg.Body(b"f", b"body"))
    return node


def losses(node: Node) -> dict[int, Loss]:
    found: list[msg.Lost] = node.of(msg.Lost)  # type: ignore[assignment]
    return {lost.index: lost.loss for message in found for lost in message.tasks}


def kill(node: Node, printed: Output | None = None) -> None:
    (worker,) = node.workers
    node.kill(worker, printed=printed, kept=RECORDS)


def runs(node: Node) -> list[WorkRun]:
    return [run for _, work in node.work for run in work.runs]


def test_it_goes_up_with_the_chunk_that_the_worker_was_at(node: Node) -> None:
    node.send(S, [b"10", b"10"], calls=6, kept=b"")
    node.run_for(1)
    kill(node)
    node.run_for(1)
    assert {index: loss.kept for index, loss in losses(node).items()} == {0: RECORDS}


def test_it_goes_down_to_the_worker(node: Node) -> None:
    node.send(S, [b"1"], calls=6, kept=RECORDS)
    node.send(S, [b"1"], first=1, calls=6)
    node.run_for(3)
    assert {run.first: run.kept for run in runs(node)} == {0: RECORDS, 1: None}


def test_what_was_printed_goes_with_it_if_that_is_wanted(node: Node) -> None:
    node.send(S, [b"10"], calls=6, kept=b"", capture=100)
    node.run_for(1)
    kill(node, Output(b"at 0\n", b"", 5))
    (loss,) = losses(node).values()
    first, printed = kept.records(loss.kept)
    assert first == (0, kept.VALUE, b"zero")
    assert printed[1] == kept.PRINTED
    assert msgspec.msgpack.decode(printed[2], type=Output).stdout == b"at 0\n"
    assert printed[2] == loss.output


def test_a_call_that_is_out_of_time_takes_nothing_along(node: Node) -> None:
    node.undead = True  # till it is killed by hand
    node.send(S, [b"5000"], walltime_s=6.0, calls=6, kept=b"")
    (one,) = node.workers.values()
    one.call = 2
    node.run_for(1.5)
    kill(node)
    (loss,) = losses(node).values()
    assert (loss.cause, loss.call, loss.kept) == (LossCause.TASK_WALLTIME, 2, RECORDS)


@pytest.mark.parametrize("dead", [False, True], ids=["lives", "dead"])
@pytest.mark.parametrize("ends", [0.0, 20.0], ids=["ended", "walltime"])
def test_it_goes_up_when_the_manager_is_ended(dead: bool, ends: float) -> None:
    node = Node(slots=1, ends=ends, walltime_s=3600.0)
    node.say(msg.Body(b"f", b"body"))
    node.send(S, [b"10", b"10"], calls=6, kept=b"", capture=100)
    node.run_for(1)
    (worker,) = node.workers
    left = {}
    if dead:
        node.kill(worker, signal.SIGTERM, printed=Output(b"at 0\n", b"", 5), kept=RECORDS)
    else:
        begun = node.workers[worker].begun
        printed = Output(b"at 0\n", b"", 5)
        left[worker] = ev.WorkerGone(worker, begun, printed=printed, kept=RECORDS)
    node.tell(ev.Ended("the manager got SIGTERM", True, left))
    (loss,) = losses(node).values()
    assert loss.cause == (LossCause.WALLTIME if ends else LossCause.INTERRUPTED)
    assert [one[:2] for one in kept.records(loss.kept)] == [(0, kept.VALUE), (0, kept.PRINTED)]
    assert loss.kept.startswith(RECORDS)


def test_what_another_task_has_left_goes_up_with_none(node: Node) -> None:
    node.send(S, [b"10"], calls=6, kept=b"")
    node.run_for(1)
    (worker,) = node.workers
    left = {worker: ev.WorkerGone(worker, node.workers[worker].begun + 1, kept=RECORDS)}
    node.tell(ev.Ended("the manager got SIGTERM", True, left))
    (loss,) = losses(node).values()
    assert (loss.cause, loss.kept) == (LossCause.INTERRUPTED, b"")


def test_a_loss_that_is_said_again_after_a_broken_link_is_small(node: Node) -> None:
    node.send(S, [b"10"], calls=6, kept=b"")
    node.run_for(1)
    node.tell(ev.LinkLost())
    kill(node)
    assert not losses(node)
    node.link()
    (loss,) = losses(node).values()
    assert (loss.cause, loss.kept) == (LossCause.WORKER_KILLED, b"")
