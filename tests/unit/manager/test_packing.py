"""Tasks of all sizes on a node: nothing is had twice, nobody is passed for ever, cells work."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxhpc.manager import events as ev
from fxhpc.manager.hiring import RETRY_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import UNIT, Cell, Lease, Needs, Room, Size, pack
from fxhpc.protocol.outcome import LossCause, unpack_loss
from tests.unit.manager.simulation import Node

GB = 10**9
FOUR = Size((Cell(UNIT),) * 4, 0, 8 * GB)
DEVICES = Size(tuple(Cell(UNIT, (n,)) for n in range(4)), 4, 8 * GB)
ON_REQUEST = Size((Cell(UNIT),) * 4, 2, 8 * GB)

BODY = ev.Said(msg.Body(b"f", b"body"))


def cores(count: float, **more: Any) -> bytes:
    return pack(Needs(cores=int(count * UNIT), **more))


def node(size: Size = FOUR, **host: object) -> Node:
    made = Node(len(size.cells), size=size, **host)
    made.tell(BODY)
    return made


def running(at: Node) -> list[Any]:
    """The workers that are at a task, and what each was made for."""
    return [worker for worker in at.workers.values() if worker.current is not None]


def check_room(at: Node, size: Size) -> None:
    """Nobody has what another has: give all who are at work what they have, one after the other."""
    room = Room(size)
    for worker in running(at):
        made = worker.made
        lease = room.cell(made.cell) if made.lease is None else made.lease
        taken = room.take_left(lease)
        assert taken == Lease(*lease), f"{made} has what another has: {taken}"


def run_all(at: Node, size: Size, seconds: float = 1000.0) -> None:
    end = at.now + seconds
    while at.now < end and any(len(worker.work) or worker.current for worker in busy(at)):
        at.step()
        check_room(at, size)


def busy(at: Node) -> list[Any]:
    backlog = at.core._backlog
    extra = [None] if backlog else []
    return [*at.workers.values(), *[_Waiting() for _ in extra]]


class _Waiting:
    work = (1,)
    current = None


def values(at: Node, stream: bytes) -> int:
    return sum(how == ["VALUE"] for (of, _), how in at.ended.items() if of == stream)


def test_a_task_of_four_cores_waits_for_four_cells_and_is_passed_by_nobody() -> None:
    at = node()
    at.send(b"small", [b"1.0"] * 2)
    at.run_for(0.1)
    at.send(b"large", [b"1.0"], needs=cores(4))
    at.send(b"later", [b"1.0"] * 2)
    at.run_for(0.7)
    assert len(running(at)) == 2, "two cells are kept free"
    at.run_for(0.4)
    (worker,) = running(at)
    assert worker.made.lease.cores == tuple((cell, UNIT) for cell in range(4))
    run_all(at, FOUR)
    assert (values(at, b"small"), values(at, b"large"), values(at, b"later")) == (2, 1, 2)


def test_quick_tasks_run_on_what_is_kept_free_if_it_is_known_that_they_are() -> None:
    at = node()
    at.send(b"quick", [b"0.01"] * 4)
    at.send(b"long", [b"2.0"] * 4, function=b"g")
    at.tell(ev.Said(msg.Body(b"g", b"body")))
    run_all(at, FOUR)
    at.send(b"long", [b"2.0"], first=10, function=b"g")
    at.run_for(0.1)
    at.send(b"large", [b"1.0"], needs=cores(4))
    at.run_for(0.1)
    at.send(b"quick", [b"0.01"] * 3, first=10)
    at.run_for(0.1)
    assert values(at, b"quick") == 7
    assert values(at, b"large") == 0
    run_all(at, FOUR)
    assert values(at, b"large") == 1


def test_two_of_two_cores_run_at_a_time_and_their_workers_serve_others_of_their_class() -> None:
    at = node()
    at.send(b"pairs", [b"0.5"] * 8, needs=cores(2))
    at.run_for(0.1)
    assert len(running(at)) == 2
    began = at.now
    run_all(at, FOUR)
    assert values(at, b"pairs") == 8
    assert at.now - began < 2.0
    made = [worker.made for worker in at.workers.values() if worker.made.lease]
    assert len(made) == 2


def test_short_ones_have_no_more_workers_than_are_worth_it() -> None:
    at = node()
    at.send(b"short", [b"0.0001"], needs=cores(1, memory=GB))
    run_all(at, FOUR)
    at.send(b"short", [b"0.0001"] * 100, first=1, needs=cores(1, memory=GB))
    run_all(at, FOUR)
    assert values(at, b"short") == 101
    assert sum(worker.made.lease is not None for worker in at.workers.values()) == 1
    at.send(b"short", [b"0.0001"] * 1000, first=101, needs=cores(1, memory=GB))
    run_all(at, FOUR)
    assert sum(worker.made.lease is not None for worker in at.workers.values()) == 4


def test_who_has_nothing_more_of_its_class_makes_way_at_once() -> None:
    """Not when its turn would be over: of many classes each had a node for 0.1 s for each task."""
    at = node()
    kinds = [cores(4, environ=(("KIND", str(kind)),)) for kind in range(5)]
    began = at.now
    for kind, needs in enumerate(kinds):
        at.send(b"%d" % kind, [b"0.002"], needs=needs)
    at.send(b"ordinary", [b"0.002"])
    run_all(at, FOUR, 10.0)
    assert len(at.ended) == 6
    assert at.now - began < 6 * 0.03


def test_parts_of_a_core_share_a_cell() -> None:
    at = node()
    at.send(b"halves", [b"0.5"] * 8, needs=cores(0.5))
    at.run_for(0.1)
    assert len(running(at)) == 8
    run_all(at, FOUR)
    assert values(at, b"halves") == 8


def test_memory_is_promised_once() -> None:
    at = node()
    at.send(b"much", [b"0.5"] * 3, needs=pack(Needs(memory=3 * GB)))
    at.run_for(0.1)
    assert len(running(at)) == 2
    run_all(at, FOUR)
    assert values(at, b"much") == 3


def test_accelerators_are_had_alone_or_shared_by_who_asks_for_parts() -> None:
    at = node(ON_REQUEST)
    at.send(b"whole", [b"0.5"] * 3, needs=cores(1, gpus=UNIT))
    at.run_for(0.1)
    devices = [worker.made.lease.devices for worker in running(at)]
    assert sorted(devices) == [((0, UNIT),), ((1, UNIT),)]
    at.send(b"part", [b"0.5"] * 2, needs=cores(1, gpus=UNIT // 2))
    run_all(at, ON_REQUEST)
    assert (values(at, b"whole"), values(at, b"part")) == (3, 2)


def test_who_takes_a_worker_s_accelerator_takes_its_cell() -> None:
    at = node(DEVICES)
    at.send(b"two", [b"1.0"], needs=cores(1, gpus=2 * UNIT))
    at.run_for(0.1)
    at.send(b"small", [b"0.5"] * 4)
    at.run_for(0.2)
    assert len(running(at)) == 3, "two workers have neither the cores nor the accelerators left"
    run_all(at, DEVICES)
    assert values(at, b"small") == 4


def test_what_never_fits_ends_at_once_with_the_reason() -> None:
    at = node()
    at.send(b"huge", [b"1.0"] * 2, needs=cores(5))
    assert [how for (of, _), how in at.ended.items() if of == b"huge"] == [["LOST"], ["LOST"]]
    results = [run for said in at.of(msg.Results) for run in said.runs]  # type: ignore[attr-defined]
    loss = unpack_loss(results[0].outcomes[0].data)
    assert loss.cause == LossCause.UNFIT
    assert "it needs 5 cores, and this node has 4 cores" in loss.text


def test_the_manager_tells_its_size_and_what_cells_are_left() -> None:
    at = node()
    assert at.greetings[-1].size == FOUR
    at.send(b"large", [b"1.0"], needs=cores(3))
    at.run_for(0.1)
    capacity = at.of(msg.Capacity)[-1]
    assert (capacity.slots, capacity.tasks) == (2, 2)  # type: ignore[attr-defined]
    at.run_for(1.5)
    assert at.of(msg.Capacity)[-1].slots == 4  # type: ignore[attr-defined]


def test_what_is_held_is_told_and_given_back() -> None:
    at = node()
    at.send(b"large", [b"1.0"] * 3, needs=cores(4))
    at.run_for(0.1)
    register = at.link()
    assert [ref.ranges for ref in register.running] == [[0, 1]]
    assert [ref.ranges for ref in register.queued] == [[1, 2]]
    at.say(msg.Drain())
    assert at.ended == {(b"large", 1): ["returned"], (b"large", 2): ["returned"]}
    at.run_for(2.0)
    assert at.left is not None
    assert at.ended[b"large", 0] == ["VALUE"]


def test_waiting_and_running_ones_are_cancelled() -> None:
    at = node()
    at.send(b"large", [b"5.0"] * 2, needs=cores(4))
    at.run_for(0.2)
    at.say(msg.Cancel([msg.TaskRefs(b"large", [0, 2])], interrupt=True))
    at.run_for(0.1)
    assert at.ended == {(b"large", 0): ["CANCELLED"], (b"large", 1): ["CANCELLED"]}
    at.send(b"small", [b"0.1"] * 4)
    at.run_for(0.3)
    assert values(at, b"small") == 4


def test_a_dead_worker_s_task_is_lost_and_its_cells_are_free_again() -> None:
    at = node()
    at.send(b"large", [b"5.0"], needs=cores(4))
    at.run_for(0.2)
    (worker,) = running(at)
    at.kill(worker.number)
    at.run_for(0.1)
    assert at.ended[b"large", 0] == ["lost"]
    at.send(b"small", [b"0.1"] * 4)
    at.run_for(0.3)
    assert values(at, b"small") == 4


def test_its_declared_walltime_ends_it() -> None:
    at = node()
    at.send(b"large", [b"50.0"], needs=cores(4), walltime_s=1.0)
    at.run_for(1.5)
    assert at.ended[b"large", 0] == ["lost"]
    assert at.of(msg.Lost)[-1].tasks[0].loss.cause == LossCause.TASK_WALLTIME  # type: ignore[attr-defined]


def test_workers_of_a_class_that_die_at_once_are_told_of() -> None:
    at = node()
    at.startable = False
    at.send(b"large", [b"1.0"], needs=cores(2))
    at.run_for(0.1)
    assert at.ended[b"large", 0] == ["lost"]
    assert at.of(msg.Lost)[-1].tasks[0].loss.cause == LossCause.WORKER_UNSTARTABLE  # type: ignore[attr-defined]
    # Others would wait while the next of them are tried: for some time none is, then one.
    started = at.core._staff.hiring._next_worker
    at.send(b"soon", [b"1.0"] * 3, needs=cores(2))
    at.run_for(0.1)
    assert [at.ended[b"soon", number] for number in range(3)] == [["lost"]] * 3
    assert at.core._staff.hiring._next_worker == started
    at.run_for(RETRY_S)
    at.send(b"later", [b"1.0"], needs=cores(2))
    at.run_for(0.1)
    assert at.ended[b"later", 0] == ["lost"]
    assert at.core._staff.hiring._next_worker - started == 1
    at.run_for(RETRY_S)
    at.startable = True
    at.send(b"small", [b"0.1"] * 4)
    at.send(b"large", [b"1.0"], needs=cores(2), first=1)
    run_all(at, FOUR)
    assert (values(at, b"small"), values(at, b"large")) == (4, 1)


def test_the_urgent_go_first() -> None:
    at = node()
    at.send(b"now", [b"1.0"], needs=cores(4))
    at.run_for(0.1)
    at.send(b"late", [b"1.0"], needs=cores(4, priority=200 * UNIT))
    at.send(b"early", [b"1.0"], needs=cores(4, priority=UNIT))
    at.send(b"soon", [b"1.0"] * 4, needs=pack(Needs(priority=2 * UNIT)))
    at.send(b"usual", [b"1.0"] * 4)
    at.run_for(2.05)
    assert [values(at, of) for of in (b"early", b"soon", b"usual", b"late")] == [1, 0, 0, 0]
    at.run_for(1.0)
    assert [values(at, of) for of in (b"early", b"soon", b"usual", b"late")] == [1, 4, 0, 0]
    run_all(at, FOUR)
    assert values(at, b"late") == 1


def test_a_suspect_of_a_class_runs_while_no_other_suspect_does() -> None:
    at = node()
    at.send(b"small", [b"1.0"], suspect=True)
    at.send(b"large", [b"1.0"], needs=cores(2), suspect=True)
    at.run_for(0.5)
    assert len(running(at)) == 1
    run_all(at, FOUR)
    assert (values(at, b"small"), values(at, b"large")) == (1, 1)


class Supply:
    """Keeps so many tasks of a stream at the manager, as an interchange does."""

    def __init__(self, at: Node, stream: bytes, payload: bytes, most: int, **run: object) -> None:
        self.at, self.stream, self.payload, self.most, self.run = at, stream, payload, most, run
        self.left = list(range(10_000))[::-1]
        self.out: set[int] = set()
        self.ended = 0

    def supply(self) -> None:
        for index in list(self.out):
            if hows := self.at.ended.pop((self.stream, index), []):
                (how,) = hows
                self.out.remove(index)
                self.ended += how == "VALUE"
                if how != "VALUE":
                    self.left.append(index)
        while len(self.out) < self.most and self.left:
            index = self.left.pop()
            self.out.add(index)
            self.at.send(self.stream, [self.payload], first=index, **self.run)


def test_large_ones_and_small_ones_take_turns() -> None:
    at = node()
    small = Supply(at, b"small", b"1.0", 4)
    large = Supply(at, b"large", b"1.0", 2, needs=cores(4))
    end = at.now + 20
    while at.now < end:
        small.supply()
        large.supply()
        at.step(0.05)
    ended = f"{large.ended} large ones and {small.ended} small ones ended"
    assert min(large.ended, small.ended // 4) >= 7, ended


def test_a_mix_uses_the_node() -> None:
    at = node()
    small = Supply(at, b"small", b"0.5", 4)
    large = Supply(at, b"large", b"1.0", 1, needs=cores(4))
    del small.left[:-100], large.left[:-20]
    began = at.now
    while small.left or small.out or large.left or large.out:
        small.supply()
        large.supply()
        at.step(0.05)
        check_room(at, FOUR)
    ideal_s = (100 * 0.5 + 20 * 4.0) / 4
    assert (small.ended, large.ended) == (100, 20)
    assert ideal_s / (at.now - began) >= 0.9


CLASSES = [
    b"",
    cores(0.5),
    cores(2),
    cores(4),
    cores(1, gpus=UNIT),
    cores(1, gpus=UNIT // 2, priority=UNIT),
    pack(Needs(memory=3 * GB)),
    pack(Needs(gpus=0, environ=(("A", "b"),))),
]

SENDS = st.lists(
    st.tuples(
        st.sampled_from(CLASSES),
        st.integers(1, 5),
        st.sampled_from([b"0.0001", b"0.003", b"0.2", b"1.0"]),
        st.sampled_from([0.0, 0.01, 0.3, 1.1]),
        st.sampled_from(["", "", "", "kill", "cancel"]),
    ),
    min_size=1,
    max_size=10,
)


@pytest.mark.parametrize("size", [FOUR, DEVICES, ON_REQUEST], ids=["none", "each", "request"])
@settings(max_examples=40, deadline=None)
@given(sends=SENDS)
def test_never_more_than_there_is_and_all_come_to_an_end(
    size: Size, sends: list[tuple[bytes, int, bytes, float, str]]
) -> None:
    at = node(size)
    sent = 0
    for number, (needs, count, payload, wait_s, then) in enumerate(sends):
        stream = b"%d" % number
        at.send(stream, [payload] * count, needs=needs, function=b"f")
        sent += count
        end = at.now + wait_s
        while at.now < end:
            at.step(end - at.now)
            check_room(at, size)
        if then == "kill" and (work := running(at)):
            at.kill(work[0].number)
        elif then == "cancel":
            at.say(msg.Cancel([msg.TaskRefs(stream, [0, count])], interrupt=True))
    run_all(at, size, 200.0)
    assert len(at.ended) == sent
    assert all(len(how) == 1 for how in at.ended.values())
    assert not at.core._leasing._lines.lines
    at.run_for(70.0)
    ordinary = len(size.cells)
    assert sum(worker.made.lease is None for worker in at.workers.values()) == ordinary
    assert len(at.workers) == ordinary, "who has nothing to do for long has gone"
    assert not at.core._leasing.active
