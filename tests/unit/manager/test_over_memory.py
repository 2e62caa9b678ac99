"""The manager's core ends tasks that use more memory than they were declared to."""

from __future__ import annotations

import msgspec
import pytest
from simulation import Node

from fxhpc.manager import events as ev
from fxhpc.manager.resources.nearing import Over
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack
from fxhpc.protocol.outcome import Loss, LossCause

S, T = b"s" * 12, b"t" * 12
GB = 2**30
NEEDS = pack(Needs(memory=2 * GB))


@pytest.fixture
def large() -> Node:
    """A node with two cores and memory for two of these."""
    made = Node(size=Size((Cell(UNIT),) * 2, 0, 4 * GB))
    made.tell(ev.Said(msg.Body(b"f", b"body")))
    return made


def losses(node: Node) -> list[Loss]:
    return [lost.loss for message in node.of(msg.Lost) for lost in message.tasks]  # type: ignore[attr-defined]


def limited(node: Node) -> list[int]:
    """The workers that have memory of their own."""
    return [number for number, worker in node.workers.items() if worker.made.lease]


def over(worker: int, killed: bool = False, before: int = 100 * 2**20) -> Over:
    return Over(worker, 23 * GB // 10, 2 * GB, killed, before)


def exceed(node: Node, worker: int, before: int = 100 * 2**20) -> None:
    node.look()
    node.tell(ev.MemoryExceeded(over(worker, before=before)))


def test_who_is_over_is_ended_alone_and_the_figures_are_told(large: Node) -> None:
    large.send(S, [b"1000", b"3"], needs=NEEDS)
    large.run_for(2)
    first, second = limited(large)
    exceed(large, first)
    large.run_for(5)
    assert large.ended == {(S, 0): ["lost"], (S, 1): ["VALUE"]}
    assert first not in large.workers
    (loss,) = losses(large)
    assert loss.cause == LossCause.TASK_MEMORY
    assert "on node1" in loss.text
    assert "used 2.3 GB of memory, its limit is 2.0 GB (resource_specification" in loss.text
    assert "before" not in loss.text
    assert (loss.peak_memory, loss.limit_bytes) == (23 * GB // 10, 2 * GB)
    assert (loss.signal, loss.exit_code, loss.oom) == (0, -1, "")
    assert 1.9 < loss.ran_s < 2.1
    assert second


def test_what_ran_there_before_is_told(large: Node) -> None:
    large.send(S, [b"0.5"], needs=NEEDS)
    large.run_for(1)
    large.send(S, [b"1000"], first=1, needs=NEEDS)
    large.run_for(1)
    (worker,) = limited(large)
    exceed(large, worker)
    large.run_for(1)
    assert large.ended == {(S, 0): ["VALUE"], (S, 1): ["lost"]}
    (loss,) = losses(large)
    assert loss.cause == LossCause.TASK_MEMORY
    assert "used 100.0 MB when it was last looked at before it began this one" in loss.text


def test_who_finds_its_worker_half_full_runs_once_more(large: Node) -> None:
    large.send(S, [b"0.5"], needs=NEEDS)
    large.run_for(1)
    large.send(S, [b"1000"], first=1, needs=NEEDS)
    large.run_for(1)
    exceed(large, limited(large)[0], before=GB)
    large.run_for(1)
    (loss,) = losses(large)
    assert loss.cause == LossCause.INTERRUPTED
    assert "on node1, which ran the task, was ended: it was over its memory's limit" in loss.text
    assert "It had run other tasks, and used 1.0 GB when it was last looked at" in loss.text
    # The same once more, in a worker that has run others as well.
    large.send(T, [b"0.5"], needs=NEEDS)
    large.run_for(1)
    large.send(S, [b"1000"], first=1, needs=NEEDS, attempt=2)
    large.run_for(1)
    busy = [number for number in limited(large) if large.workers[number].current is not None]
    exceed(large, busy[0], before=GB)
    large.run_for(1)
    assert [loss.cause for loss in losses(large)] == [LossCause.INTERRUPTED, LossCause.TASK_MEMORY]


def test_the_first_task_of_a_worker_has_nobody_else_to_blame(large: Node) -> None:
    large.send(S, [b"1000"], needs=NEEDS)
    large.run_for(1)
    exceed(large, limited(large)[0], before=GB)
    large.run_for(1)
    assert [loss.cause for loss in losses(large)] == [LossCause.TASK_MEMORY]


def test_a_worker_that_the_kernel_has_killed_at_its_limit(
    large: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.send(S, [b"1000"], needs=NEEDS)
    large.run_for(1)
    (worker,) = limited(large)
    plain = large.tell

    def tell(event: ev.Event) -> None:
        if isinstance(event, ev.WorkerGone):
            event = msgspec.structs.replace(event, over=over(worker, killed=True), oom="the kernel")
        plain(event)

    monkeypatch.setattr(large, "tell", tell)
    large.kill(worker)
    large.run_for(1)
    (loss,) = losses(large)
    assert loss.cause == LossCause.TASK_MEMORY
    assert "wanted more memory than its limit of 2.0 GB" in loss.text
    assert (loss.signal, loss.oom) == (0, "")


def test_what_earlier_tasks_have_left_is_freed_and_nobody_is_charged(large: Node) -> None:
    large.send(S, [b"0.5"], needs=NEEDS)
    large.run_for(1)
    (worker,) = limited(large)
    exceed(large, worker)
    exceed(large, worker)
    large.send(S, [b"0.5"], first=1, needs=NEEDS)
    large.run_for(2)
    assert large.ended == {(S, 0): ["VALUE"], (S, 1): ["VALUE"]}
    assert worker not in large.workers
    assert not losses(large)


def test_one_that_ended_in_that_moment_is_not_lost(large: Node) -> None:
    large.send(S, [b"0.5"], needs=NEEDS)
    large.run_for(1)
    (worker,) = limited(large)
    large.send(S, [b"0.01"] * 3, first=1, needs=NEEDS)
    large.run_for(0.001)
    exceed(large, worker)
    large.run_for(2)
    ended = [large.ended[S, index] for index in range(1, 4)]
    assert ended.count(["lost"]) == 1
    assert ended.count(["VALUE"]) == 2
    assert {loss.cause for loss in losses(large)} == {LossCause.TASK_MEMORY}


def test_nobody_is_told_of_workers_that_are_gone(large: Node) -> None:
    large.tell(ev.MemoryExceeded(over(99)))
    large.run_for(1)
    assert not large.ended
