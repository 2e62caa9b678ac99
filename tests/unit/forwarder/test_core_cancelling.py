"""Cancelling, in every state that a task can be in."""

from __future__ import annotations

import msgspec
import pytest

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.cancelling import RETURN_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import OutcomeKind
from tests.unit.forwarder.acting import KEY, LOCAL_ENDPOINT, STREAM, Stage, info

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


def test_what_ended_without_a_word_has_a_time_all_the_same(stage: Stage) -> None:
    stage.tell(ev.Tick(wall=1_700_000_000.0))
    stage.clock.advance(5.0)
    stage.cancel(C, 1)
    stage.fetch(C, [1])
    (answer,) = stage.said(C, service.States)
    assert answer.streams[0].states[0].ended == 1_700_000_005.0


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
    stage.tick(11.0)
    assert stage.cancelled(C) == []


def test_what_an_interchange_that_goes_away_was_asked_for_ends_here(stage: Stage) -> None:
    stage.up()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    stage.cancel(C, 0, call=8, interrupt=True)
    stage.cancel(C, 1, call=9)
    stage.tell(ev.InterchangeGone(KEY))
    assert [answer.call for answer in stage.said(C, service.Cancelled)] == [8]
    stage.tick(RETURN_S)  # it may have begun, which the interchange would say if it came back
    answers = {answer.call: answer.tasks for answer in stage.said(C, service.Cancelled)}
    assert answers == {8: [_refs(0)], 9: [_refs(1)]}
    stage.clear()
    stage.up(held=[0, 1])
    assert [ref.ranges for ref in stage.down(msg.Cancel)[0].tasks] == [[0, 2]]
    assert stage.down(msg.Cancel)[0].forget
    stage.finish([0, 1])
    stage.fetch(C, [0, 1])
    assert set(stage.statuses(C).values()) == {states.CANCELLED}


def test_what_was_asked_for_holds_beyond_the_answer_and_the_client(stage: Stage) -> None:
    stage.up()
    stage.cancel(C, 0)
    stage.tick(11.0)  # a partition: nothing is heard, and nobody has noticed yet
    stage.cancel(C, 1, call=9)
    stage.tell(ev.ClientGone(C))
    stage.tell(ev.InterchangeGone(KEY))
    stage.clear()
    stage.up()
    assert stage.sent() == [2, 3]
    stage.attach(C)
    stage.fetch(C, [0, 1])
    assert set(stage.statuses(C).values()) == {states.CANCELLED}


def test_a_link_that_opens_anew_is_asked_once_more(stage: Stage) -> None:
    stage.up()
    stage.cancel(C, 0, call=8)
    stage.cancel(C, 1, call=9, interrupt=True)
    stage.cancel(C, 2, call=10)
    stage.clear()
    stage.up(held=[0, 1, 3])
    assert stage.down(msg.Cancel) == [
        msg.Cancel([msg.TaskRefs(STREAM, [0, 1])], False),
        msg.Cancel([msg.TaskRefs(STREAM, [1, 1])], True),
    ]
    assert stage.said(C, service.Cancelled)[-1] == service.Cancelled(10, [_refs(2)])
    assert stage.sent() == []


def test_what_is_on_its_way_into_the_store_is_cancelled_when_it_is_there(stage: Stage) -> None:
    stage.slow = True
    stage.submit(C, 3, first=4, call=2)
    stage.cancel(C, 5, 6)
    assert not stage.said(C, service.Cancelled)
    stage.work()
    assert stage.cancelled(C) == [5, 6]
    stage.slow = False
    stage.up()
    assert stage.sent() == [0, 1, 2, 3, 4]


def test_what_the_store_refused_was_never_there(stage: Stage) -> None:
    stage.slow = True
    stage.store.refuse_next = 1
    stage.submit(C, 3, first=4, call=2)
    stage.cancel(C, 5, 6)
    stage.work()
    assert stage.cancelled(C) == []


def test_twice_is_as_once_also_before_the_first_is_stored(stage: Stage) -> None:
    stage.slow = True
    stage.cancel(C, 1, call=8)
    stage.cancel(C, 1, call=9)
    stage.work()
    answers = stage.said(C, service.Cancelled)
    assert answers == [service.Cancelled(8, [_refs(1)]), service.Cancelled(9, [_refs(1)])]


