"""A task that was lost and is tried again says so, until it has ended."""

from __future__ import annotations

import msgspec
import pytest
from acting import ENDPOINT, STREAM, Stage

from fxhpc.forwarder import attempts
from fxhpc.forwarder import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, Output


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


def told(stage: Stage, index: int) -> Output:
    """What goes along with the outcome of a task."""
    stage.fetch(b"client", [index])
    (state,) = stage.said(b"client", service.States)[-1].streams[0].states
    assert state.outcome is not None
    packed = state.outcome.output
    return msgspec.msgpack.decode(packed, type=Output) if packed else Output()


def test_what_ends_well_after_all_carries_its_story(stage: Stage) -> None:
    stage.interchange(lost("the first", "the second"))
    stage.finish([0, 1])
    assert (told(stage, 0).lost, told(stage, 0).attempts) == (2, ["the first", "the second"])
    assert told(stage, 1) == Output()
    again = Stage(stage.store)
    again.attach(b"client")
    assert told(again, 0).lost == 2  # it is stored with the outcome


@pytest.mark.parametrize(
    ("packed", "stays"),
    [
        (msgspec.msgpack.encode(Output(b"out", started=5.0, pid=7)), True),
        (b"of a newer version", False),
    ],
)
def test_what_its_worker_told_of_it_stays(stage: Stage, packed: bytes, stays: bool) -> None:
    stage.interchange(lost("the first"))
    outcome = Outcome(0, OutcomeKind.ERROR, b"error", 1.0, packed)
    stage.interchange(msg.Results(1, [msg.ResultRun(STREAM, 1, 1, [outcome])]))
    if stays:
        found = told(stage, 0)
        assert (found.stdout, found.pid, found.lost) == (b"out", 7, 1)
    else:
        assert outcome.output == packed


def test_what_is_lost_for_good_says_it_itself(stage: Stage) -> None:
    stage.interchange(lost("the first"))
    stage.finish([0], kind=OutcomeKind.LOST)
    assert told(stage, 0) == Output()


def test_when_a_task_was_queued(stage: Stage) -> None:
    def queued(index: int, of: Stage = stage) -> float:
        wanted = [service.StreamRanges(STREAM, [index, 1])]
        of.client(b"client", service.Fetch(9, wanted, details=True))
        summary = of.said(b"client", service.States)[-1].streams[0].summary
        assert summary is not None
        return summary.queued

    assert queued(0) == 0.0  # it did not know the time yet
    stage.tell(ev.Tick(wall=1_700_000_000.0))
    stage.submit(b"client", 2, first=3)
    stage.clock.advance(0.1)
    stage.submit(b"client", 1, first=5)  # not told apart
    stage.clock.advance(60.0)
    stage.submit(b"client", 1, first=6)
    assert [queued(index) for index in (2, 3, 5)] == [0.0, 1_700_000_000.0, 1_700_000_000.0]
    assert queued(6) == pytest.approx(1_700_000_060.1)
    again = Stage(stage.store)
    again.attach(b"client")
    assert queued(6, again) == 0.0
