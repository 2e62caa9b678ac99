"""A mistake of our own in handling a call: whoever called is told, and nobody else suffers."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc.forwarder import answering, submitting
from fxhpc.forwarder import events as ev
from fxhpc.protocol import service
from tests.unit.forwarder.acting import Stage

C, D = b"c", b"d"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    for peer in (C, D):
        stage.attach(peer)
    stage.clear()
    return stage


def raises(*_: Any) -> None:
    raise KeyError("oops")


def test_who_submitted_is_told_what_went_wrong_after_it_was_stored(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting.Submitting, "_accept", raises)
    stage.slow = True
    stage.submit(C, 3, call=5)
    answer = stage.store.work()
    assert answer is not None
    with pytest.raises(KeyError) as mistake:
        stage.core.handle(answer, stage.clock())
    assert stage.core.has_caller
    (action,) = stage.core.failed(mistake.value)
    assert isinstance(action, ev.ToClient)
    assert isinstance(action.message, service.Failed)
    assert (action.peer, action.message.call, action.message.error) == (C, 5, "ForwarderError")
    assert "KeyError: 'oops'" in action.message.arguments[0]
    assert "look whether it has taken effect" in action.message.arguments[0]


def test_nobody_is_told_of_what_nobody_called_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.up()
    stage.submit(C, 1)
    stage.slow = True
    stage.finish([0])
    monkeypatch.setattr(answering.Answering, "stored", raises)
    answer = stage.store.work()
    assert answer is not None
    with pytest.raises(KeyError):
        stage.core.handle(answer, stage.clock())
    assert not stage.core.has_caller


def test_of_those_who_wait_for_the_same_results_one_may_fail(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait; what answers the one raises, and the other has its answer."""
    stage.up()
    stage.submit(C, 2)
    stage.fetch(C, [0], call=7, wait_s=60.0)
    stage.fetch(D, [0, 1], call=8, wait_s=60.0)
    answer = answering.answer

    def fails_once(waiter: Any, *more: Any) -> Any:
        return raises() if waiter.peer == C else answer(waiter, *more)

    monkeypatch.setattr(answering, "answer", fails_once)
    stage.finish([0, 1])
    (failed,) = stage.said(C, service.Failed)
    assert failed.call == 7
    assert "KeyError: 'oops'" in failed.arguments[0]
    (states,) = stage.said(D, service.States)
    assert [state.index for state in states.streams[0].states] == [0, 1]
    assert [repr(error) for error in stage.core.take_mistakes()] == ["KeyError('oops')"]
    assert not stage.core.take_mistakes()
