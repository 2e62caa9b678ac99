"""Submissions: durable when they are answered, stored once, all or none; and how they go out."""

from __future__ import annotations

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.store import operations as op
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from tests.unit.forwarder.acting import DIGEST, KEY, OTHER, STREAM, Stage, info

C, D = b"c", b"d"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    stage.clear()
    return stage


def test_it_is_answered_when_it_is_durable_and_not_before(stage: Stage) -> None:
    stage.slow = True
    stage.submit(C, 3)
    assert not stage.said(C, service.Done)
    stage.work()
    assert stage.said(C, service.Done) == [service.Done(1)]
    assert stage.store.stored_tasks(STREAM) == 3


def test_sent_again_after_a_lost_answer_it_is_stored_once_and_answered(stage: Stage) -> None:
    stage.submit(C, 3)
    stage.submit(C, 3)
    assert len(stage.said(C, service.Done)) == 2
    assert stage.store.stored_tasks(STREAM) == 3


def test_sent_again_while_it_is_being_stored_it_is_stored_once(stage: Stage) -> None:
    stage.slow = True
    stage.submit(C, 3, call=1)
    stage.submit(C, 3, call=2)
    stage.work()
    assert stage.said(C, service.Done) == [service.Done(1), service.Done(2)]
    assert stage.store.stored_tasks(STREAM) == 3


def test_sent_again_after_a_restart_it_is_stored_once(stage: Stage) -> None:
    stage.submit(C, 3)
    after = Stage(stage.store)
    after.attach(C)
    after.submit(C, 3)
    assert after.said(C, service.Done)
    assert after.store.stored_tasks(STREAM) == 3


def test_an_endpoint_that_nobody_knows_is_named(stage: Stage) -> None:
    unknown = "00000000-0000-4000-8000-00000000dead"
    stage.submit(C, 1, info(endpoint=unknown))
    (failed,) = stage.said(C, service.Failed)
    assert (failed.error, failed.arguments) == ("EndpointNotFound", [unknown])


def test_a_full_disk_refuses_in_words_and_the_stream_goes_on_later(stage: Stage) -> None:
    stage.submit(C, 2)
    stage.store.full = True
    stage.submit(C, 2, first=2, call=2)
    (failed,) = stage.said(C, service.Failed)
    assert failed.error == "StoreFull"
    stage.store.full = False
    stage.submit(C, 2, first=2, call=3)
    assert service.Done(3) in stage.said(C, service.Done)
    assert stage.store.stored_tasks(STREAM) == 4


def test_what_follows_a_refused_submission_is_refused_too(stage: Stage) -> None:
    stage.slow = True
    stage.store.full = True
    stage.submit(C, 2, call=1)
    stage.submit(C, 2, first=2, call=2)
    stage.work(1)
    stage.store.full = False
    stage.work()
    assert [failed.call for failed in stage.said(C, service.Failed)] == [1, 2]
    assert stage.store.stored_tasks(STREAM) == 0
    stage.slow = False
    stage.submit(C, 4, call=3)
    assert service.Done(3) in stage.said(C, service.Done)
    assert stage.store.stored_tasks(STREAM) == 4


def test_it_is_not_called_done_when_the_first_try_fails_after_it_was_sent_again(
    stage: Stage,
) -> None:
    stage.slow = True
    stage.store.full = True
    stage.submit(C, 2, call=1)
    stage.submit(C, 2, call=2)
    stage.work(1)
    stage.store.full = False
    stage.work()
    assert not stage.said(C, service.Done)


def test_a_gap_in_the_numbers_refuses_the_whole_message(stage: Stage) -> None:
    rows = [
        service.Submission(info(), 0, [b"x"]),
        service.Submission(info(OTHER), 5, [b"x"]),
    ]
    stage.client(C, service.Submit(1, rows))
    assert stage.said(C, service.Failed)
    assert stage.store.stored_tasks(STREAM) == 0
    stage.client(C, service.Submit(2, rows[:1]))
    assert stage.said(C, service.Done) == [service.Done(2)]
    assert stage.store.stored_tasks(STREAM) == 1


def test_a_stream_whose_client_has_gone_meanwhile_is_not_run(stage: Stage) -> None:
    stage.up()
    stage.slow = True
    stage.submit(C, 2, info(keep=False))
    stage.tell(ev.ClientGone(C))
    stage.work()
    assert not stage.sent()


# --- how they go out ----------------------------------------------------------------------------


def test_no_more_goes_out_than_the_window_has_room_for(stage: Stage) -> None:
    stage.up(tasks=3)
    stage.submit(C, 10)
    assert stage.sent() == [0, 1, 2]
    stage.finish([0])
    assert stage.sent() == [0, 1, 2, 3]
    stage.interchange(msg.Window(5, 1 << 30))
    assert stage.sent() == [0, 1, 2, 3, 4, 5]


def test_no_more_bytes_go_out_than_the_window_has_room_for(stage: Stage) -> None:
    stage.up(size=250)
    stage.submit(C, 10, size=100)
    assert len(stage.sent()) == 2


