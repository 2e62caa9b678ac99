"""Who is to blame for a lost manager: the culprits end, and nobody else is charged."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fxhpc import errors
from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause
from tests.unit.interchange.acting import STREAM, Stage, attempts

A, B, C, D = b"a", b"b", b"c", b"d"


class Nodes:
    """Managers that run all that they are sent; some tasks end their manager, or its workers.

    A lost manager is replaced by another one, on a node of its own.
    """

    def __init__(self, stage: Stage, managers: int, slots: int, poison: set[int]) -> None:
        self.stage = stage
        self.slots = slots
        self.poison = poison
        self.running: dict[bytes, list[tuple[int, int]]] = {}  # by manager: index, attempt
        self.lost: Counter[str] = Counter()
        self.number = 0
        for _ in range(managers):
            self.start()

    def start(self) -> None:
        self.number += 1
        peer = b"manager-%d" % self.number
        self.running[peer] = []
        self.stage.register(peer, tasks=self.slots, slots=self.slots, host=f"node-{self.number}")

    def hear(self) -> None:
        for action in self.stage.take():
            if isinstance(action, ev.ToManager) and isinstance(action.message, msg.Tasks):
                self.running[action.peer] += attempts(action.message)
            self.collect(action)

    def collect(self, action: ev.Action) -> None:
        if isinstance(action, ev.ToForwarder) and isinstance(action.message, msg.Results):
            self.results.append(action.message)

    results: list[msg.Results]


def play(seed: int, poison: set[int], *, count: int, managers: int, slots: int) -> Nodes:
    """Run all tasks to their ends, in an order of chance."""
    chance = random.Random(seed)
    stage = Stage()
    stage.submit(count)
    nodes = Nodes(stage, 0, slots, poison)
    nodes.results = []
    for _ in range(managers):
        nodes.start()
    nodes.hear()
    for _ in range(100 * count):
        busy = [peer for peer, tasks in nodes.running.items() if tasks]
        if not busy:
            break
        peer = chance.choice(busy)
        index, attempt = chance.choice(nodes.running[peer])
        if index in poison:
            del nodes.running[peer]
            nodes.lost["managers"] += 1
            stage.tell(ev.ManagerGone(peer, "its connection was closed"))
            nodes.start()
        else:
            nodes.running[peer].remove((index, attempt))
            stage.finish(peer, [index], attempt=attempt)
        nodes.hear()
    stage.actions = [ev.ToForwarder(results) for results in nodes.results]
    assert not any(nodes.running.values()), "some never end"
    return nodes


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("managers", "slots"), [(1, 1), (1, 8), (3, 4), (8, 2)])
def test_culprits_end_after_their_limit_and_nobody_else_is_charged(
    seed: int, managers: int, slots: int
) -> None:
    poison = set(random.Random(seed).sample(range(60), 1 + seed % 4))
    nodes = play(seed, poison, count=60, managers=managers, slots=slots)
    stage = nodes.stage
    assert stage.outcomes().keys() == set(range(60))
    assert stage.losses().keys() == poison
    assert nodes.lost["managers"] <= 5 * len(poison)
    for loss in stage.losses().values():
        assert 2 <= len(loss.attempts) <= 4
        assert "its manager manager-" in loss.text
        assert (loss.counted, loss.retries) == (3, 2)
        assert loss.alone >= 2
    assert not stage.core._state.apart
    assert not stage.core._state.queue


def test_a_node_killer_among_a_thousand_costs_few_managers() -> None:
    nodes = play(7, {500}, count=1000, managers=4, slots=8)
    assert nodes.stage.losses().keys() == {500}
    assert nodes.lost["managers"] <= 5


def test_who_loses_a_second_manager_runs_alone_then() -> None:
    stage = Stage()
    stage.register(A, tasks=2, slots=2)
    stage.submit(6)
    stage.tell(ev.ManagerGone(A, "gone"))
    stage.take()
    stage.register(B, tasks=4, slots=4)
    assert len(stage.sent(B)) == 4  # one of the two suspects, and others beside it
    stage.tell(ev.ManagerGone(B, "gone as well"))
    stage.take()
    stage.register(C, tasks=4, slots=4)
    assert stage.sent(C) == [(STREAM, 0)]
    assert not stage.losses()
    stage.take()
    stage.register(D, tasks=4, slots=4)
    assert (STREAM, 0) not in stage.sent(D)
    stage.take()
    stage.finish(C, [0], attempt=3)
    assert stage.sent(C), "it takes others again"


def test_until_a_manager_is_free_one_takes_nothing_new() -> None:
    stage = Stage()
    stage.register(A, tasks=1, slots=1)
    stage.submit(1)
    stage.tell(ev.ManagerGone(A, "gone"))
    stage.submit(1, first=1)
    stage.register(B, tasks=2, slots=2)
    assert len(stage.sent(B)) == 2
    stage.register(C, tasks=2, slots=2)
    stage.submit(2, first=2)
    assert stage.sent(C) == [(STREAM, 2), (STREAM, 3)]
    stage.tell(ev.ManagerGone(B, "gone"))  # 0 is to be alone now, and 1 is suspect
    stage.take()
    stage.submit(4, first=4)
    stage.finish(C, [2])
    assert not stage.sent(C), "it is kept free"
    stage.finish(C, [3], number=2)
    assert stage.sent(C) == [(STREAM, 0)]
    stage.take()
    stage.finish(C, [0], number=3, attempt=3)
    assert len(stage.sent(C)) == 2


def test_a_manager_that_is_kept_free_and_lost_is_replaced_by_another() -> None:
    stage = Stage()
    stage.register(A, tasks=1, slots=1)
    stage.submit(2)
    stage.tell(ev.ManagerGone(A, "gone"))
    stage.register(B, tasks=2, slots=2)
    stage.tell(ev.ManagerGone(B, "gone"))
    stage.register(C, tasks=2, slots=2)
    assert stage.core._state.apart
    stage.tell(ev.ManagerGone(C, "gone"))
    stage.take()
    stage.register(D, tasks=2, slots=2)
    assert len(stage.sent(D)) == 1


def test_a_task_that_kills_the_process_of_all_workers_ends_too() -> None:
    """The manager lives, and tells for each running task that it was lost with the seed."""
    stage = Stage()
    stage.register(A, tasks=2, slots=2)
    stage.submit(2)
    deaths, seen = 0, 0
    ended: set[int] = set()
    while sent := stage.to(A, msg.Tasks)[seen:]:
        seen += len(sent)
        tasks = [task for message in sent for task in attempts(message)]
        dies = 1 in dict(tasks)
        deaths += dies
        for index, attempt in tasks:
            if dies:
                stage.lose(A, index, LossCause.MANAGER_LOST, attempt)
            else:
                stage.finish(A, [index], attempt=attempt)
                ended.add(index)
    assert stage.losses().keys() == {1}
    assert ended == {0}
    assert deaths <= 5


def test_without_retries_a_node_killer_ends_at_once_and_others_go_on() -> None:
    stage = Stage()
    stage.register(A, tasks=3, slots=3)
    stage.submit(1, retries=0)
    stage.submit(2, first=1)
    stage.tell(ev.ManagerGone(A, "gone"))
    assert stage.losses().keys() == {0}
    stage.register(B, tasks=3, slots=3)
    assert len(stage.sent(B)) == 1  # suspects, one after the other


def test_a_manager_that_says_goodbye_makes_no_suspects() -> None:
    stage = Stage()
    stage.register(A, tasks=3, slots=3)
    stage.submit(3)
    stage.manager(A, msg.Bye("its node is needed"))
    stage.take()
    stage.register(B, tasks=3, slots=3)
    assert len(stage.sent(B)) == 3


def test_a_suspect_that_runs_alone_stays_alone_when_its_manager_greets_again() -> None:
    stage = Stage()
    for peer in (A, B):
        stage.register(peer, tasks=2, slots=2)
        stage.submit(1, first=0 if peer == A else 1)
        stage.tell(ev.ManagerGone(peer, "gone"))
    stage.register(C, tasks=2, slots=2)
    ((_, index),) = stage.sent(C)
    stage.take()
    stage.register(C, tasks=2, slots=2, running=[msg.TaskRefs(STREAM, [index, 1], 1, 3)])
    stage.submit(1, first=2)
    assert not stage.sent(C)


def test_what_is_suspect_says_where_it_runs_next_and_why() -> None:
    stage = Stage()
    stage.register(A, tasks=2, slots=2)
    stage.submit(3, retries=1)
    expected = [
        (A, "as the only suspect on its manager, because the last manager that had it was lost"),
        (B, "alone, on a manager that has nothing else, because the last 2 managers that had it "
            "were lost"),
    ]  # fmt: skip
    for peer, then in expected:
        stage.take()
        stage.tell(ev.ManagerGone(peer, "gone"))
        told = [lost for message in stage.up(msg.Lost) for lost in message.tasks]
        assert [lost.loss.then for lost in told if lost.index == 0] == [then]
        stage.register(B if peer == A else C, tasks=2, slots=2)
    stage.tell(ev.ManagerGone(C, "gone"))
    loss = stage.losses()[0]
    assert (len(loss.attempts), loss.counted, loss.retries, loss.alone) == (2, 2, 1, 1)


def test_a_task_that_kills_what_starts_workers_is_told_of_and_not_the_batch_system() -> None:
    stage = Stage()
    stage.register(A, tasks=1, slots=1)
    stage.submit(1)
    for attempt in range(1, 5):
        assert not stage.losses()
        stage.lose(A, 0, LossCause.MANAGER_LOST, attempt)
    loss = stage.losses()[0]
    assert (len(loss.attempts), loss.counted, loss.retries, loss.alone) == (3, 3, 2, 2)
    text = str(errors.lost("MANAGER_LOST", loss.text, attempts=loss.attempts, counted=loss.counted,
                           retries=loss.retries, alone=loss.alone))  # fmt: skip
    assert "lost 4 times, of which 3 count against its retries=2" in text
    assert "it ran alone twice, and both times its manager, or the process" in text
