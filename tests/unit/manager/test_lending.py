"""A manager that is lent to a task over several nodes, until it is itself again."""

from __future__ import annotations

import os
import subprocess
import sys

from fxhpc.manager import events as ev
from fxhpc.manager import processes
from fxhpc.manager.core import Manager
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack
from fxhpc.protocol.outcome import LossCause
from tests.waiting import eventually

STREAM, OTHER, DIGEST = b"stream------", b"another-----", b"f" * 32
A, B = msg.Member("a", "host-a"), msg.Member("b", "host-b")
PARTITION = msg.Partition(STREAM, 0, 1, 1, (A, B))
TWO = pack(Needs(nodes=2))


class Stage:
    """A manager with two workers, and what it has wanted since one last asked."""

    def __init__(self) -> None:
        size = Size((Cell(UNIT), Cell(UNIT)))
        self.core = Manager(ev.Host("a", b"", 2, host="host-a", size=size), 0.0)
        self.now = 0.0
        self.actions: list[ev.Action] = list(self.core.start())
        self.tell(ev.LinkOpened())
        self.say(msg.Welcome(1, "1"))
        self.say(msg.Body(DIGEST, b"function"))
        self.come()

    def tell(self, event: ev.Event) -> None:
        self.now += 0.01
        self.actions += self.core.handle(event, self.now)

    def say(self, message: msg.ToManager) -> None:
        self.tell(ev.Said(message))
        self.tell(ev.Turn())

    def come(self) -> None:
        """Workers that are to be made are there."""
        for action in [one for one in self.actions if isinstance(one, ev.StartWorker)]:
            self.tell(ev.WorkerStarted(action.worker, 1000 + action.worker))
            self.tell(ev.WorkerSaid(action.worker, pool.Batch(0, 0.0, [])))
        self.actions = [one for one in self.actions if not isinstance(one, ev.StartWorker)]
        self.tell(ev.Turn())

    def give(self, stream: bytes, count: int, partition: msg.Partition | None = None) -> None:
        needs = TWO if partition else b""
        self.say(
            msg.Tasks(
                [
                    msg.TaskRun(
                        stream, 0, DIGEST, [b"x"] * count, 1, 1, needs=needs, partition=partition
                    )
                ]
            )
        )

    def work(self) -> list[int]:
        """The workers that were given something."""
        return [
            one.worker
            for one in self.actions
            if isinstance(one, ev.ToWorker) and isinstance(one.message, pool.Work)
        ]

    def said(self, kind: type) -> list[object]:
        return [
            one.message
            for one in self.actions
            if isinstance(one, ev.Say) and isinstance(one.message, kind)
        ]

    def lead(self) -> int:
        """The worker that runs the task of the partition."""
        self.say(msg.Lend(PARTITION))
        self.actions.clear()
        self.give(STREAM, 1, PARTITION)
        (start,) = [one for one in self.actions if isinstance(one, ev.StartWorker)]
        assert start.hosts == ("host-a", "host-b")
        self.come()
        (worker,) = self.work()
        self.tell(ev.Looked({worker: 1}))
        self.actions.clear()
        return worker


def test_an_empty_node_says_so_at_once_and_again_after_each_greeting() -> None:
    stage = Stage()
    stage.say(msg.Lend(PARTITION))
    assert stage.said(msg.Lent) == [msg.Lent(PARTITION)]
    stage.say(msg.Heartbeat())
    assert len(stage.said(msg.Lent)) == 1
    stage.actions.clear()
    stage.tell(ev.LinkLost())
    stage.tell(ev.LinkOpened())
    (greet,) = [one for one in stage.actions if isinstance(one, ev.Greet)]
    assert greet.message.lent == PARTITION
    stage.say(msg.Welcome(1, "1"))
    assert stage.said(msg.Lent) == [msg.Lent(PARTITION)]


def test_what_has_not_begun_goes_back_and_what_runs_ends_first() -> None:
    stage = Stage()
    stage.give(OTHER, 5)
    first, second = stage.work()
    stage.tell(ev.Looked({first: 1, second: 1}))
    stage.say(msg.Lend(PARTITION))
    returned = sum(sum(ref.ranges[1::2]) for one in stage.said(msg.Returned) for ref in one.tasks)  # type: ignore[attr-defined]
    assert returned == 3
    assert not stage.said(msg.Lent)
    for place, worker in enumerate((first, second)):
        stage.tell(ev.WorkerSaid(worker, pool.Batch(0, 0.0, [msg.Outcome(place, 0)])))
    stage.tell(ev.Turn())
    assert stage.said(msg.Lent) == [msg.Lent(PARTITION)]


def test_a_lent_node_does_not_leave_when_it_is_drained() -> None:
    stage = Stage()
    stage.say(msg.Lend(PARTITION))
    stage.say(msg.Drain())
    assert not [one for one in stage.actions if isinstance(one, ev.Leave)]
    stage.say(msg.Unlend(PARTITION))
    assert [one for one in stage.actions if isinstance(one, ev.Leave)]


def test_when_the_task_is_over_what_it_left_is_ended() -> None:
    stage = Stage()
    worker = stage.lead()
    stage.tell(ev.WorkerSaid(worker, pool.Batch(0, 0.0, [msg.Outcome(0, 0)])))
    stage.say(msg.Unlend(PARTITION))
    assert [one for one in stage.actions if isinstance(one, ev.EndMarked)]
    assert ev.KillWorker(worker) in stage.actions  # it knows the hosts of that task alone
    stage.actions.clear()
    stage.tell(ev.WorkerGone(worker, 1, signal=9))
    stage.give(OTHER, 2)
    assert len(stage.work()) == 2


def test_an_attempt_that_lost_a_node_is_ended_and_told_as_lost() -> None:
    stage = Stage()
    worker = stage.lead()
    stage.say(msg.Unlend(PARTITION))
    assert ev.KillWorker(worker) in stage.actions
    stage.tell(ev.WorkerGone(worker, 1, signal=9))
    (lost,) = stage.said(msg.Lost)
    assert lost.tasks[0].loss.cause == LossCause.INTERRUPTED  # type: ignore[attr-defined]


def test_an_unlend_of_another_attempt_is_no_concern() -> None:
    stage = Stage()
    stage.say(msg.Lend(PARTITION))
    stage.actions.clear()
    stage.say(msg.Unlend(msg.Partition(STREAM, 0, 1, 2, (A, B))))
    assert not [one for one in stage.actions if isinstance(one, ev.EndMarked)]
    stage.give(OTHER, 0)


def test_processes_with_a_task_s_id_are_ended_and_no_others() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    own, other = (
        subprocess.Popen(command, env={**os.environ, "FXHPC_TASK_ID": task})
        for task in ("a task of this test", "another task")
    )
    try:
        # Until it has come to its exec.
        eventually(lambda: processes.end_marked("FXHPC_TASK_ID", "a task of this test"))
        assert own.wait(10) == -9
        assert other.poll() is None
    finally:
        for one in (own, other):
            one.kill()
            one.wait()
