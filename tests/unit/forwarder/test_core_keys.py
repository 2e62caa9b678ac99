"""Streams with idempotency keys: stored once, whoever sends them; conflicts; what was purged."""

from __future__ import annotations

import msgspec
import pytest

from fxhpc import ids
from fxhpc.forwarder import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from tests.unit.forwarder.acting import LOCAL_ENDPOINT, OTHER, STREAM, Stage, info

C, D = b"c", b"d"


def keyed(
    content: bytes = b"1", stream: bytes = STREAM, endpoint: str = "", key: str = "k"
) -> msg.StreamInfo:
    made = info(stream, endpoint=endpoint) if endpoint else info(stream)
    return msgspec.structs.replace(made, key=key, content=content)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    stage.attach(D)
    stage.clear()
    return stage


def test_two_clients_that_submit_the_same_are_both_answered_and_it_is_stored_once(
    stage: Stage,
) -> None:
    stage.slow = True
    stage.submit(C, 3, keyed(), call=1)
    stage.submit(D, 3, keyed(), call=2)
    assert not stage.said(D, service.Done)
    stage.work()
    assert stage.said(C, service.Done) == [service.Done(1)]
    assert stage.said(D, service.Done) == [service.Done(2)]
    assert stage.store.stored_tasks(STREAM) == 3


def test_each_goes_on_where_the_other_has_come_to(stage: Stage) -> None:
    stage.submit(C, 3, keyed())
    stage.submit(D, 3, keyed(), call=2)
    stage.submit(D, 2, keyed(), first=3, call=3)
    stage.submit(C, 2, keyed(), first=3, call=4)
    stage.submit(C, 4, keyed(), first=5, call=5)
    assert not stage.said(C, service.Failed)
    assert not stage.said(D, service.Failed)
    assert stage.store.stored_tasks(STREAM) == 9


def test_other_content_is_refused_with_the_first_task(stage: Stage) -> None:
    stage.submit(C, 3, keyed())
    stage.submit(D, 3, keyed(b"2", OTHER), call=2)
    (failed,) = stage.said(D, service.Failed)
    assert failed == service.Failed(2, "IdempotencyConflict", ["k", ids.task_id(STREAM, 0)])
    assert stage.store.stored_tasks(OTHER) == 0
    stage.submit(D, 3, keyed(b"2", OTHER, key="another"), call=3)
    assert stage.said(D, service.Done) == [service.Done(3)]


def test_other_content_is_refused_while_the_first_is_being_stored(stage: Stage) -> None:
    stage.slow = True
    stage.submit(C, 3, keyed())
    stage.submit(D, 3, keyed(b"2", OTHER), call=2)
    assert stage.said(D, service.Failed)


def test_what_could_not_be_stored_does_not_hold_the_key(stage: Stage) -> None:
    stage.store.full = True
    stage.submit(C, 3, keyed())
    assert stage.said(C, service.Failed)
    stage.store.full = False
    stage.submit(D, 3, keyed(b"2", OTHER), call=2)
    assert stage.said(D, service.Done)


def test_all_parts_of_a_submission_have_its_key(stage: Stage) -> None:
    rows = [service.Submission(keyed(stream=name), 0, [b"x"]) for name in (STREAM, OTHER)]
    stage.client(C, service.Submit(1, rows))
    stage.client(D, service.Submit(2, rows))
    assert stage.said(C, service.Done)
    assert stage.said(D, service.Done)
    assert stage.store.stored_tasks(STREAM) == stage.store.stored_tasks(OTHER) == 1


def test_after_a_restart(stage: Stage) -> None:
    stage.submit(C, 3, keyed())
    after = Stage(stage.store)
    after.attach(D)
    after.submit(D, 3, keyed())
    assert after.said(D, service.Done)
    assert after.store.stored_tasks(STREAM) == 3
    after.submit(D, 3, keyed(b"2", OTHER), call=2)
    assert after.said(D, service.Failed)[0].error == "IdempotencyConflict"


def purge(stage: Stage, *, pending: bool = False) -> None:
    stage.client(C, service.PurgeTasks(9, pending=pending))


def test_what_was_purged_frees_its_key_when_it_is_gone(stage: Stage) -> None:
    stage.up()
    stage.submit(C, 3, keyed())
    stage.finish([0, 1, 2])
    stage.slow = True
    purge(stage)
    stage.work(2)
    stage.submit(D, 3, keyed(), call=2)
    assert "submit again in a moment" in stage.said(D, service.Failed)[0].arguments[0]
    stage.slow = False
    stage.work()
    assert stage.said(C, service.Purged)
    stage.clear()
    stage.submit(D, 3, keyed(), call=3)
    assert stage.said(D, service.Done)
    assert stage.sent() == [0, 1, 2]
    stage.finish([0, 1, 2], number=2)
    stage.fetch(D, [0, 1, 2])
    assert set(stage.statuses(D).values()) == {"success"}


def test_what_was_purged_frees_its_key_for_other_content(stage: Stage) -> None:
    stage.up()
    stage.submit(C, 1, keyed())
    stage.finish([0])
    purge(stage)
    stage.submit(D, 1, keyed(b"2", OTHER))
    assert stage.said(D, service.Done)


def test_what_was_purged_before_it_had_ended_is_not_run_under_its_key(stage: Stage) -> None:
    stage.up()
    stage.submit(C, 3, keyed())
    purge(stage, pending=True)
    stage.clear()
    stage.submit(D, 3, keyed(), call=2)
    (failed,) = stage.said(D, service.Failed)
    assert "use another key" in failed.arguments[0]
    assert not stage.sent()


def test_what_waits_for_a_local_that_is_gone_runs_where_it_is_submitted_again(
    stage: Stage,
) -> None:
    stage.submit(C, 3, keyed(endpoint=LOCAL_ENDPOINT))
    stage.tell(ev.ClientGone(C))
    stage.tell(ev.LocalClosed(b"local:" + C))
    stage.clear()
    stage.submit(D, 3, keyed(endpoint=LOCAL_ENDPOINT), call=2)
    assert stage.said(D, service.Done)
    assert stage.said(D, service.NeedLocal)
    stage.up(key=b"local:" + D)
    assert stage.sent(b"local:" + D) == [0, 1, 2]


def test_what_runs_elsewhere_is_left_there(stage: Stage) -> None:
    stage.submit(C, 3, keyed(endpoint=LOCAL_ENDPOINT))
    stage.clear()
    stage.submit(D, 3, keyed(endpoint=LOCAL_ENDPOINT), call=2)
    assert stage.said(D, service.Done)
    assert not stage.said(D, service.NeedLocal)
    stage.up(key=b"local:" + C)
    assert stage.sent(b"local:" + C) == [0, 1, 2]
