"""One cause for whoever asks: get_task, get_endpoint_status and lists tell the same sentence."""

from __future__ import annotations

import re

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.cancelling import RETURN_S
from fxhpc.forwarder.settling import SETTLED_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from tests.unit.forwarder.acting import ENDPOINT, KEY, LOCAL_ENDPOINT, STREAM, Stage, info

C = b"c"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    return stage


def told(stage: Stage, index: int = 0) -> tuple[str, str]:
    """What a task's state says, after all who tell of it were asked: they must agree."""
    stage.clear()
    stage.client(
        C, service.Fetch(7, [service.StreamRanges(STREAM, [index, 1])], adopt=False, details=True)
    )
    stage.client(C, service.GetStatus(8, ENDPOINT))
    stage.client(C, service.ListTasks(9))
    (answer,) = stage.said(C, service.States)
    (status,) = stage.said(C, service.EndpointStatus)
    (listed,) = stage.said(C, service.TaskList)
    (part,) = answer.streams
    (state,) = part.states
    assert part.summary is not None
    assert state.reason == status.reason == part.summary.reason == listed.streams[0].reason
    assert list(listed.streams[0].counts) == [state.status]
    return state.status, state.reason


def test_what_the_directory_says_of_an_endpoint_that_is_away(stage: Stage) -> None:
    stage.submit(C, 1)
    assert told(stage)[0] == states.WAITING_FOR_ENDPOINT
    stage.tell(ev.EndpointTold(KEY, "endpoint midway is stopped; start it"))
    assert told(stage) == (states.WAITING_FOR_ENDPOINT, "endpoint midway is stopped; start it")
    stage.up()
    stage.interchange(msg.Status(1, 1, 0, 0, 1))
    stage.tell(ev.InterchangeGone(KEY), ev.EndpointTold(KEY, "endpoint midway has died"))
    assert told(stage) == (states.WAITING_FOR_ENDPOINT, "endpoint midway has died")


def test_an_endpoint_without_workers_says_why(stage: Stage) -> None:
    stage.submit(C, 3)
    stage.up()
    assert told(stage)[0] == states.WAITING_FOR_NODES
    stage.interchange(msg.Status(0, 0, 0, 3, 0, "Slurm job 123 PENDING (Priority)"))
    assert told(stage) == (states.WAITING_FOR_NODES, "Slurm job 123 PENDING (Priority)")
    stage.interchange(msg.Status(0, 0, 0, 3, 0))
    assert told(stage) == (states.WAITING_FOR_NODES, "no manager has registered yet")


def test_busy_workers_and_how_many_wait_there(stage: Stage) -> None:
    stage.submit(C, 5)
    stage.up()
    stage.interchange(msg.Status(1, 2, 0, 3, 2))
    status, reason = told(stage)
    assert status == states.WAITING_FOR_LAUNCH
    assert reason == f"all 2 workers of endpoint {ENDPOINT} are busy; 3 tasks wait there in turn"
    stage.interchange(msg.Status(1, 2, 0, 3, 2, "all blocks are being drained"))
    assert told(stage) == (states.WAITING_FOR_NODES, "all blocks are being drained")


def test_idle_workers_that_nothing_fits(stage: Stage) -> None:
    stage.submit(C, 1)
    stage.up()
    stage.interchange(msg.Status(1, 2, 2, 1, 0, "no task fits: every block ends in 5 min"))
    assert told(stage) == (states.WAITING_FOR_NODES, "no task fits: every block ends in 5 min")
    stage.interchange(msg.Status(1, 2, 2, 1, 0))
    assert told(stage)[0] == states.WAITING_FOR_LAUNCH


def test_people_read_the_name_of_an_endpoint() -> None:
    stage = Stage()
    other = "5a4e0000-0000-4000-8000-000000000002"
    stage.tell(ev.EndpointKnown(other, "midway"))
    stage.attach(C)
    stage.submit(C, 1, info(endpoint=other))
    stage.fetch(C, [0])
    (answer,) = stage.said(C, service.States)
    assert answer.streams[0].states[0].reason == "endpoint midway is not running"


def test_a_deleted_endpoint_takes_no_more_and_says_what_to_do(stage: Stage) -> None:
    stage.submit(C, 1)
    stage.tell(ev.EndpointTold(KEY, "endpoint midway was deleted: cancel", deleted=True))
    stage.clear()
    stage.submit(C, 1, first=1, call=2)
    (refused,) = stage.said(C, service.Failed)
    assert refused.error == "EndpointNotFound"
    stage.fetch(C, [0])
    (answer,) = stage.said(C, service.States)
    assert "was deleted" in answer.streams[0].states[0].reason