def test_a_task_larger_than_the_window_goes_out_alone(stage: Stage) -> None:
    stage.up(size=10)
    stage.submit(C, 3, size=100)
    assert stage.sent() == [0]


def test_submitters_take_turns(stage: Stage) -> None:
    stage.submit(C, 100_000, info(submitter=C))
    stage.submit(C, 100, info(OTHER, submitter=D), call=2)
    stage.up(tasks=100)
    assert sorted([len(stage.sent()), len(stage.sent(stream=OTHER))]) == [35, 65]


def test_a_function_goes_along_with_the_first_task_that_needs_it(stage: Stage) -> None:
    stage.up()
    stage.client(C, service.PutBody(9, DIGEST, b"body"))
    stage.submit(C, 1)
    stage.submit(C, 1, first=1, call=2)
    assert stage.down(msg.Body) == [msg.Body(DIGEST, b"body")]


def test_bodies_are_read_from_the_store_when_they_are_asked_for(stage: Stage) -> None:
    stage.client(C, service.PutBody(9, DIGEST, b"body"))
    after = Stage(stage.store)
    after.up()
    after.interchange(msg.NeedBody([DIGEST, b"?" * 32]))
    assert after.down(msg.Body) == [msg.Body(DIGEST, b"body")]
    assert after.down(msg.NoBody) == [msg.NoBody([b"?" * 32])]


def test_without_retries_it_is_written_down_before_it_is_sent(stage: Stage) -> None:
    stage.up()
    stage.slow = True
    stage.submit(C, 2, info(retries=0))
    stage.work(1)
    assert not stage.sent()
    stage.work()
    assert stage.sent() == [0, 1]
    noted = [
        operation
        for action in stage.actions
        if isinstance(action, ev.Store)
        for operation in action.operations
        if isinstance(operation, op.AddException)
    ]
    assert [operation.index for operation in noted] == [0, 1]


def test_without_retries_it_waits_while_that_cannot_be_written_down(stage: Stage) -> None:
    stage.up()
    stage.slow = True
    stage.submit(C, 1, info(retries=0))
    stage.work(1)
    stage.store.refuse_next = 1
    stage.work()
    assert not stage.sent()
    stage.slow = False
    stage.tick(3.0)
    assert stage.sent() == [0]


# --- an interchange that comes back -------------------------------------------------------------


def test_nothing_is_sent_before_it_has_said_what_it_holds(stage: Stage) -> None:
    stage.up()
    stage.tell(ev.InterchangeUp(KEY))
    stage.submit(C, 2)
    assert not stage.sent()
    stage.interchange(msg.Present("", 1, "1"))
    assert stage.sent() == [0, 1]
    assert not any(run.sent_before for run in stage.runs())


def test_what_it_does_not_hold_is_sent_again_and_marked(stage: Stage) -> None:
    stage.up()
    stage.submit(C, 4)
    stage.clear()
    stage.up(held=[1, 2])
    assert stage.sent() == [0, 3]
    assert all(run.sent_before for run in stage.runs())


def test_after_a_restart_what_may_have_been_sent_is_marked(stage: Stage) -> None:
    stage.up(tasks=2)
    stage.submit(C, 4)
    after = Stage(stage.store)
    after.up(held=[1])
    assert after.sent() == [0, 2, 3]
    assert all(run.sent_before for run in after.runs())
    after.clear()
    after.up()  # again, before anything of it was heard
    assert after.sent() == [0, 1, 2, 3]
    assert all(run.sent_before for run in after.runs())


def test_what_is_being_read_when_it_comes_back_is_sent_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxhpc.forwarder.submitting.PAYLOAD_BYTES", 0)
    stage.up()
    stage.slow = True
    stage.submit(C, 3)
    stage.work(1)  # stored: now its arguments are read back
    stage.up()
    stage.work()
    assert stage.sent() == [0, 1, 2]


def test_what_it_holds_although_nobody_wants_it_is_cancelled(stage: Stage) -> None:
    stage.up()
    stage.submit(C, 2, info(keep=False))
    stage.tell(ev.InterchangeGone(KEY), ev.ClientGone(C))
    stage.clear()
    stage.up(held=[0, 1])
    (cancel,) = stage.down(msg.Cancel)
    assert cancel == msg.Cancel([msg.TaskRefs(STREAM, [0, 2])], interrupt=True, forget=True)


def test_a_task_that_runs_at_an_earlier_manager_is_sent_all_the_same(stage: Stage) -> None:
    stage.up(tasks=2)
    stage.submit(C, 3)
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [2, 1])]))
    stage.finish([0, 1])
    assert stage.sent() == [0, 1, 2]


# --- a window that is full of somebody else's tasks, which may take hours -------------------------


def test_who_has_none_there_does_not_wait_for_room(stage: Stage) -> None:
    """But has no more than a share there, and the next when these have ended."""
    stage.up(tasks=10)
    stage.submit(C, 100, info(submitter=C))
    stage.submit(C, 20, info(OTHER, submitter=D), call=2)
    assert (len(stage.sent()), stage.sent(stream=OTHER)) == (10, [0, 1, 2, 3, 4])
    stage.finish([0, 1, 2, 3], stream=OTHER)
    assert len(stage.sent(stream=OTHER)) == 5
    stage.finish([4], stream=OTHER, number=2)
    assert len(stage.sent(stream=OTHER)) == 10
    stage.tick(1.0)
    stage.submit(C, 20, info(OTHER, submitter=D), first=20, call=3)
    assert (len(stage.sent()), len(stage.sent(stream=OTHER))) == (10, 10)


