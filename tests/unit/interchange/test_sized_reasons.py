"""Why tasks of a size wait, what can never run, and how many blocks they want."""

from __future__ import annotations

from fxhpc.interchange import events as ev
from fxhpc.interchange.placement.demand import cells_wanted
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack
from fxhpc.protocol.outcome import LossCause, Outcome
from tests.unit.interchange.acting import OTHER, STREAM, Stage

FOUR = Size(tuple(Cell(UNIT) for _ in range(4)), 1, 8 << 30)
FOUR_CORES = pack(Needs(cores=4 * UNIT))


def node(stage: Stage, peer: bytes, size: Size = FOUR, block: str = "") -> None:
    name = peer.decode()
    stage.manager(peer, msg.Register(name, b"", 4, "1", host=name, size=size, block=block))
    stage.manager(peer, msg.Capacity(4, 1 << 30, 4))


def reasons(stage: Stage) -> dict[bytes, str]:
    report = stage.core.status().report
    assert report is not None
    return {one.needs: one.reason for one in report.waiting}


def test_which_node_is_being_emptied_and_how_far_that_has_come() -> None:
    stage = Stage()
    node(stage, b"node3")
    stage.submit(4, stream=OTHER)
    stage.submit(2, needs=FOUR_CORES)
    words = "waits for 4 cores on one node: node3 is being emptied for it, 0 of 4 cores are free"
    assert reasons(stage) == {FOUR_CORES: words}
    ended = [Outcome(index, 0, b"") for index in range(2)]
    stage.manager(b"node3", msg.Results(1, [msg.ResultRun(OTHER, 1, 1, ended)]))
    assert reasons(stage) == {FOUR_CORES: words.replace("0 of 4", "2 of 4")}


def test_what_no_node_that_is_here_has() -> None:
    stage = Stage()
    gpus, label = pack(Needs(gpus=2 * UNIT)), pack(Needs(labels=("fat",)))
    stage.submit(1, needs=gpus)
    stage.submit(1, stream=OTHER, needs=label)
    assert set(reasons(stage).values()) == {""}  # there is no manager: as all others
    node(stage, b"a")
    assert reasons(stage) == {
        gpus: "needs 2 accelerators on one node, and the node that is here has 4 cores, "
        "1 accelerator and 8.0 GB of memory; it waits for a manager that has",
        label: "needs the label 'fat' on one node, and no node that is here has that label; it "
        "waits for a manager that has",
    }
    node(stage, b"b", Size(FOUR.cells, 2, 8 << 30))
    assert stage.sent(b"b") == [(STREAM, 0)]
    assert list(reasons(stage)) == [label]


def test_a_lone_manager_that_can_never_run_it_ends_it() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.tell(ev.OnlyManager("a"))
    stage.submit(2, needs=pack(Needs(cores=5 * UNIT)))
    stage.submit(1, stream=OTHER, needs=FOUR_CORES)
    losses = stage.losses()
    assert [loss.cause for loss in losses.values()] == [LossCause.UNFIT] * 2
    assert "needs 5 cores on one node, and this one has 4 cores" in losses[0].text
    assert stage.sent(b"a") == [(OTHER, 0)]
    report = stage.core.status().report
    assert report is not None
    assert report.only == FOUR


def test_what_a_lone_manager_has_is_told_at_once() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.tell(ev.OnlyManager("a"))
    report = stage.up(msg.Status)[-1].report
    assert report is not None
    assert (report.only, report.labels) == (FOUR, ["host:a"])
    stage.submit(1, needs=pack(Needs(labels=("fat",))))
    (loss,) = stage.losses().values()
    assert "it needs the label 'fat' on one node, and this one has the label 'host:a'" in loss.text


def test_blocks_are_asked_for_by_cells() -> None:
    stage = Stage()
    state = stage.core._state
    stage.submit(3, needs=FOUR_CORES)
    assert cells_wanted(state) == 12  # nobody knows what a node has: a core for each worker
    node(stage, b"a", block="1")
    assert cells_wanted(state) == 12
    stage.submit(2, stream=OTHER)
    assert cells_wanted(state) == 14
    # More blocks like that one are of no use to these.
    stage.submit(5, stream=b"never-------", needs=pack(Needs(cores=9 * UNIT)))
    assert cells_wanted(state) == 14


def test_the_window_grows_by_what_waits_for_more_than_a_worker() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.tick(1.0)
    before = stage.up(msg.Window)[-1].tasks
    stage.submit(50, needs=FOUR_CORES)
    stage.tick(1.0)
    assert stage.up(msg.Window)[-1].tasks >= before - 10 + 48


def test_short_tasks_of_a_class_are_held_ahead_if_nobody_else_waits() -> None:
    stage = Stage()
    node(stage, b"a")
    needs = pack(Needs(environ=(("A", "1"),)))
    stage.submit(100, needs=needs)
    assert len(stage.sent(b"a")) == 5  # one waits for the next cell
    ended = [Outcome(0, 0, b"", 0.001)]
    stage.manager(b"a", msg.Results(1, [msg.ResultRun(STREAM, 1, 1, ended)]))
    assert len(stage.sent(b"a")) > 50
    assert stage.core._state.managers[b"a"].ledger is not None
