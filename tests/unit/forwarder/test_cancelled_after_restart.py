"""Cancelling soon after a forwarder or an interchange was started again: who has what is asked."""

from __future__ import annotations

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.cancelling import CANCEL_S, RETURN_S
from fxhpc.ids import from_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import OutcomeKind
from tests.unit.forwarder.acting import KEY, STREAM, Stage

C = b"c"


@pytest.fixture
def stage() -> Stage:
    """Four tasks were sent; the forwarder was killed, and there is another."""
    before = Stage()
    before.attach(C)
    before.up()
    before.submit(C, 4)
    stage = Stage(before.store)
    stage.tick(0.1)
    stage.attach(C)
    return stage


def answered(stage: Stage, call: int = 8) -> list[int] | None:
    """The tasks that a call has cancelled; None: it is not answered yet."""
    for answer in stage.said(C, service.Cancelled):
        if answer.call == call:
            return [index for part in answer.tasks for index in from_ranges(part.ranges)]
    return None


def asked(stage: Stage) -> list[tuple[list[int], bool, bool]]:
    """What the interchange was asked to cancel: tasks, interrupt, forget."""
    return [
        (from_ranges(ref.ranges), cancel.interrupt, cancel.forget)
        for cancel in stage.down(msg.Cancel)
        for ref in cancel.tasks
    ]


def began(stage: Stage, *indices: int) -> None:
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [index, 1]) for index in indices]))


def out_tasks(stage: Stage) -> int:
    return stage.core._state.endpoints[KEY].out_tasks


def test_who_has_it_is_asked_at_once_and_nothing_is_sent_meanwhile(stage: Stage) -> None:
    stage.up(tasks=0, doubtful=True)
    stage.cancel(C, 0, 1, 2, 3)
    assert asked(stage) == [([0, 1, 2, 3], False, False)]
    stage.interchange(msg.Window(1000, 1 << 30))
    stage.tick(1.0)
    assert stage.sent() == []
    began(stage, 1)
    stage.finish([0, 2], kind=OutcomeKind.CANCELLED)
    assert answered(stage) is None
    stage.finish([3], number=2)  # it had ended before
    assert answered(stage) == [0, 2]
    stage.tick(1.0)
    assert stage.sent() == [1]  # for the interchange to know whose it is
    assert out_tasks(stage) == 1


def test_before_the_interchange_has_greeted_it_waits(stage: Stage) -> None:
    stage.cancel(C, 0, 1, 2, 3)
    assert answered(stage) is None
    stage.up(held=[0], doubtful=True)
    assert asked(stage) == [([0], False, False), ([1, 2, 3], False, False)]
    assert stage.sent() == []
    stage.finish([0, 1, 2, 3], kind=OutcomeKind.CANCELLED)
    assert answered(stage) == [0, 1, 2, 3]
    assert out_tasks(stage) == 0


def test_where_no_manager_of_before_is_awaited_it_is_known_at_once(stage: Stage) -> None:
    stage.up(tasks=0)
    stage.cancel(C, 0, 1)
    assert answered(stage) == [0, 1]
    assert asked(stage) == []


def test_what_waited_for_the_greeting_ends_then_if_it_is_nowhere(stage: Stage) -> None:
    stage.cancel(C, 0, 1)
    stage.up(held=[1])
    assert asked(stage) == [([1], False, False)]
    began(stage, 1)
    assert answered(stage) == [0]
    assert stage.sent() == [2, 3]


def test_an_interchange_that_does_not_come_back_is_not_waited_for(stage: Stage) -> None:
    stage.cancel(C, 0)
    stage.tick(RETURN_S)
    assert answered(stage) == [0]
    stage.cancel(C, 1, call=9)
    assert answered(stage, 9) == [1]
    stage.up(doubtful=True)
    assert asked(stage) == [([0], True, True), ([1], True, True)]  # whoever has it drops it
    assert stage.sent() == [2, 3]


def test_an_interchange_that_has_just_gone_may_come_back_and_say_what_runs() -> None:
    stage = Stage()
    stage.attach(C)
    stage.up()
    stage.submit(C, 2)
    stage.tell(ev.InterchangeGone(KEY))
    stage.cancel(C, 0, 1)
    assert answered(stage) is None
    stage.clear()
    stage.up(epoch=2, doubtful=True)
    assert asked(stage) == [([0, 1], False, False)]
    began(stage, 0)
    stage.finish([1], kind=OutcomeKind.CANCELLED)
    assert answered(stage) == [1]


def test_one_that_has_stopped_is_not_waited_for() -> None:
    stage = Stage()
    stage.attach(C)
    stage.up()
    stage.submit(C, 2)
    stage.cancel(C, 0)
    stage.tell(ev.InterchangeGone(KEY, nothing_runs=True))
    assert answered(stage) == [0]


def test_what_is_interrupted_ends_at_once_and_nobody_is_to_begin_it(stage: Stage) -> None:
    stage.up(tasks=0, doubtful=True)
    stage.cancel(C, 0, interrupt=True)
    assert answered(stage) == [0]
    stage.cancel(C, 1, call=9)
    stage.cancel(C, 1, call=10, interrupt=True)  # while it is being asked about
    assert answered(stage, 9) == answered(stage, 10) == [1]
    assert asked(stage) == [([0], True, True), ([1], False, False), ([1], True, True)]
    assert out_tasks(stage) == 0


def test_another_interchange_is_asked_again(stage: Stage) -> None:
    stage.up(tasks=0, doubtful=True)
    stage.cancel(C, 0, 1)
    stage.tell(ev.InterchangeGone(KEY))
    assert answered(stage) is None
    stage.clear()
    stage.up(epoch=2, doubtful=True)
    assert asked(stage) == [([0, 1], False, False)]
    assert stage.sent() == [2, 3]
    assert out_tasks(stage) == 4
    stage.finish([0, 1], kind=OutcomeKind.CANCELLED)
    assert answered(stage) == [0, 1]


def test_what_nobody_answers_goes_on_and_the_wish_stays(stage: Stage) -> None:
    stage.up(tasks=4, doubtful=True)
    stage.cancel(C, 0, 1, 2, 3)
    stage.tick(CANCEL_S)
    assert answered(stage) == []
    assert sorted(stage.sent()) == [0, 1, 2, 3]
    assert out_tasks(stage) == 4
    stage.clear()
    stage.up(held=[0, 1])
    assert asked(stage) == [([0, 1], False, False)]
    assert stage.sent() == []


def test_what_is_being_read_from_the_store_is_asked_about_when_it_is_sent(stage: Stage) -> None:
    stage.slow = True
    stage.up(tasks=4, doubtful=True)
    stage.cancel(C, 0)
    assert not asked(stage)
    stage.work()
    assert stage.sent() == [0, 1, 2, 3]
    assert asked(stage) == [([0], False, False)]
    stage.finish([0], kind=OutcomeKind.CANCELLED)
    stage.work()
    assert answered(stage) == [0]