def test_very_many_submitters_have_one_task_each_beyond_the_window(stage: Stage) -> None:
    stage.up(tasks=10)
    stage.submit(C, 100, info(submitter=C))
    streams = [b"stream %05d" % number for number in range(100)]
    for stream in streams:
        stage.submit(C, 20, info(stream, submitter=stream))
    stage.tick(1.0)
    found = [len(stage.sent(stream=stream)) for stream in streams]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-50:]) == (5, [1] * 50)
    assert sum(found) < 150


def test_large_arguments_of_others_keep_nobody_waiting(stage: Stage) -> None:
    stage.up(size=1000)
    stage.submit(C, 100, info(submitter=C), size=100)
    stage.submit(C, 20, info(OTHER, submitter=D), call=2, size=100)
    assert (len(stage.sent()), stage.sent(stream=OTHER)) == (10, [0, 1, 2, 3, 4])
    stage.submit(C, 2, info(b"large-------", submitter=b"l"), call=3, size=5000)
    assert stage.sent(stream=b"large-------") == [0]


def test_a_stream_does_not_wait_for_room_behind_others_of_its_own_submitter(stage: Stage) -> None:
    """A call beside a batch; but what follows of it waits for its turn, and it is said but once."""
    stage.up(tasks=10)
    stage.submit(C, 100, info(submitter=C))
    stage.submit(C, 20, info(OTHER, submitter=C), call=2)
    assert (len(stage.sent()), stage.sent(stream=OTHER)) == (10, [0, 1, 2, 3, 4])
    stage.tick(1.0)
    stage.finish([0, 1, 2, 3], stream=OTHER)
    assert len(stage.sent(stream=OTHER)) == 5
    stage.finish([4], stream=OTHER, number=2)
    assert len(stage.sent(stream=OTHER)) == 10


def test_very_many_streams_of_one_submitter_get_a_second_window_together(stage: Stage) -> None:
    stage.up(tasks=10)
    stage.submit(C, 100, info(submitter=C))
    streams = [b"stream %05d" % number for number in range(100)]
    for call, stream in enumerate(streams, 2):
        stage.submit(C, 1, info(stream, submitter=C), call=call)
    found = [len(stage.sent(stream=stream)) for stream in streams]
    assert found == [1] * 9 + [0] * 91
    for number, stream in enumerate(streams[:9], 1):
        stage.finish([0], stream=stream, number=number)
    assert len(stage.sent()) == 10  # the window is full of these
    stage.finish([*range(10)], number=10)
    assert sum(len(stage.sent(stream=stream)) for stream in streams) > 9


def test_a_stream_that_came_back_without_does_not_wait_behind_its_own_submitters(
    stage: Stage,
) -> None:
    """Whether it was at the interchange that went, or never got there."""
    stage.up(tasks=10)
    stage.submit(C, 100, info(submitter=C))
    stage.submit(C, 20, info(OTHER, submitter=C), call=2)
    stage.tell(ev.InterchangeGone(KEY))
    stage.submit(C, 1, info(b"meanwhile---", submitter=C), call=3)
    stage.clear()
    stage.up(tasks=10, held=[*range(10)], epoch=2)
    assert stage.sent(stream=OTHER) == [0, 1, 2]
    assert stage.sent(stream=b"meanwhile---") == [0]


def test_an_interchange_that_wants_nothing_gets_nothing(stage: Stage) -> None:
    stage.up(tasks=10)
    stage.submit(C, 100, info(submitter=C))
    stage.interchange(msg.Window(0, 0))
    stage.submit(C, 20, info(OTHER, submitter=D), call=2)
    assert stage.sent(stream=OTHER) == []
    stage.interchange(msg.Window(10, 1 << 30))
    assert len(stage.sent(stream=OTHER)) == 5


def test_an_interchange_that_comes_back_full_gets_some_of_who_has_none_there(
    stage: Stage,
) -> None:
    stage.up(tasks=10)
    stage.submit(C, 100, info(submitter=C))
    stage.submit(C, 20, info(OTHER, submitter=D), call=2)
    stage.clear()
    stage.up(tasks=10, held=[*range(10)], epoch=2)
    assert len(stage.sent(stream=OTHER)) == 5
    stage.finish([0, 1, 2, 3, 4], stream=OTHER)
    assert len(stage.sent(stream=OTHER)) == 10


def test_what_the_window_has_no_bytes_for_keeps_its_order() -> None:
    stage = Stage()
    stage.attach(b"c")
    for call in range(4):
        stage.submit(b"c", 2, first=2 * call, call=call + 1, size=100)
    stage.up(tasks=100, size=250)
    for number in range(1, 9):
        sent = stage.sent()
        if len(sent) < 8:
            stage.finish([sent[number - 1]], number=number)
    assert stage.sent() == list(range(8))
