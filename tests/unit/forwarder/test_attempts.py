"""A task that was lost and is tried again says so, until it has ended."""

from __future__ import annotations

import pytest
from acting import ENDPOINT, STREAM, Stage

from fxhpc.forwarder import attempts
from fxhpc.forwarder import events as ev
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


def lost(*stories: str, index: int = 0, first: int = 0, then: str = "") -> msg.Lost:
    """Attempts from this one on were lost, and what became of each."""
    told = [Loss(LossCause.WORKER_KILLED, story, then=then) for story in stories]
    return msg.Lost([msg.LostTask(STREAM, index, 1, n, loss) for n, loss in enumerate(told, first)])


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
    stage.interchange(lost("the first", "the second"))
    stage.interchange(lost("the second", first=1))  # told again after a broken link
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    assert reason(stage) == (
        states.RUNNING,
        "it was lost twice: 1. the first; 2. the second",
    )


def test_of_a_task_that_runs_it_is_told_where_and_since_when(stage: Stage) -> None:
    def where(index: int) -> tuple[str, str, float]:
        wanted = [service.StreamRanges(STREAM, [index, 1])]
        stage.client(b"client", service.Fetch(9, wanted, details=True))
        (state,) = stage.said(b"client", service.States)[-1].streams[0].states
        return state.host, state.manager, state.started

    stage.tell(ev.Tick(wall=1_700_000_000.0))
    assert where(0) == ("", "", 0.0)
    refs = [msg.TaskRefs(STREAM, [0, 1])]
    stage.interchange(msg.Started(refs, "node1", "m1"))
    stage.clock.advance(5.0)
    stage.interchange(msg.Started(refs, "node1", "m1"))  # said again after a broken link
    stage.interchange(msg.Started(refs))
    assert where(0) == ("node1", "m1", 1_700_000_000.0)
    assert where(1) == ("", "", 0.0)
    stage.interchange(lost("the first"))
    assert where(0) == ("", "", 0.0)
    stage.interchange(msg.Started(refs, "node2", "m2"))
    assert where(0) == ("node2", "m2", 1_700_000_005.0)


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


def test_the_stories_are_in_their_order_and_the_last_of_many_are_kept(stage: Stage) -> None:
    stage.interchange(lost("A", "B", "C"))
    assert reason(stage)[1].endswith("; it was lost 3 times: 1. A; 2. B; 3. C")
    stage.interchange(lost(*"DEFG", first=3))
    assert reason(stage)[1].endswith("it was lost 7 times, at last: 3. C; 4. D; 5. E; 6. F; 7. G")


def test_what_runs_alone_says_so_and_why(stage: Stage) -> None:
    stage.interchange(lost("A", "B", then="alone, because of that"))
    assert reason(stage)[1].endswith("2. B; next it runs alone, because of that")
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    assert reason(stage) == (
        states.RUNNING,
        "it was lost twice: 1. A; 2. B; now it runs alone, because of that",
    )
    stage.interchange(lost("C", first=2))
    assert reason(stage)[1].endswith("3. C")


def test_a_later_interchange_knows_nothing_of_suspects(stage: Stage) -> None:
    stage.interchange(lost("A", then="alone"))
    stage.up(held=[0])
    assert "it runs alone" in reason(stage)[1], "it is the same one"
    stage.interchange(msg.Present(ENDPOINT, 2, "1"))
    assert reason(stage)[1].endswith("it was lost once: A")