def test_an_endpoint_that_is_not_there_after_a_restart_is_named() -> None:
    before = Stage()
    before.attach(C)
    gone = "5a4e0000-0000-4000-8000-00000000000f"
    before.tell(ev.EndpointKnown(gone, "old"))
    before.submit(C, 1, info(endpoint=gone))
    after = Stage(before.store)
    after.attach(C)
    after.fetch(C, [0])
    (answer,) = after.said(C, service.States)
    assert f"fxhpc task cancel --endpoint {gone}" in answer.streams[0].states[0].reason


def test_a_store_that_takes_nothing_is_the_cause(stage: Stage) -> None:
    stage.submit(C, 2)
    stage.up(tasks=1)
    stage.store.refuse_next = 1
    stage.finish([0])
    stage.fetch(C, [1])
    (answer,) = stage.said(C, service.States)
    state = answer.streams[0].states[0]
    assert state.status == states.WAITING_FOR_ENDPOINT
    assert "the disk is full" in state.reason


def test_durations_that_no_block_lasts_are_refused(stage: Stage) -> None:
    def submit(seconds: float, stream: bytes) -> list[service.Failed]:
        stage.clear()
        declared = msg.StreamInfo(stream, ENDPOINT, b"f" * 32, walltime_s=seconds)
        stage.submit(C, 1, declared)
        return stage.said(C, service.Failed)

    assert not submit(1e6, b"stream-a----")  # nobody knows how long its blocks are
    stage.tell(ev.EndpointTold(KEY, "away", longest_s=3600.0))
    assert not submit(3600.0, b"stream-b----")
    (refused,) = submit(3601.0, b"stream-c----")
    assert (refused.error, refused.arguments) == ("WalltimeTooLong", [ENDPOINT, "3601.0", "3600.0"])
    stage.up()
    report = msg.EndpointReport(details={"walltime_s": 7200.0})
    stage.interchange(msg.Status(1, 1, 1, 0, 0, report=report))
    assert not submit(7200.0, b"stream-d----")
    assert submit(7201.0, b"stream-e----")


def test_what_was_declared_too_long_before_that_was_known_is_told_so(stage: Stage) -> None:
    """Whatever else the endpoint waits for: these would wait for ever, and others do not."""
    stage.submit(C, 1, msg.StreamInfo(STREAM, ENDPOINT, b"f" * 32, walltime_s=7200.0))
    stage.submit(C, 1, info(b"another-----"), call=2)
    assert "declared" not in status_of(stage, 0)[1]
    words = r"declared to take up to 2 h.* would never start at endpoint .*, whose blocks last 1 h"
    stage.tell(ev.EndpointTold(KEY, "endpoint midway is stopped", longest_s=3600.0))
    status, reason = status_of(stage, 0)
    assert status == states.WAITING_FOR_ENDPOINT
    assert re.search(words, reason)
    stage.up()
    report = msg.EndpointReport(details={"walltime_s": 3600.0})
    stage.interchange(msg.Status(1, 2, 2, 0, 0, report=report))
    status, reason = status_of(stage, 0)
    assert status == states.WAITING_FOR_NODES
    assert re.search(words, reason)
    assert "fxhpc endpoint restart" in reason
    stage.client(C, service.ListTasks(9))
    (listed,) = stage.said(C, service.TaskList)
    reasons = {one.stream: one.reason for one in listed.streams}
    assert reasons[STREAM] == reason
    assert "on its way to a worker" in reasons[b"another-----"]
    report = msg.EndpointReport(details={"walltime_s": 7200.0})
    stage.interchange(msg.Status(1, 2, 2, 0, 0, report=report))
    assert "declared" not in status_of(stage, 0)[1]


def status_of(stage: Stage, index: int) -> tuple[str, str]:
    stage.clear()
    stage.fetch(C, [index])
    (answer,) = stage.said(C, service.States)
    state = answer.streams[0].states[0]
    return state.status, state.reason


def test_what_was_cut_off_by_a_stop_waits_like_the_rest_and_can_be_cancelled(stage: Stage) -> None:
    stage.submit(C, 3)
    stage.up()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 2])]))
    stage.tell(
        ev.InterchangeGone(KEY, nothing_runs=True),
        ev.EndpointTold(KEY, "endpoint midway is stopped"),
    )
    assert status_of(stage, 0) == (states.WAITING_FOR_ENDPOINT, "endpoint midway is stopped")
    stage.cancel(C, 0)
    assert stage.cancelled(C) == [0]
    stage.up(held=[1, 2])
    assert status_of(stage, 1)[0] != states.WAITING_FOR_ENDPOINT


