"""Cancelled tasks that the forwarder has not sent to an interchange which was started again."""

from __future__ import annotations

import pytest

from fxhpc.interchange import events as ev
from fxhpc.interchange.recovering import RETURN_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause, OutcomeKind
from tests.unit.interchange.acting import STREAM, Stage

A = b"a"
HELD = msg.TaskRefs(STREAM, [0, 2], 1, 1)
ONE = msg.TaskRefs(STREAM, [0, 1], 1, 1)
CANCEL = msg.Cancel([msg.TaskRefs(STREAM, [0, 1])])
FORGET = msg.Cancel([msg.TaskRefs(STREAM, [0, 1])], interrupt=True, forget=True)


@pytest.fixture
def stage() -> Stage:
    """Manager `m` was sent tasks 0 and 1, and may come back."""
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], [ev.Sent("m", [HELD])]))
    stage.forwarder(msg.Hello(1, "1"))
    assert stage.up(msg.Present)[0].doubtful
    stage.take()
    return stage


def cancelled(stage: Stage) -> list[int]:
    return [i for i, out in stage.outcomes().items() if out.kind == OutcomeKind.CANCELLED]


def told_to_run(stage: Stage) -> list[int]:
    started = [ref for message in stage.up(msg.Started) for ref in message.tasks]
    return [ref.ranges[0] for ref in started]


@pytest.fixture(params=["not sent", "sent"])
def asked(stage: Stage, request: pytest.FixtureRequest) -> Stage:
    """Task 0 was cancelled; by a forwarder that had sent it again, or had not."""
    if request.param == "sent":
        stage.submit(2, sent_before=True)
    stage.forwarder(CANCEL)
    assert not cancelled(stage)
    return stage


def test_what_nobody_was_sent_has_not_begun(stage: Stage) -> None:
    stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, [0, 1, 7, 3])]))
    assert cancelled(stage) == [7, 8, 9]


def test_nothing_is_doubtful_where_all_is_known() -> None:
    stage = Stage(greet=False)
    stage.tell(ev.Recovered(["m"], []))
    stage.forwarder(msg.Hello(1, "1"))
    assert not stage.up(msg.Present)[0].doubtful


def test_a_manager_that_comes_back_with_it_is_asked(asked: Stage) -> None:
    asked.register(A, name="m", queued=[HELD])
    assert asked.to(A, msg.Cancel) == [CANCEL]
    assert not cancelled(asked)
    assert not asked.sent(A)


def test_it_runs_there(asked: Stage) -> None:
    asked.register(A, name="m", running=[HELD])
    assert 0 in told_to_run(asked)
    asked.manager(A, msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    asked.finish(A, [0])
    asked.tick(1.0)
    assert not cancelled(asked)


def test_it_has_ended_there(asked: Stage) -> None:
    asked.register(A, name="m", unstored=[5])
    assert not cancelled(asked)
    asked.finish(A, [0], number=5)
    asked.tick(1.0)
    assert not cancelled(asked)
    assert asked.outcomes()[0].kind == OutcomeKind.VALUE


def test_it_never_arrived_there(asked: Stage) -> None:
    asked.register(A, name="m")
    assert cancelled(asked) == [0]
    assert (STREAM, 0) not in asked.sent(A)


def test_the_manager_does_not_come_back(asked: Stage) -> None:
    asked.register(A)
    asked.tick(RETURN_S + 1)
    assert cancelled(asked) == [0]
    assert (STREAM, 0) not in asked.sent(A)


def test_it_is_lost_before_it_is_known_whether_it_began(asked: Stage) -> None:
    asked.register(A, name="m", queued=[HELD])
    asked.lose(A, 0, LossCause.WORKER_KILLED, 1)
    assert cancelled(asked) == [0]


def test_the_manager_is_lost_with_it(asked: Stage) -> None:
    asked.register(A, name="m", queued=[HELD])
    asked.tell(ev.ManagerGone(A, "it died"))
    assert cancelled(asked) == [0]


def test_it_is_given_back_instead(asked: Stage) -> None:
    asked.register(A, name="m", queued=[HELD])
    asked.manager(A, msg.Returned([ONE]))
    assert cancelled(asked) == [0]


def test_a_manager_that_greets_twice_is_asked_twice(asked: Stage) -> None:
    asked.register(A, name="m", queued=[HELD])
    asked.take()
    asked.register(b"b", name="m", queued=[HELD])
    assert asked.to(b"b", msg.Cancel) == [CANCEL]


def test_what_it_claims_at_first_and_not_again_has_ended(asked: Stage) -> None:
    asked.register(A, name="m", queued=[HELD])
    asked.register(b"b", name="m", unstored=[5])
    assert not cancelled(asked)
    asked.finish(b"b", [0], number=5)
    asked.tick(1.0)
    assert not cancelled(asked)


def test_it_was_cancelled_when_its_manager_was_back_already(stage: Stage) -> None:
    stage.register(A, name="m", queued=[ONE], running=[msg.TaskRefs(STREAM, [1, 1], 1, 1)])
    stage.forwarder(CANCEL)
    assert stage.to(A, msg.Cancel) == [CANCEL]
    stage.manager(A, msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    stage.take()
    stage.forwarder(msg.Hello(1, "1"))
    assert sorted(told_to_run(stage)) == [0, 1]
    stage.submit(2, sent_before=True)
    stage.tick(1.0)
    assert not cancelled(stage)


def test_what_is_sent_after_all_is_still_not_begun(stage: Stage) -> None:
    stage.forwarder(CANCEL)
    stage.submit(2, sent_before=True)
    stage.register(A, name="m")
    assert cancelled(stage) == [0]
    assert stage.sent(A) == [(STREAM, 1)]


def test_what_nobody_wants_is_dropped_by_whoever_comes_with_it(asked: Stage) -> None:
    asked.forwarder(FORGET)
    asked.register(A, name="m", queued=[HELD])
    assert asked.to(A, msg.Welcome)[0].drop == [ONE]
    assert not cancelled(asked)
    assert not asked.core._state.unwanted


def test_of_an_incomplete_journal_anybody_may_have_it() -> None:
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered([], [], incomplete=True))
    stage.forwarder(msg.Hello(1, "1"))
    assert stage.up(msg.Present)[0].doubtful
    stage.forwarder(CANCEL)
    stage.register(A, name="m")
    assert not cancelled(stage)
    for _ in range(int(RETURN_S) + 1):
        stage.manager(A, msg.Heartbeat())
        stage.tick(1.0)
    assert cancelled(stage) == [0]


def test_its_outcome_lies_in_the_spool(stage: Stage) -> None:
    stage.register(A, name="m", unstored=[5])
    stage.finish(A, [0], number=5)
    stage.take()
    stage.forwarder(CANCEL)
    stage.tick(1.0)
    assert not cancelled(stage)
