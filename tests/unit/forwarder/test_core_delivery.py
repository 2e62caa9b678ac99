"""Outcomes: durable before they are acknowledged, to whoever waits, pushed within a window."""

from __future__ import annotations

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.gathering import ACKNOWLEDGE_BYTES, ACKNOWLEDGE_MESSAGES
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.protocol.versions import PROTOCOL
from tests.unit.forwarder.acting import KEY, STREAM, Stage, info

C, D = b"c", b"d"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    stage.up()
    stage.clear()
    return stage


def test_results_are_acknowledged_when_they_are_durable(stage: Stage) -> None:
    stage.submit(C, 2)
    stage.slow = True
    stage.finish([0, 1], number=5)
    stage.tick(0.5)
    assert not stage.down(msg.ResultsStored)
    stage.work()
    stage.tick(0.5)
    assert stage.down(msg.ResultsStored) == [msg.ResultsStored([5])]
    assert stage.store.stored_outcomes(STREAM).keys() == {0, 1}


def test_the_first_outcome_counts_and_the_others_are_acknowledged(stage: Stage) -> None:
    stage.submit(C, 1)
    stage.finish([0], number=1)
    stage.finish([0], number=2, data=b"another")
    stage.tick(0.5)
    assert stage.down(msg.ResultsStored) == [msg.ResultsStored([1, 2])]
    stage.fetch(C, [0])
    (answer,) = stage.said(C, service.States)
    outcome = answer.streams[0].states[0].outcome
    assert outcome is not None
    assert outcome.data == b"value"


def test_who_wants_to_know_what_runs_of_kept_tasks_is_told(stage: Stage) -> None:
    stage.attach(D)
    stage.submit(C, 5)
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 2])]))
    assert not stage.said(C, msg.Started)

    def ask(peer: bytes, call: int, ranges: list[int], *, begun: bool) -> None:
        parts = [service.StreamRanges(STREAM, ranges)]
        stage.client(peer, service.Fetch(call, parts, wait_s=30, need=1, ended=True, begun=begun))

    ask(C, 3, [1, 3], begun=True)
    ask(D, 3, [0, 5], begun=False)
    assert stage.said(C, msg.Started) == [msg.Started([msg.TaskRefs(STREAM, [1, 1])])]
    stage.clear()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [2, 3])]))
    assert stage.said(C, msg.Started) == [msg.Started([msg.TaskRefs(STREAM, [2, 2])])]
    stage.finish([1])
    stage.tick(0.5)
    assert len(stage.said(C, service.States)) == 1
    stage.clear()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 5])]))  # said again: nobody asks now
    assert not stage.said(C, msg.Started)
    assert not stage.said(D, msg.Started)


def test_outcomes_of_unknown_tasks_are_acknowledged(stage: Stage) -> None:
    stage.finish([3], stream=b"who is that-", number=9)
    stage.tick(0.5)
    assert stage.down(msg.ResultsStored) == [msg.ResultsStored([9])]


def test_many_results_are_acknowledged_together_and_without_waiting(stage: Stage) -> None:
    stage.submit(C, ACKNOWLEDGE_MESSAGES)
    for index in range(ACKNOWLEDGE_MESSAGES - 1):
        stage.finish([index], number=index)
    assert not stage.down(msg.ResultsStored)
    stage.finish([ACKNOWLEDGE_MESSAGES - 1], number=ACKNOWLEDGE_MESSAGES - 1)
    assert stage.down(msg.ResultsStored) == [msg.ResultsStored(list(range(ACKNOWLEDGE_MESSAGES)))]


def test_large_results_are_acknowledged_at_once(stage: Stage) -> None:
    stage.submit(C, 1)
    stage.finish([0], number=1, data=bytes(ACKNOWLEDGE_BYTES))
    assert stage.down(msg.ResultsStored) == [msg.ResultsStored([1])]


