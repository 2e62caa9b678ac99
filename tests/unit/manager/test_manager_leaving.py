"""How a manager ends: what is said of tasks at a walltime's end, at a signal, alone."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from simulation import Node

from fxhpc.manager import events as ev
from fxhpc.manager.leaving import LAST_WORDS_S, TERM_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause

S = b"s" * 12


def busy(**host: Any) -> Node:
    """A node with a task of 1000 s on each of its two workers, for 30 s, and one that waits."""
    node = Node(block="7", job="123", **host)
    node.say(msg.Body(b"f", b"body"))
    node.send(S, [b"1000"] * 3)
    node.run_for(30)
    return node


def losses(node: Node) -> list[Loss]:
    return [lost.loss for message in node.of(msg.Lost) for lost in message.tasks]  # type: ignore[attr-defined]


def test_the_end_of_a_walltime_is_told_as_such() -> None:
    node = busy(ends=180.0, walltime_s=3600.0)
    node.look()
    node.tell(ev.Ended("the manager got SIGTERM", signalled=True))
    first, second = losses(node)
    assert first.cause == second.cause == LossCause.WALLTIME
    assert first.ran_s == pytest.approx(30, abs=1)
    assert first.block_s == 3600
    assert "(block 7, job 123), which had run the task" in first.text
    assert "walltime of 1 h 0 min" in first.text
    assert node.ended[S, 2] == ["returned"]
    assert isinstance(node.said[-1], msg.Bye)
    assert "walltime" in node.said[-1].reason


@pytest.mark.parametrize(
    ("signalled", "ends"), [(True, 0.0), (True, 1000.0), (False, 130.0)], ids=str
)
def test_other_ends_are_interruptions(signalled: bool, ends: float) -> None:
    node = busy(ends=ends, walltime_s=3600.0)
    node.tell(ev.Ended("it was asked to", signalled))
    assert {loss.cause for loss in losses(node)} == {LossCause.INTERRUPTED}
    assert all("it was asked to" in loss.text for loss in losses(node))


def test_workers_that_got_the_managers_signal_first_are_not_charged() -> None:
    node = busy()
    node.kill(1, signal.SIGTERM)
    node.run_for(TERM_S / 2)
    assert not losses(node)
    node.tell(ev.Ended("the manager got SIGTERM", signalled=True))
    assert [loss.cause for loss in losses(node)] == [LossCause.INTERRUPTED] * 2
    assert losses(node)[0].signal == signal.SIGTERM


def test_a_worker_that_alone_gets_a_signal_is_charged() -> None:
    node = busy()
    node.kill(1, signal.SIGTERM)
    node.run_for(TERM_S + 0.2)
    (loss,) = losses(node)
    assert loss.cause == LossCause.WORKER_KILLED
    assert "SIGTERM" in loss.text
    node.run_for(1)
    assert len(node.workers) == 2
    assert node.ran[S, 2] == 1


def test_it_registers_with_what_its_job_has() -> None:
    node = Node(
        linked=False, block="7", job="123", ends=160.0, walltime_s=600.0, accelerators=2, memory=5
    )
    node.run_for(20)
    register = node.link()
    assert (register.block, register.job, register.accelerators) == ("7", "123", 2)
    assert register.remaining_s == pytest.approx(40, abs=0.1)
    assert register.walltime_s == 600
    node.run_for(100)
    assert node.link().remaining_s > 0  # 0 says that there is no end


def test_alone_for_too_long_it_leaves() -> None:
    node = Node(linked=False, alone_s=60.0)
    node.run_for(61)
    assert node.left is not None
    assert node.left.alone
    assert node.left.failed
    assert "for 1 min" in node.left.reason


def test_alone_after_work_it_leaves_without_a_failure() -> None:
    node = Node(alone_s=60.0)
    node.tell(ev.LinkLost())
    node.run_for(61)
    assert node.left is not None
    assert not node.left.failed


def test_the_output_of_tasks_is_asked_for_and_looked_at() -> None:
    node = Node()
    node.say(msg.Body(b"f", b"body"))
    node.send(S, [b"1000", b"1000"], capture=500)
    assert {run.capture for _, work in node.work for run in work.runs} == {500}
    node.run_for(1)
    assert node.core.wait_s(node.now) <= 0.1


def with_results(**host: Any) -> Node:
    """A node with results of 1500 tasks, which nobody has acknowledged."""
    node = Node(**host)
    node.store = False
    node.say(msg.Body(b"f", b"body"))
    node.send(S, [b"0"] * 1500)
    node.run_for(1)
    return node


def kept(node: Node) -> list[int]:
    """The tasks whose results it has left."""
    return sorted(
        outcome.index for results in node.kept for run in results.runs for outcome in run.outcomes
    )


def test_alone_it_leaves_results_that_nobody_has_stored() -> None:
    node = with_results(alone_s=60.0)
    node.tell(ev.LinkLost())
    node.run_for(61)
    assert node.left is not None
    assert kept(node) == list(range(1500))


@pytest.mark.parametrize("keeps", [True, False])
def test_ended_without_a_link_it_leaves_results_at_once(keeps: bool) -> None:
    node = with_results(keeps=keeps)
    node.tell(ev.LinkLost())
    node.tell(ev.Ended("the manager got SIGTERM", signalled=True))
    assert node.left is not None
    assert kept(node) == list(range(1500))


def test_ended_with_a_link_it_waits_for_what_is_stored_and_leaves_the_rest() -> None:
    node = with_results(keeps=True)
    node.tell(ev.Ended("the manager got SIGTERM", signalled=True))
    assert node.left is None
    assert not node.workers  # what they had not begun may run elsewhere by now
    numbers = [results.number for results in node.of(msg.Results)]  # type: ignore[attr-defined]
    node.say(msg.ResultsStored(numbers[:-1]))
    assert node.left is None
    node.now += LAST_WORDS_S
    node.tell(ev.Turn())
    assert node.left is not None
    assert [results.number for results in node.kept] == numbers[-1:]
    assert isinstance(node.said[-1], msg.Bye)


@pytest.mark.parametrize("end", ["stored", "lost"])
def test_ended_with_a_link_it_waits_no_longer_than_it_must(end: str) -> None:
    node = with_results(keeps=True)
    numbers = [results.number for results in node.of(msg.Results)]  # type: ignore[attr-defined]
    node.say(msg.Bye("the endpoint is being stopped"))
    assert node.left is None
    if end == "stored":
        node.say(msg.ResultsStored(numbers))
    else:
        node.tell(ev.LinkLost())
    assert node.left is not None
    assert kept(node) == ([] if end == "stored" else list(range(1500)))


def test_where_nothing_can_be_left_it_does_not_wait() -> None:
    node = with_results(keeps=False)
    node.tell(ev.Ended("its client is gone", signalled=False))
    assert node.left is not None


def test_without_results_nothing_is_left() -> None:
    node = Node(alone_s=60.0)
    node.tell(ev.LinkLost())
    node.run_for(61)
    assert node.left is not None
    assert not node.kept


def test_drained_by_hand_it_takes_nothing_from_the_next_interchange() -> None:
    node = busy()
    node.tell(ev.DrainAsked())
    node.turn()
    assert node.ended[S, 2] == ["returned"]
    node.tell(ev.LinkLost())
    node.link()
    node.turn()
    assert node.of(msg.Capacity)[-1].slots == 0  # type: ignore[attr-defined]
    assert node.left is None
    node.run_for(1000)
    assert node.left is not None
    assert node.left.reason == "drained"


def test_drained_by_hand_it_leaves_without_an_interchange() -> None:
    node = Node(linked=False)
    node.tell(ev.DrainAsked())
    node.run_for(0.1)
    assert node.left is not None