def test_a_task_that_is_named_twice_ends_once(stage: Stage) -> None:
    tasks = [service.StreamRanges(STREAM, [1, 1, 0, 2]), service.StreamRanges(STREAM, [1, 2**31])]
    stage.client(C, service.CancelTasks(8, tasks))
    assert stage.cancelled(C) == [0, 1, 2, 3]
    assert stage.core._state.streams[STREAM].pending == 0


def test_what_was_cancelled_is_in_nobodys_way(stage: Stage) -> None:
    stage.submit(C, 996, first=4, call=2)
    stage.cancel(C, *range(999))
    stage.submit(C, 1, first=1000, call=3)
    stage.up(tasks=2)
    assert stage.sent() == [999, 1000]


def test_a_group_is_cancelled_whoever_has_submitted_it(stage: Stage) -> None:
    group = "5a4e0000-0000-4000-8000-00000000000a"
    stage.attach(b"d")
    for name, peer in ((b"1" * 12, C), (b"2" * 12, b"d")):
        stage.submit(peer, 2, msgspec.structs.replace(info(name), group=group))
    stage.tell(ev.ClientGone(b"d"))
    stage.client(C, service.CancelTasks(8, [], groups=[group, "unknown"]))
    answer = stage.said(C, service.Cancelled)[-1]
    both = [service.StreamRanges(b"1" * 12, [0, 2]), service.StreamRanges(b"2" * 12, [0, 2])]
    assert (answer.tasks, answer.asked) == (both, both)
    stage.client(C, service.CancelTasks(9, [], groups=[group]))
    answer = stage.said(C, service.Cancelled)[-1]
    assert (answer.tasks, answer.asked) == ([], both)  # they were, and their states say so
    stage.up()
    assert stage.sent() == [0, 1, 2, 3]  # no group


def test_the_work_of_a_client_that_is_gone_is_cancelled(stage: Stage) -> None:
    local = info(b"1" * 12, endpoint=LOCAL_ENDPOINT)
    stage.submit(C, 2, local)
    again = Stage(stage.store)  # the forwarder was killed, and its client with it
    again.attach(b"d")
    again.client(b"d", service.CancelTasks(8, [service.StreamRanges(b"1" * 12, [0, 2])]))
    answer = again.said(b"d", service.Cancelled)[-1]
    assert answer.tasks == [service.StreamRanges(b"1" * 12, [0, 2])]


def test_a_local_that_ends_meanwhile_leaves_nothing_to_be_cancelled(stage: Stage) -> None:
    local = b"local:" + C
    stage.submit(C, 2, info(b"1" * 12, endpoint=LOCAL_ENDPOINT))
    stage.up(key=local)
    assert stage.sent(local, b"1" * 12) == [0, 1]
    stage.attach(b"d")
    stage.tell(ev.ClientGone(C))
    stage.client(b"d", service.CancelTasks(8, [service.StreamRanges(b"1" * 12, [0, 2])]))
    assert not stage.said(b"d", service.Cancelled)
    stage.tell(ev.LocalClosed(local))
    answer = stage.said(b"d", service.Cancelled)[-1]
    assert answer.tasks == [service.StreamRanges(b"1" * 12, [0, 2])]


def test_what_runs_although_it_has_ended_is_ended(stage: Stage) -> None:
    # Cancelled while its interchange was away; a manager had it from the interchange before.
    stage.up()
    stage.tell(ev.InterchangeGone(KEY))
    stage.cancel(C, 0)
    stage.up()
    stage.clear()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 2]), msg.TaskRefs(b"?" * 12, [5, 1])]))
    assert stage.down(msg.Cancel) == [
        msg.Cancel([msg.TaskRefs(STREAM, [0, 1]), msg.TaskRefs(b"?" * 12, [5, 1])], True, True)
    ]


def test_in_an_embedded_forwarder_it_is_answered_at_once() -> None:
    stage = Stage(durable=False)
    stage.attach(C)
    stage.up()
    stage.submit(C, 2, info(keep=False))
    stage.cancel(C, 1)
    stage.finish([1], kind=OutcomeKind.CANCELLED)
    assert stage.cancelled(C) == [1]


def _refs(index: int) -> service.StreamRanges:
    return service.StreamRanges(STREAM, [index, 1])
