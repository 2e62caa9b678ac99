"""Cancelling, in every state that a task can be in."""

from __future__ import annotations

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import OutcomeKind
from tests.unit.forwarder.acting import KEY, STREAM, Stage, info

C = b"c"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    stage.submit(C, 4)
    return stage


def test_what_waits_here_is_cancelled(stage: Stage) -> None:
    stage.cancel(C, 1, 2)
    assert stage.cancelled(C) == [1, 2]
    stage.fetch(C, [1])
    assert stage.statuses(C) == {1: states.CANCELLED}
    stage.up()
    assert stage.sent() == [0, 3]


def test_what_is_at_the_interchange_is_cancelled_there(stage: Stage) -> None:
    stage.up()
    stage.cancel(C, 1)
    assert stage.down(msg.Cancel) == [msg.Cancel([msg.TaskRefs(STREAM, [1, 1])], False)]
    assert not stage.said(C, service.Cancelled)
    stage.finish([1], kind=OutcomeKind.CANCELLED)
    assert stage.cancelled(C) == [1]


def test_what_ends_otherwise_is_not_called_cancelled(stage: Stage) -> None:
    stage.up()
    stage.cancel(C, 1)
    stage.finish([1])
    assert stage.cancelled(C) == []


def test_what_turns_out_to_run_is_not_cancelled(stage: Stage) -> None:
    stage.up()
    stage.cancel(C, 1)
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [1, 1])]))
    assert stage.cancelled(C) == []


def test_what_runs_is_not_cancelled(stage: Stage) -> None:
    stage.up()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [1, 1])]))
    stage.cancel(C, 1)
    assert stage.cancelled(C) == []
    assert not stage.down(msg.Cancel)


def test_what_runs_is_interrupted_where_that_is_asked_for(stage: Stage) -> None:
    stage.up()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [1, 1])]))
    stage.cancel(C, 1, interrupt=True)
    assert stage.down(msg.Cancel) == [msg.Cancel([msg.TaskRefs(STREAM, [1, 1])], True)]
    stage.finish([1], kind=OutcomeKind.CANCELLED)
    assert stage.cancelled(C) == [1]


def test_what_has_ended_stays_as_it_is(stage: Stage) -> None:
    stage.up()
    stage.finish([1])
    stage.cancel(C, 1, interrupt=True)
    assert stage.cancelled(C) == []


def test_an_unknown_task_is_not_cancelled(stage: Stage) -> None:
    stage.cancel(C, 77)
    assert stage.cancelled(C) == []


def test_what_is_being_read_from_the_store_is_cancelled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxhpc.forwarder.submitting.PAYLOAD_BYTES", 0)
    stage.up()
    stage.clear()
    stage.slow = True
    stage.submit(C, 2, first=4, call=2)
    stage.work(1)
    stage.cancel(C, 4)
    stage.work()
    assert stage.cancelled(C) == [4]
    assert stage.sent() == [5]


def test_it_is_answered_in_time_even_if_nobody_knows(stage: Stage) -> None:
    stage.up()
    stage.cancel(C, 0)
    stage.tell(ev.InterchangeGone(KEY))
    stage.tick(11.0)
    assert stage.cancelled(C) == []


def test_in_an_embedded_forwarder_it_is_answered_at_once() -> None:
    stage = Stage(durable=False)
    stage.attach(C)
    stage.up()
    stage.submit(C, 2, info(keep=False))
    stage.cancel(C, 1)
    stage.finish([1], kind=OutcomeKind.CANCELLED)
    assert stage.cancelled(C) == [1]