@pytest.mark.parametrize("retries", [0, 2])
def test_nothing_is_said_to_run_at_an_endpoint_that_is_away(stage: Stage, retries: int) -> None:
    stage.submit(C, 3, info(retries=retries))
    stage.up()
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 2])]))
    assert status_of(stage, 0) == (states.RUNNING, "")
    stage.tell(ev.InterchangeGone(KEY), ev.EndpointTold(KEY, "endpoint midway is stopped"))
    status, reason = status_of(stage, 0)
    assert status == states.WAITING_FOR_ENDPOINT
    assert reason.startswith("endpoint midway is stopped; this task was running")
    assert ("it runs again" in reason) == bool(retries)
    assert ("it is lost" in reason) == (not retries)
    assert status_of(stage, 2) == (states.WAITING_FOR_ENDPOINT, "endpoint midway is stopped")
    stage.client(C, service.ListTasks(9, each=True))
    (listed,) = stage.said(C, service.TaskList)
    assert listed.streams[0].counts == {states.WAITING_FOR_ENDPOINT: 3}
    assert {task.status for task in listed.tasks} == {states.WAITING_FOR_ENDPOINT}
    # The next one holds them; they run when it says so.
    stage.up(held=[0, 1, 2])
    assert status_of(stage, 0)[0] == states.WAITING_FOR_NODES
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [1, 1])]))
    assert status_of(stage, 0)[0] == states.WAITING_FOR_NODES
    assert status_of(stage, 1)[0] == states.RUNNING
    assert not [index for index in stage.sent() if index < 3]


def test_what_waits_is_counted_once_after_an_interchange_came_back(stage: Stage) -> None:
    stage.submit(C, 5)
    stage.up(tasks=2)
    stage.tell(ev.InterchangeGone(KEY))
    stage.up(held=[0, 1, 2, 3])
    stage.interchange(msg.Status(1, 1, 0, 3, 1))
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    assert "; 4 tasks wait there in turn" in status_of(stage, 4)[1]


def test_lists_have_endpoints_looked_for(stage: Stage) -> None:
    assert stage.core.awaited(service.ListTasks(9)) == set()
    stage.submit(C, 1)
    assert stage.core.awaited(service.ListTasks(9)) == {ENDPOINT}
    assert stage.core.awaited(service.ListTasks(9, endpoint=LOCAL_ENDPOINT)) == set()


def test_what_is_cancelled_while_nobody_can_be_asked_ends_here(stage: Stage) -> None:
    stage.submit(C, 3)
    stage.up()
    assert stage.sent() == [0, 1, 2]
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [2, 1])]))
    stage.tell(ev.InterchangeGone(KEY))
    stage.cancel(C, 0, 1, 2)
    stage.tick(RETURN_S)
    assert stage.cancelled(C) == [0, 1]
    stage.cancel(C, 2, interrupt=True)
    assert stage.cancelled(C) == [2]
    stage.clear()
    stage.up(held=[0, 2])
    (forget,) = stage.down(msg.Cancel)
    assert forget.forget
    assert [ref.ranges for ref in forget.tasks] == [[0, 1, 2, 1]]
    assert not stage.sent()


def test_after_a_restart_what_may_run_is_not_said_to_wait_for_nodes() -> None:
    before = Stage()
    before.attach(C)
    before.up(tasks=1)
    before.submit(C, 2)
    before.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    stage = Stage(before.store)
    stage.tick(0.1)
    stage.attach(C)
    _, reason = status_of(stage, 0)
    assert "it may have been sent before the forwarder" in reason
    assert "not known yet whether it runs: waiting to hear from its endpoint (endpoint" in reason
    stage.up(held=[0])
    stage.interchange(msg.Status(0, 0, 0, 0, 0, "no manager has registered yet"))
    _, reason = status_of(stage, 0)
    assert "not known yet whether it runs: waiting to hear from the managers of" in reason
    assert "registered" not in reason
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    assert status_of(stage, 0) == (states.RUNNING, "")
    stage.tick(SETTLED_S)
    assert status_of(stage, 1)[1] == "no manager has registered yet"


def test_after_a_restart_of_the_interchange_what_it_was_sent_may_run(stage: Stage) -> None:
    stage.submit(C, 2)
    stage.up(tasks=1)
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
    stage.tell(ev.InterchangeGone(KEY), ev.InterchangeUp(KEY))
    stage.interchange(msg.Present(ENDPOINT, 2, "1"))
    stage.interchange(msg.Status(1, 2, 2, 0, 0))
    assert status_of(stage, 0)[1].startswith("it has been sent, and it is not known yet whether")
    assert "on its way" in status_of(stage, 1)[1]
    stage.tick(SETTLED_S)
    assert "on its way" in status_of(stage, 0)[1]


def test_of_a_local_that_is_gone_everybody_is_told_so() -> None:
    before = Stage()
    before.attach(C)
    before.submit(C, 1, info(endpoint=LOCAL_ENDPOINT))
    stage = Stage(before.store)
    stage.attach(b"d")
    stage.client(b"d", service.Fetch(7, [service.StreamRanges(STREAM, [0, 1])], adopt=False))
    (answer,) = stage.said(b"d", service.States)
    assert "`local` endpoint it was submitted to has ended" in answer.streams[0].states[0].reason