def test_large_results_that_are_pushed_are_acknowledged_at_once() -> None:
    """Embedded: else an interchange that keeps no more of them waits for the next tick."""
    stage = Stage(durable=False)
    stage.attach(C)
    stage.up()
    stage.submit(C, 1, info(keep=False))
    stage.finish([0], number=1, data=bytes(ACKNOWLEDGE_BYTES))
    assert stage.down(msg.ResultsStored) == [msg.ResultsStored([1])]


def test_a_full_disk_keeps_outcomes_until_there_is_room(stage: Stage) -> None:
    stage.submit(C, 1)
    stage.store.full = True
    stage.finish([0], number=1)
    stage.finish([0], number=2)  # sent again by a manager that came back
    stage.tick(5.0)
    assert not stage.down(msg.ResultsStored)
    stage.store.full = False
    stage.tick(5.0)
    stage.tick(0.5)
    stored = [number for message in stage.down(msg.ResultsStored) for number in message.numbers]
    assert sorted(stored) == [1, 2]


# --- Fetch --------------------------------------------------------------------------------------


def test_who_waits_is_answered_when_all_have_ended(stage: Stage) -> None:
    stage.submit(C, 2)
    stage.fetch(C, [0, 1], wait_s=60.0)
    stage.finish([0])
    assert not stage.said(C, service.States)
    stage.finish([1], number=2)
    assert stage.statuses(C) == {0: states.SUCCESS, 1: states.SUCCESS}


def test_who_needs_some_is_answered_when_so_many_have_ended(stage: Stage) -> None:
    stage.submit(C, 3)
    stage.fetch(C, [0, 1, 2], wait_s=60.0, need=1)
    stage.finish([1])
    statuses = stage.statuses(C)
    assert statuses[1] == states.SUCCESS
    assert statuses[0] in states.PENDING


def test_who_waits_is_answered_when_the_time_is_over(stage: Stage) -> None:
    stage.submit(C, 1)
    stage.fetch(C, [0], wait_s=3.0)
    stage.tick(2.0)
    assert not stage.said(C, service.States)
    stage.tick(1.5)
    assert stage.statuses(C)[0] in states.PENDING


def test_an_unknown_task_is_answered_at_once(stage: Stage) -> None:
    stage.fetch(C, [0, 1], wait_s=60.0)
    assert stage.statuses(C) == {0: states.UNKNOWN, 1: states.UNKNOWN}


def test_how_a_task_ended_is_told_by_its_status(stage: Stage) -> None:
    stage.submit(C, 4)
    stage.finish([0], number=1)
    stage.finish([1], number=2, kind=OutcomeKind.ERROR)
    stage.finish([2], number=3, kind=OutcomeKind.CANCELLED)
    stage.finish([3], number=4, kind=OutcomeKind.LOST)
    stage.fetch(C, [0, 1, 2, 3])
    assert stage.statuses(C) == {
        0: states.SUCCESS,
        1: states.FAILED,
        2: states.CANCELLED,
        3: states.FAILED,
    }


def test_why_a_task_waits_is_told() -> None:
    stage = Stage()
    stage.attach(C)
    stage.submit(C, 1)
    stage.fetch(C, [0])
    assert stage.statuses(C) == {0: states.WAITING_FOR_ENDPOINT}
    stage.up()
    stage.fetch(C, [0])
    assert stage.statuses(C) == {0: states.WAITING_FOR_NODES}
    stage.interchange(msg.Status(1, 1, 0, 1, 1))
    stage.fetch(C, [0])
    assert stage.statuses(C) == {0: states.WAITING_FOR_LAUNCH}
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    stage.fetch(C, [0])
    assert stage.statuses(C) == {0: states.RUNNING}


def test_outcomes_are_read_from_the_store_after_a_restart(stage: Stage) -> None:
    stage.submit(C, 3)
    stage.finish([0, 2])
    after = Stage(stage.store)
    after.attach(D)
    after.fetch(D, [0, 2])
    assert after.statuses(D) == {0: states.SUCCESS, 2: states.SUCCESS}


