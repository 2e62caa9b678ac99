"""Tasks with needs of their own, event by event: who gets them, and what becomes of them."""

from __future__ import annotations

from typing import Any

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack
from fxhpc.protocol.outcome import LossCause, Outcome, OutcomeKind
from tests.unit.interchange.acting import OTHER, STREAM, Stage

FOUR = Size(tuple(Cell(UNIT) for _ in range(4)), 1, 8 << 30)
TWO_CORES = pack(Needs(cores=2 * UNIT))
ALL_CORES = pack(Needs(cores=4 * UNIT))


def node(stage: Stage, peer: bytes, size: Size | None = FOUR, **about: Any) -> None:
    name = about.pop("name", peer.decode())
    stage.manager(peer, msg.Register(name, b"", 4, "1", size=size, **about))
    stage.manager(peer, msg.Capacity(4, 1 << 30, 4))


def test_a_node_gets_as_many_as_fit() -> None:
    stage = Stage()
    node(stage, b"a", host="a")
    node(stage, b"b", host="b")
    stage.submit(5, needs=TWO_CORES)
    assert len(stage.sent(b"a")) + len(stage.sent(b"b")) >= 4
    assert sorted(index for _, index in stage.sent(b"a") + stage.sent(b"b"))[:4] == [0, 1, 2, 3]


def test_a_manager_that_knows_ordinary_tasks_alone_gets_no_others() -> None:
    stage = Stage()
    node(stage, b"old", None, host="old")
    stage.submit(3, needs=TWO_CORES)
    assert not stage.sent(b"old")
    stage.submit(2, stream=OTHER)
    assert stage.sent(b"old") == [(OTHER, 0), (OTHER, 1)]
    node(stage, b"new", host="new")
    assert stage.sent(b"new")[:2] == [(STREAM, 0), (STREAM, 1)]


def test_cells_of_sized_tasks_are_not_given_to_others() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.submit(1, needs=pack(Needs(cores=3 * UNIT)))
    stage.submit(9, stream=OTHER)
    assert stage.sent(b"a") == [(STREAM, 0), (OTHER, 0)]
    stage.finish(b"a", [0])
    stage.manager(b"a", msg.Capacity(4, 1 << 30, 4))
    assert stage.sent(b"a")[2:] == [(OTHER, 1), (OTHER, 2), (OTHER, 3)]


def test_what_fits_nowhere_is_sent_where_it_fits_first_and_nobody_passes_it_there() -> None:
    stage = Stage()
    node(stage, b"a", host="a")
    stage.submit(4, stream=OTHER)
    stage.submit(1, needs=ALL_CORES)
    assert stage.sent(b"a")[-1] == (STREAM, 0)
    stage.actions.clear()
    stage.submit(5, stream=b"third-------")
    outcomes = [Outcome(index, OutcomeKind.VALUE, b"") for index in range(3)]
    stage.manager(b"a", msg.Results(1, [msg.ResultRun(OTHER, 1, 1, outcomes)]))
    assert not stage.sent(b"a")
    stage.manager(b"a", msg.Results(2, [msg.ResultRun(OTHER, 1, 1, [Outcome(3, 0)])]))
    assert not stage.sent(b"a")
    stage.finish(b"a", [0], number=3)
    assert len(stage.sent(b"a")) == 4


def test_labels_say_which_nodes() -> None:
    stage = Stage()
    node(stage, b"a", host="a.cluster", labels=("thin",))
    node(stage, b"b", host="b.cluster", labels=("fat",), block="7")
    stage.submit(2, needs=pack(Needs(labels=("fat",))))
    stage.submit(1, stream=OTHER, needs=pack(Needs(labels=("host:a",))))
    stage.submit(1, stream=b"third-------", needs=pack(Needs(labels=("block:7", "fat"))))
    assert stage.sent(b"a") == [(OTHER, 0)]
    assert stage.sent(b"b") == [(STREAM, 0), (STREAM, 1), (b"third-------", 0)]


def test_what_waits_is_cancelled_and_what_runs_is_where_it_runs() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.submit(4, needs=ALL_CORES)
    there = {index for _, index in stage.sent(b"a")}
    stage.actions.clear()
    stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, [0, 4])]))
    assert set(stage.outcomes()) == {0, 1, 2, 3} - there
    assert stage.to(b"a", msg.Cancel)
    assert not stage.core._state.sized


def test_a_lost_one_runs_again_before_the_others() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.submit(3, needs=ALL_CORES)
    assert stage.sent(b"a") == [(STREAM, 0), (STREAM, 1)]  # one waits there for its cells
    stage.actions.clear()
    stage.lose(b"a", 0, LossCause.WORKER_KILLED, 1)
    assert stage.sent(b"a") == [(STREAM, 0)]


def test_what_a_lost_manager_ran_runs_again_where_it_fits() -> None:
    stage = Stage()
    node(stage, b"a", host="a")
    stage.submit(1, needs=ALL_CORES)
    stage.tell(ev.ManagerGone(b"a", "its connection closed"))
    node(stage, b"small", Size((Cell(UNIT),), 0), host="small")
    assert not stage.sent(b"small")
    node(stage, b"b", host="b")
    assert stage.sent(b"b") == [(STREAM, 0)]
    assert not stage.losses()


def test_a_manager_that_comes_back_has_the_room_that_it_had() -> None:
    stage = Stage()
    node(stage, b"a", host="a")
    stage.submit(1, needs=TWO_CORES)
    refs = [msg.TaskRefs(STREAM, [0, 1], 1, 1)]
    stage.manager(b"a2", msg.Register("a", b"", 4, "1", host="a", size=FOUR, running=refs))
    stage.manager(b"a2", msg.Capacity(3, 1 << 30, 3))
    stage.actions.clear()
    stage.submit(4, stream=OTHER)
    assert stage.sent(b"a2") == [(OTHER, 0), (OTHER, 1)]
    assert stage.core._state.sized.held == {TWO_CORES: 1}


def test_given_back_ones_wait_again_in_their_order() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.submit(3, needs=TWO_CORES)
    sent = stage.sent(b"a")
    stage.manager(b"a", msg.Capacity(0, 0, 0))
    ranges = [0, len(sent)]
    stage.manager(b"a", msg.Returned([msg.TaskRefs(STREAM, ranges, 1, 1)]))
    assert next(run.first for run in stage.core._state.sized) == 0
    assert len(stage.core._state.sized) == 3
    assert not stage.core._state.sized.held
    stage.actions.clear()
    stage.manager(b"a", msg.Capacity(4, 1 << 30, 4))
    assert stage.sent(b"a")[:2] == [(STREAM, 0), (STREAM, 1)]


def test_nothing_is_sent_to_a_manager_that_has_just_gone() -> None:
    stage = Stage()
    node(stage, b"a", host="a")
    stage.submit(4, needs=ALL_CORES)
    stage.tick(1.0)
    stage.tell(ev.ManagerGone(b"a", "its connection closed"))
    assert len(stage.core._state.sized) + len(stage.core._state.apart) == 4
    node(stage, b"b", host="b")
    assert stage.sent(b"b")
