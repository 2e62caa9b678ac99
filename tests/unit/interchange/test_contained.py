"""Tasks in containers: where they go, why they wait, and what a bad image does to nodes."""

from __future__ import annotations

from fxhpc.interchange.losses import AVOID_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol.containers import Container
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack
from fxhpc.protocol.outcome import Loss, LossCause
from tests.unit.interchange.acting import OTHER, STREAM, Stage

CELLS = (Cell(UNIT), Cell(UNIT))
PODMAN, NONE = Size(CELLS, containers=("podman *",)), Size(CELLS)
IMAGE = pack(Needs(container=Container("podman", "img:1")))


def node(stage: Stage, peer: bytes, size: Size = PODMAN) -> None:
    name = peer.decode()
    stage.manager(peer, msg.Register(name, b"", 2, "1", host=name, size=size))
    stage.manager(peer, msg.Capacity(2, 1 << 30, 2))


def does_not_start(stage: Stage, peer: bytes, attempt: int = 1) -> None:
    """The first task's container, at a manager."""
    text = f"the task was not begun: on {peer.decode()}, workers exited with code 125"
    loss = Loss(LossCause.WORKER_UNSTARTABLE, text, exit_code=125, stderr="no such image\n")
    stage.manager(peer, msg.Lost([msg.LostTask(STREAM, 0, 1, attempt, loss)]))


def test_they_go_where_the_command_is() -> None:
    stage = Stage()
    node(stage, b"plain", NONE)
    stage.manager(b"old", msg.Register("old", b"", 2, "1", host="old"))  # knows no sizes
    stage.manager(b"old", msg.Capacity(2, 1 << 30, 2))
    stage.submit(2, needs=IMAGE)
    stage.submit(3, stream=OTHER)
    assert {stream for peer in (b"plain", b"old") for stream, _ in stage.sent(peer)} == {OTHER}
    report = stage.core.status().report
    assert report is not None
    (waiting,) = report.waiting
    assert waiting.reason.startswith(
        "needs the podman container of img:1 on one node, and the node that is here has 2 cores, "
        "0 accelerators and no containers for functions; it waits for"
    )
    node(stage, b"podman")
    assert stage.sent(b"podman") == [(STREAM, 0), (STREAM, 1)]


def test_where_a_container_does_not_start_others_try_and_the_node_goes_on() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.submit(1, needs=IMAGE)
    assert stage.sent(b"a") == [(STREAM, 0)]
    node(stage, b"b")
    does_not_start(stage, b"a")
    assert not stage.losses()
    assert stage.sent(b"b") == [(STREAM, 0)]
    assert not stage.to(b"a", msg.Drain)
    # It starts nowhere: that is told, with what the last one has said.
    does_not_start(stage, b"b", 2)
    (loss,) = stage.losses().values()
    assert loss.cause == LossCause.WORKER_UNSTARTABLE
    assert "on b, workers exited with code 125" in loss.text
    assert not stage.to(b"b", msg.Drain)
    stage.take()
    stage.submit(2, stream=OTHER)
    assert stage.sent(b"a")  # ordinary tasks


def test_it_is_tried_again_later() -> None:
    stage = Stage()
    node(stage, b"a")
    stage.submit(1, needs=IMAGE)
    node(stage, b"b")
    does_not_start(stage, b"a")
    ledger = stage.core._state.managers[b"a"].ledger
    assert ledger is not None
    assert not ledger.wanted(IMAGE).cells
    ledger.forgive(stage.clock() + AVOID_S - 1)
    assert not ledger.wanted(IMAGE).cells
    ledger.forgive(stage.clock() + AVOID_S)
    assert ledger.wanted(IMAGE).cells == 1
