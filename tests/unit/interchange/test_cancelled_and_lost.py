"""Tasks that were cancelled while nobody could reach their manager: they do not run again."""

from __future__ import annotations

import pytest

from fxhpc.ids import to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause, OutcomeKind
from tests.unit.interchange.acting import STREAM, Stage


def _stage(*, running: bool, interrupt: bool) -> Stage:
    """Two managers; the one that has the only task does not hear that it was cancelled."""
    stage = Stage()
    stage.register(b"near", tasks=0)
    stage.register(b"far", tasks=1)
    stage.submit(1)
    assert stage.sent(b"far") == [(STREAM, 0)]
    ref = msg.TaskRefs(STREAM, [0, 1], 1, 1)
    if running:
        stage.manager(b"far", msg.Started([ref]))
    stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, to_ranges([0]))], interrupt))
    stage.manager(b"near", msg.Capacity(4, 1 << 30, 2))
    stage.take()
    return stage


def _is_cancelled(stage: Stage) -> bool:
    return {index: outcome.kind for index, outcome in stage.outcomes().items()} == {
        0: OutcomeKind.CANCELLED
    }


@pytest.mark.parametrize(("running", "interrupt"), [(True, True), (False, True), (False, False)])
def test_a_cancelled_task_ends_with_its_manager(running: bool, interrupt: bool) -> None:
    stage = _stage(running=running, interrupt=interrupt)
    for _ in range(4):
        stage.tick(4.9)
        stage.manager(b"near", msg.Heartbeat())
    assert _is_cancelled(stage)
    assert not stage.sent(b"near")


def test_what_runs_and_was_not_to_be_interrupted_runs_again() -> None:
    stage = _stage(running=True, interrupt=False)
    stage.manager(b"far", msg.Bye("killed"))
    assert stage.sent(b"near") == [(STREAM, 0)]
    assert not stage.outcomes()


def test_what_had_begun_before_it_could_be_cancelled_runs_again() -> None:
    stage = _stage(running=False, interrupt=False)
    stage.manager(b"far", msg.Started([msg.TaskRefs(STREAM, [0, 1], 1, 1)]))
    stage.manager(b"far", msg.Bye("killed"))
    assert stage.sent(b"near") == [(STREAM, 0)]


def test_a_cancelled_task_that_comes_back_is_not_sent_to_another() -> None:
    stage = _stage(running=False, interrupt=False)
    stage.manager(b"far", msg.Returned([msg.TaskRefs(STREAM, [0, 1], 1, 1)]))
    assert _is_cancelled(stage)
    assert not stage.sent(b"near")


def test_a_cancelled_task_that_never_arrived_is_not_sent_again() -> None:
    stage = _stage(running=False, interrupt=True)
    stage.register(b"far again", name="far", tasks=1)
    assert _is_cancelled(stage)
    assert not stage.sent(b"near")
    assert not stage.sent(b"far again")


def test_a_cancelled_task_whose_worker_died_has_ended() -> None:
    stage = _stage(running=True, interrupt=True)
    stage.lose(b"far", 0, LossCause.WORKER_KILLED, 1)
    assert _is_cancelled(stage)
    assert not stage.sent(b"near")


def test_a_late_result_is_handed_on_and_nothing_runs() -> None:
    """Whoever asked has the answer that was given first; the store keeps that one."""
    stage = _stage(running=True, interrupt=True)
    for _ in range(4):
        stage.tick(4.9)
        stage.manager(b"near", msg.Heartbeat())
    stage.take()
    running = [msg.TaskRefs(STREAM, [0, 1], 1, 1)]
    stage.register(b"far", tasks=1, running=running)
    (welcome,) = stage.to(b"far", msg.Welcome)
    assert welcome.drop == running
    assert not stage.sent(b"near")
