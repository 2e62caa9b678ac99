"""A task that was lost and is tried again says so, until it has ended."""

from __future__ import annotations

import pytest
from acting import STREAM, Stage

from fxhpc.forwarder import attempts
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import Loss, LossCause


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(b"client")
    stage.submit(b"client", 3)
    stage.up()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 2])]))
    return stage


def lost(*stories: str, index: int = 0) -> msg.Lost:
    told = [Loss(LossCause.WORKER_KILLED, story) for story in stories]
    return msg.Lost([msg.LostTask(STREAM, index, 1, n, loss) for n, loss in enumerate(told)])


def reason(stage: Stage, index: int = 0) -> tuple[str, str]:
    stage.fetch(b"client", [0, 1, 2])
    answer = stage.said(b"client", service.States)[-1]
    (state,) = [one for part in answer.streams for one in part.states if one.index == index]
    return state.status, state.reason


def test_it_waits_again_and_says_what_became_of_it(stage: Stage) -> None:
    assert reason(stage) == (states.RUNNING, "")
    stage.interchange(lost("worker 7 on node1 was killed."))
    status, why = reason(stage)
    assert status != states.RUNNING
    assert why.endswith("; it was lost once: worker 7 on node1 was killed")
    assert reason(stage, 1) == (states.RUNNING, "")


def test_it_runs_again_and_was_lost_twice(stage: Stage) -> None:
    stage.interchange(lost("the first", "the second", "the second"))
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    assert reason(stage) == (
        states.RUNNING,
        "it was lost twice: the first; then the second",
    )


def test_an_outcome_ends_the_story(stage: Stage) -> None:
    stage.interchange(lost("the first"))
    stage.finish([0])
    stage.interchange(lost("too late"))
    assert reason(stage) == (states.SUCCESS, "")


def test_what_is_remembered_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "TASKS", 1)
    for index in (0, 1):
        stage.interchange(lost("so it was", index=index))
    assert "so it was" not in reason(stage, 0)[1]
    assert "so it was" in reason(stage, 1)[1]


def test_nobody_knows_the_task(stage: Stage) -> None:
    stage.interchange(lost("whose?", index=99))
    assert reason(stage) == (states.RUNNING, "")