def test_a_long_answer_is_cut_and_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fxhpc.forwarder.delivery.ANSWER_TASKS", 2)
    stage.submit(C, 3)
    stage.finish([0, 1, 2])
    stage.fetch(C, [0, 1, 2])
    (answer,) = stage.said(C, service.States)
    assert answer.more
    assert stage.statuses(C).keys() == {0, 1}


# --- pushes -------------------------------------------------------------------------------------


def test_what_is_not_kept_is_pushed(stage: Stage) -> None:
    stage.submit(C, 2, info(keep=False))
    stage.finish([1])
    assert stage.pushed(C) == [1]


def test_no_more_pushes_are_out_than_the_client_takes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxhpc.forwarder.delivery.PUSHES_OUT", 2)
    stage.submit(C, 5, info(keep=False))
    for index in range(5):
        stage.finish([index], number=index)
    assert stage.pushed(C) == [0, 1]
    stage.client(C, service.Delivered([stage.said(C, service.Push)[0].number]))
    assert stage.pushed(C) == [0, 1, 2]


def test_no_more_bytes_are_out_than_a_client_takes_and_one_push_at_least(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxhpc.forwarder.delivery.PUSHES_OUT_BYTES", 1000)
    stage.submit(C, 4, info(keep=False))
    for index, size in enumerate((5000, 500, 500, 500)):
        stage.finish([index], number=index, data=bytes(size))
    assert stage.pushed(C) == [0]
    stage.client(C, service.Delivered([stage.said(C, service.Push)[0].number]))
    assert stage.pushed(C) == [0, 1, 2]


def test_who_comes_back_gets_what_it_has_not_acknowledged(stage: Stage) -> None:
    stage.submit(C, 3, info(keep=False))
    stage.finish([0], number=1)
    stage.finish([1], number=2)
    first = stage.said(C, service.Push)[0].number
    stage.client(C, service.Delivered([first]))
    stage.attach(b"c2", name=C, streams=[STREAM])
    assert stage.pushed(b"c2") == [1]
    stage.finish([2], number=3)
    assert stage.pushed(b"c2") == [1, 2]


def test_who_comes_back_over_the_same_connection_gets_each_outcome_under_one_number(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxhpc.forwarder.delivery.CACHE_BYTES", 0)
    stage.submit(C, 2, info(keep=False))
    stage.slow = True
    stage.finish([0])
    stage.work(1)
    stage.attach(C, streams=[STREAM])
    stage.clear()
    stage.work()
    stage.finish([1], number=2)
    stage.work()
    numbers = [push.number for push in stage.said(C, service.Push)]
    assert len(set(numbers)) == len(numbers)


def test_who_comes_back_is_told_which_streams_nobody_knows(stage: Stage) -> None:
    stage.attach(b"c2", name=C, streams=[STREAM])
    assert stage.said(b"c2", service.Forgotten) == [service.Forgotten([STREAM])]


def test_streams_that_a_client_does_not_ask_for_any_more_are_dropped(stage: Stage) -> None:
    stage.submit(C, 1, info(keep=False))
    stage.finish([0])
    assert stage.store.streams()
    stage.attach(b"c2", name=C)
    assert not stage.store.streams()


def test_work_that_is_not_kept_ends_with_its_client(stage: Stage) -> None:
    stage.submit(C, 2, info(keep=False))
    stage.tell(ev.ClientGone(C))
    refs = [msg.TaskRefs(STREAM, [0, 2])]
    assert stage.down(msg.Cancel) == [msg.Cancel(refs, interrupt=True, forget=True)]
    assert not stage.store.streams()


def test_work_that_is_not_kept_ends_with_a_client_that_dies_while_no_forwarder_is_there(
    stage: Stage,
) -> None:
    stage.submit(C, 2, info(keep=False))
    after = Stage(stage.store)
    after.tick(1.0)
    assert not after.store.streams()


def test_work_that_is_kept_outlives_its_client(stage: Stage) -> None:
    stage.submit(C, 1)
    stage.tell(ev.ClientGone(C))
    stage.finish([0])
    stage.attach(D)
    stage.fetch(D, [0])
    assert stage.statuses(D) == {0: states.SUCCESS}


def test_that_a_task_has_started_is_told_to_whom_it_is_for(stage: Stage) -> None:
    stage.submit(C, 1, info(keep=False))
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    assert stage.said(C, msg.Started)


def test_nothing_is_stored_of_what_an_embedded_forwarder_does_not_keep() -> None:
    stage = Stage(durable=False)
    stage.attach(C)
    stage.up()
    stage.submit(C, 2, info(keep=False))
    assert stage.said(C, service.Done)
    stage.finish([0, 1])
    assert stage.pushed(C) == [0, 1]
    stage.tick(0.5)
    assert stage.down(msg.ResultsStored)
    assert not stage.store.streams()


def test_an_embedded_forwarder_keeps_what_was_submitted_before_its_interchange_answered() -> None:
    stage = Stage(durable=False)
    stage.attach(C)
    stage.submit(C, 2, info(keep=False))
    stage.up()
    assert stage.sent() == [0, 1]


@pytest.mark.parametrize("protocol", [0, 99])
def test_another_protocol_is_refused_and_both_versions_are_named(protocol: int) -> None:
    stage = Stage()
    stage.attach(C, protocol=protocol)
    (refuse,) = stage.said(C, msg.Refuse)
    assert "9.9" in refuse.reason
    assert "0.1.0" in refuse.reason


def test_with_a_client_of_the_next_version_its_older_protocol_is_spoken() -> None:
    stage = Stage()
    stage.attach(C, protocol=PROTOCOL + 1, oldest_protocol=PROTOCOL)
    assert not stage.said(C, msg.Refuse)
    assert [one.protocol for one in stage.said(C, service.Attached)] == [PROTOCOL]


def test_a_stranger_is_told_to_greet() -> None:
    stage = Stage()
    stage.client(C, msg.Heartbeat())
    assert stage.said(C, msg.Reset)


def test_a_heartbeat_is_answered(stage: Stage) -> None:
    stage.client(C, msg.Heartbeat())
    assert stage.said(C, msg.Heartbeat)


def test_what_cannot_be_stored_says_so_and_nothing_more_begins(stage: Stage) -> None:
    stage.submit(C, 1)
    stage.store.full = True
    stage.finish([0], number=1)
    stage.fetch(C, [0])
    (answer,) = stage.said(C, service.States)
    assert "waits for room: the disk is full" in answer.streams[0].states[0].reason
    stage.store.full = False
    stage.tick(5.0)
    stage.fetch(C, [0])
    assert stage.statuses(C) == {0: states.SUCCESS}


def test_what_runs_at_a_manager_of_before_is_sent_to_its_new_interchange_all_the_same(
    stage: Stage,
) -> None:
    """It says so while the arguments are read from the store; else nobody owns the task."""
    stage.submit(C, 3)
    assert stage.sent() == [0, 1, 2]
    stage.tell(ev.InterchangeGone(KEY))
    stage.clear()
    stage.slow = True
    stage.up()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    stage.slow = False
    stage.work()
    assert stage.sent() == [0, 1, 2]


def test_who_comes_back_does_not_take_what_is_kept_along() -> None:
    stage = Stage()
    stage.attach(C)
    stage.up()
    stage.submit(C, 2)
    again = Stage(stage.store)  # the forwarder was started again
    again.attach(C, streams=[STREAM])
    again.up()
    again.finish([0])
    assert not again.said(C, service.Push)
    again.tell(ev.ClientGone(C))
    again.finish([1], number=2)
    again.attach(D)
    again.fetch(D, [0, 1])
    (answer,) = again.said(D, service.States)
    assert [state.status for state in answer.streams[0].states] == [states.SUCCESS] * 2
