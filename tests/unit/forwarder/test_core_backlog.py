"""Interchanges hear how much waits for them beyond their window."""

from __future__ import annotations

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import messages as msg
from tests.unit.forwarder.acting import KEY, OTHER, Stage, info

C = b"c"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    stage.up(tasks=10)
    stage.clear()
    return stage


def backlogs(stage: Stage, key: bytes = KEY) -> list[int]:
    found = [backlog.tasks for backlog in stage.down(msg.Backlog, key)]
    stage.clear()
    return found


def test_the_first_and_the_last_are_told_at_once_the_others_at_ticks(stage: Stage) -> None:
    stage.submit(C, 10)
    assert backlogs(stage) == []
    stage.submit(C, 5, first=10, call=2)
    assert backlogs(stage) == [5]
    stage.submit(C, 5, first=15, call=3)
    assert backlogs(stage) == []
    stage.tick(0.5)
    assert backlogs(stage) == [10]
    stage.tick(0.5)
    assert backlogs(stage) == []
    stage.finish(list(range(10)))
    assert backlogs(stage) == [0]


def test_it_is_told_again_to_an_interchange_that_comes_back(stage: Stage) -> None:
    stage.submit(C, 25)
    assert backlogs(stage) == [15]
    stage.tell(ev.InterchangeGone(KEY))
    stage.submit(C, 5, first=25, call=2)
    stage.tick(0.5)
    assert backlogs(stage) == []
    stage.up(tasks=10, held=list(range(10)))
    assert backlogs(stage)[-1] == 20


def words(stage: Stage) -> list[bool]:
    """What it was told of whether anything may have been sent before."""
    stage.tick(0.5)
    found = [backlog.again for backlog in stage.down(msg.Backlog)]
    stage.clear()
    return found


def test_an_incomplete_journals_interchange_hears_when_all_was_sent_again(stage: Stage) -> None:
    stage.submit(C, 4)
    stage.interchange(msg.Window(2, 1 << 30))
    stage.clear()
    stage.up(tasks=2, incomplete=True)
    assert stage.sent() == [0, 1]
    assert False not in words(stage)  # 2 and 3 are still to be sent again
    stage.interchange(msg.Window(4, 1 << 30))
    assert stage.sent() == [2, 3]
    assert False in words(stage)
    stage.submit(C, 9, first=4, call=2)  # these nobody has
    assert False not in words(stage)  # once is enough
    stage.up(tasks=4, incomplete=True)
    assert False in words(stage)  # it may be another process: all of before was sent to it again
    stage.up(tasks=4)
    assert False not in words(stage)  # which did not ask


def test_what_waits_for_the_store_is_still_to_be_sent_again(stage: Stage) -> None:
    stage.submit(C, 2)
    after = Stage(stage.store)
    after.slow = True
    after.up(incomplete=True)
    assert False not in words(after)  # its arguments are read
    after.work()
    assert after.sent() == [0, 1]
    assert words(after) == [False]


def test_what_was_cancelled_is_not_counted(stage: Stage) -> None:
    stage.submit(C, 30)
    assert backlogs(stage) == [20]
    stage.cancel(C, *range(10, 30))
    stage.tick(0.5)
    assert backlogs(stage) == [0]
    for _ in range(3):
        stage.tick(0.5)
    assert backlogs(stage) == []


def test_an_interchange_of_local_is_told_nothing() -> None:
    stage = Stage()
    stage.attach(C, local=b"local:c")
    stage.up(tasks=1, key=b"local:c")
    stage.submit(C, 9, info(OTHER, endpoint=LOCAL_ENDPOINT))
    stage.tick(0.5)
    assert stage.sent(b"local:c", OTHER) == [0]
    assert backlogs(stage, b"local:c") == []
