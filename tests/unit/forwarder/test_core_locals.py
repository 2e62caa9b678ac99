"""`local` endpoints live with their client's process; what they leave waits to be asked for."""

from __future__ import annotations

from fxhpc.forwarder import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from tests.unit.forwarder.acting import LOCAL_ENDPOINT, STREAM, Stage, info

C, D = b"c", b"d"
LOCAL_C, LOCAL_D = b"local:c", b"local:d"


def at_work(*, retries: int = 2, keep: bool = True) -> Stage:
    """Client c has submitted four tasks to its `local`; two are at its interchange."""
    stage = Stage()
    stage.attach(C)
    stage.up(tasks=2, key=LOCAL_C)
    stage.submit(C, 4, info(endpoint=LOCAL_ENDPOINT, retries=retries, keep=keep))
    assert stage.sent(LOCAL_C) == [0, 1]
    stage.clear()
    return stage


def gone(stage: Stage) -> None:
    """Client c's process ends, and its `local` with it."""
    stage.tell(ev.ClientGone(C))
    assert ev.CloseLocal(LOCAL_C) in stage.actions
    stage.tell(ev.LocalClosed(LOCAL_C))
    stage.clear()


def test_each_client_gets_an_interchange_of_its_own() -> None:
    stage = Stage()
    stage.attach(C)
    stage.attach(D)
    opened = [action for action in stage.actions if isinstance(action, ev.OpenLocal)]
    assert opened == [ev.OpenLocal(LOCAL_C), ev.OpenLocal(LOCAL_D)]


def test_what_it_leaves_behind_is_counted_and_waits() -> None:
    stage = at_work()
    gone(stage)
    stage.attach(D)
    (attached,) = stage.said(D, service.Attached)
    assert attached.older == 4
    stage.up(key=LOCAL_D)
    assert not stage.sent(LOCAL_D)


def test_who_asks_for_a_task_runs_it() -> None:
    stage = at_work()
    gone(stage)
    stage.attach(D)
    stage.up(key=LOCAL_D)
    stage.fetch(D, [1, 3], wait_s=60.0)
    assert sorted(stage.sent(LOCAL_D)) == [1, 3]
    assert stage.said(D, service.NeedLocal)
    stage.finish([1, 3], key=LOCAL_D)
    assert stage.statuses(D) == {1: states.SUCCESS, 3: states.SUCCESS}


def test_resume_runs_all_of_it() -> None:
    stage = at_work()
    gone(stage)
    stage.attach(D)
    stage.up(key=LOCAL_D)
    stage.client(D, service.Resume(5))
    assert sorted(stage.sent(LOCAL_D)) == [0, 1, 2, 3]
    assert service.Done(5) in stage.said(D, service.Done)


def test_who_asks_while_the_other_is_closing_waits_until_it_has_closed() -> None:
    stage = at_work()
    stage.attach(D)
    stage.up(key=LOCAL_D)
    stage.tell(ev.ClientGone(C))
    stage.fetch(D, [0], wait_s=60.0)
    assert not stage.sent(LOCAL_D)
    stage.tell(ev.LocalClosed(LOCAL_C))
    assert stage.sent(LOCAL_D) == [0]


def test_nobody_takes_the_work_of_a_local_that_lives() -> None:
    stage = at_work()
    stage.attach(D)
    stage.up(key=LOCAL_D)
    stage.fetch(D, [0], wait_s=60.0)
    stage.client(D, service.Resume(5))
    assert not stage.sent(LOCAL_D)


def test_without_retries_what_was_sent_is_lost_and_the_rest_waits() -> None:
    stage = at_work(retries=0)
    gone(stage)
    stage.attach(D)
    stage.up(key=LOCAL_D)
    stage.fetch(D, [0, 1, 2, 3], wait_s=60.0)
    assert sorted(stage.sent(LOCAL_D)) == [2, 3]
    stage.finish([2, 3], key=LOCAL_D)
    assert stage.statuses(D) == {
        0: states.FAILED,
        1: states.FAILED,
        2: states.SUCCESS,
        3: states.SUCCESS,
    }


def test_without_retries_what_was_sent_is_lost_after_a_restart_too() -> None:
    after = Stage(at_work(retries=0).store)
    after.attach(D)
    after.up(key=LOCAL_D)
    after.fetch(D, [0, 1, 2, 3], wait_s=60.0)
    assert sorted(after.sent(LOCAL_D)) == [2, 3]


def test_without_retries_what_was_sent_before_a_restart_is_lost_with_its_client() -> None:
    """Also what waits to be sent again, since the interchange asks for less at first."""
    after = Stage(at_work(retries=0).store)
    after.tell(ev.LocalExpected(LOCAL_C))
    after.up(tasks=1, key=LOCAL_C)
    assert after.sent(LOCAL_C) == [0]
    after.tell(ev.LocalGone(LOCAL_C), ev.LocalClosed(LOCAL_C))
    after.attach(D)
    after.up(key=LOCAL_D)
    after.fetch(D, [0, 1, 2, 3], wait_s=60.0)
    assert sorted(after.sent(LOCAL_D)) == [2, 3]


def test_a_client_that_closes_and_attaches_again_goes_on() -> None:
    stage = at_work()
    stage.tell(ev.ClientGone(C))
    stage.attach(b"c2", name=b"another client", local=LOCAL_C)
    stage.submit(b"c2", 1, info(endpoint=LOCAL_ENDPOINT), first=4, call=2)
    stage.clear()
    stage.tell(ev.LocalClosed(LOCAL_C))
    assert ev.OpenLocal(LOCAL_C) in stage.actions
    stage.up(key=LOCAL_C)
    assert sorted(stage.sent(LOCAL_C)) == [0, 1, 2, 3, 4]


def test_a_client_that_outlives_its_forwarder_goes_on() -> None:
    after = Stage(at_work().store)
    after.tell(ev.LocalExpected(LOCAL_C))
    after.up(key=LOCAL_C, held=[1])
    assert sorted(after.sent(LOCAL_C)) == [0, 2, 3]
    after.attach(C)
    assert not after.core.is_idle
    after.tick(1.0)
    assert after.store.streams() == {STREAM}


def test_a_client_that_dies_before_it_attaches_again_leaves_its_work_behind() -> None:
    after = Stage(at_work().store)
    after.tell(ev.LocalExpected(LOCAL_C))
    after.tell(ev.LocalGone(LOCAL_C), ev.LocalClosed(LOCAL_C))
    assert after.core.is_idle
    after.attach(D)
    assert after.said(D, service.Attached)[0].older == 4


def test_what_is_not_kept_ends_with_its_local() -> None:
    stage = at_work(keep=False)
    gone(stage)
    assert not stage.store.streams()
    stage.attach(D)
    assert stage.said(D, service.Attached)[0].older == 0


def test_its_status_is_its_own() -> None:
    stage = at_work()
    stage.interchange(msg.Status(1, 2, 0, 2, 2), LOCAL_C)
    stage.client(C, service.GetStatus(6, LOCAL_ENDPOINT))
    (status,) = stage.said(C, service.EndpointStatus)
    assert (status.online, status.workers, status.running, status.pending) == (True, 2, 2, 2)
