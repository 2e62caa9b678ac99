"""Who gets which tasks: credit, turns, give-backs, bodies, windows."""

from __future__ import annotations

import pytest

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.versions import PROTOCOL
from tests.unit.interchange.acting import DIGEST, MANY, OTHER, STREAM, Stage, attempts

A, B = b"a", b"b"


def test_a_manager_gets_as_many_tasks_as_it_wants() -> None:
    stage = Stage()
    stage.submit(10)
    stage.register(A, tasks=3)
    assert stage.sent(A) == [(STREAM, 0), (STREAM, 1), (STREAM, 2)]
    stage.take()
    stage.finish(A, [0, 1])
    assert stage.sent(A) == [(STREAM, 3), (STREAM, 4)]


def test_what_is_held_ahead_is_filled_up_by_several_at_a_time() -> None:
    stage = Stage()
    stage.submit(100)
    stage.register(A, tasks=12, slots=2)
    held = [index for _, index in stage.sent(A)]
    stage.take()
    messages = 0
    for number in range(50):
        stage.finish(A, [held.pop(0)], number=number)
        messages += len(stage.to(A, msg.Tasks))
        held += [index for _, index in stage.sent(A)]
        stage.take()
        assert len(held) >= 6  # each worker has one to go on with
    assert messages == 10


def test_a_manager_gets_as_many_bytes_as_it_wants_and_one_task_in_any_case() -> None:
    stage = Stage()
    stage.submit(10, size=100)
    stage.register(A, tasks=10, size=250)
    assert len(stage.sent(A)) == 3  # the one that passes the limit is the last
    stage.register(B, tasks=10, size=10)
    assert len(stage.sent(B)) == 1


def test_what_must_not_run_twice_waits_here_and_not_at_a_manager() -> None:
    """What a lost manager held may have run: tasks that are not to run twice are lost with it."""
    stage = Stage()
    stage.register(A, tasks=100)
    stage.submit(20, retries=0)
    assert stage.sent(A) == [(STREAM, 0), (STREAM, 1)]
    stage.clock.advance(1.0)
    stage.finish(A, [0])
    assert stage.sent(A)[2:] == [(STREAM, 2)]
    stage.tell(ev.ManagerGone(A, "its connection was closed"))
    assert stage.losses().keys() == {1, 2}
    stage.register(B, tasks=100)
    assert stage.sent(B) == [(STREAM, 3), (STREAM, 4)]


def test_short_tasks_that_must_not_run_twice_do_not_wait_for_each_others_results() -> None:
    stage = Stage()
    stage.register(A, tasks=100)
    stage.submit(1000, retries=0)
    sizes = []
    while held := [index for _, index in stage.sent(A)]:
        sizes.append(len(held))
        stage.take()
        stage.clock.advance(0.001)
        stage.finish(A, held)
    assert sizes[0] == 2
    assert max(sizes) == 100  # all that it wants
    assert len(sizes) < 30
    stage.clock.advance(10.0)
    stage.submit(100, first=1000, retries=0)
    assert len(stage.sent(A)) == 2  # that many ended at once is long ago


def test_what_is_sent_is_written_down_before() -> None:
    stage = Stage()
    stage.submit(2)
    stage.register(A)
    kinds = [
        type(action)
        for action in stage.take()
        if isinstance(action, ev.Sent)
        or (isinstance(action, ev.ToManager) and isinstance(action.message, msg.Tasks))
    ]
    assert kinds == [ev.Sent, ev.ToManager]


def test_managers_share_what_there_is() -> None:
    stage = Stage()
    stage.register(A, tasks=100)
    stage.register(B, tasks=100)
    stage.submit(10)
    assert (len(stage.sent(A)), len(stage.sent(B))) == (5, 5)


def test_a_lone_task_behind_very_many_goes_out_next() -> None:
    stage = Stage()
    stage.submit(100_000)
    stage.register(A, tasks=8)
    stage.submit(1, stream=OTHER)
    stage.take()
    for number in range(8):
        stage.finish(A, [number], number=number)
    assert (OTHER, 0) in stage.sent(A)


def test_what_others_have_not_begun_is_asked_back_for_idle_workers() -> None:
    stage = Stage()
    stage.register(A, tasks=8)
    stage.submit(8)
    stage.take()
    stage.register(B, tasks=8)
    (give_back,) = stage.to(A, msg.GiveBack)
    assert give_back.count > 0
    stage.manager(A, msg.Returned([msg.TaskRefs(STREAM, [6, 2], 1, 1)]))
    assert stage.sent(B) == [(STREAM, 6), (STREAM, 7)]


def test_what_is_returned_without_being_asked_for_goes_out_again_together() -> None:
    stage = Stage()
    stage.register(A, tasks=100)
    stage.submit(20)
    stage.take()
    stage.manager(A, msg.Capacity(2, MANY, 2))
    stage.manager(A, msg.Returned([msg.TaskRefs(STREAM, [2, 18], 1, 1)]))
    assert not stage.to(A, msg.Tasks)
    stage.register(B, tasks=100)
    (tasks,) = stage.to(B, msg.Tasks)
    assert len(tasks.runs) == 2  # the workers' first ones, and what they get ahead
    assert attempts(tasks) == [(index, 2) for index in range(2, 20)]


@pytest.mark.parametrize("retries", [0, 2])
def test_what_is_returned_was_not_begun_and_is_not_lost(retries: int) -> None:
    """Not with the manager that had it either, though it must not run twice."""
    stage = Stage()
    stage.register(A, tasks=8)
    stage.submit(2, retries=retries)
    stage.take()
    stage.manager(A, msg.Capacity(1, MANY, 1))
    stage.manager(A, msg.Returned([msg.TaskRefs(STREAM, [1, 1], 1, 1)]))
    stage.tell(ev.ManagerGone(A, "its connection was closed"))
    stage.register(B, tasks=8)
    assert (STREAM, 1) in stage.sent(B)
    assert (0 in stage.losses()) is (retries == 0)
    assert 1 not in stage.losses()


def test_what_is_returned_is_of_the_attempt_that_it_names() -> None:
    stage = Stage()
    stage.register(A, tasks=2)
    stage.submit(2)
    stage.take()
    stage.manager(A, msg.Returned([msg.TaskRefs(STREAM, [0, 1], 1, 7)]))
    assert not stage.sent(A)


def test_a_function_goes_along_with_the_first_task_that_needs_it() -> None:
    stage = Stage()
    stage.forwarder(msg.Body(DIGEST, b"body"))
    stage.register(A, tasks=1)
    stage.submit(3)
    assert stage.to(A, msg.Body) == [msg.Body(DIGEST, b"body")]
    stage.take()
    stage.finish(A, [0])
    assert not stage.to(A, msg.Body)


def test_a_body_that_is_not_here_is_asked_for_once_and_goes_to_all_who_want_it() -> None:
    stage = Stage()
    stage.register(A)
    stage.register(B)
    stage.manager(A, msg.NeedBody([DIGEST]))
    stage.manager(B, msg.NeedBody([DIGEST]))
    assert stage.up(msg.NeedBody) == [msg.NeedBody([DIGEST])]
    stage.forwarder(msg.Body(DIGEST, b"body"))
    assert stage.to(A, msg.Body)
    assert stage.to(B, msg.Body)


def test_that_nobody_has_a_body_is_said_to_who_wants_it() -> None:
    stage = Stage()
    stage.register(A)
    stage.register(B)
    stage.manager(A, msg.NeedBody([DIGEST]))
    stage.forwarder(msg.NoBody([DIGEST]))
    assert stage.to(A, msg.NoBody) == [msg.NoBody([DIGEST])]
    assert not stage.to(B, msg.NoBody)


def test_the_window_grows_with_the_managers() -> None:
    stage = Stage()
    stage.forwarder(msg.Hello(1, "1"))
    stage.register(A, tasks=1000, size=1000)
    windows = stage.up(msg.Window)
    assert windows[-1].tasks > windows[0].tasks + 1000


def test_why_nothing_runs_is_said() -> None:
    stage = Stage()
    stage.forwarder(msg.Hello(1, "1"))
    assert "no manager" in stage.up(msg.Status)[-1].reason
    stage.register(A)
    assert stage.up(msg.Status)[-1].reason == ""


@pytest.mark.parametrize("protocol", [0, 99])
def test_another_protocol_is_refused_and_both_versions_are_named(protocol: int) -> None:
    stage = Stage()
    stage.manager(
        A, msg.Register("m", b"", 1, "7.7", protocol=protocol, oldest_protocol=protocol, host="n1")
    )
    (refuse,) = stage.to(A, msg.Refuse)
    assert "7.7" in refuse.reason
    assert "0.1.0" in refuse.reason
    assert "n1" in refuse.reason
    stage.submit(1)
    assert not stage.sent(A)


def test_with_a_manager_of_the_next_version_its_older_protocol_is_spoken() -> None:
    stage = Stage()
    newer = msg.Register("m", b"", 1, "7.7", protocol=PROTOCOL + 1, oldest_protocol=PROTOCOL)
    stage.manager(A, newer)
    assert not stage.to(A, msg.Refuse)
    assert [one.protocol for one in stage.to(A, msg.Welcome)] == [PROTOCOL]


def test_a_stranger_is_told_to_greet() -> None:
    stage = Stage()
    stage.manager(A, msg.Heartbeat())
    assert stage.to(A, msg.Reset)


def test_a_manager_that_is_silent_for_three_heartbeats_is_given_up() -> None:
    stage = Stage()
    stage.register(A)
    stage.tick(14.0)
    assert stage.to(A, msg.Heartbeat)
    stage.take()
    stage.tick(1.5)
    assert ev.CloseManager(A) in stage.take()
    stage.register(A, size=MANY)
    stage.tick(14.0)
    stage.manager(A, msg.Heartbeat())
    stage.take()
    stage.tick(5.0)
    assert ev.CloseManager(A) not in stage.take()


def test_a_body_that_was_asked_for_while_nobody_listened_is_asked_for_again() -> None:
    stage = Stage()
    stage.submit(1)
    stage.register(A)
    stage.take()
    stage.tell(ev.ForwarderGone())
    stage.manager(A, msg.NeedBody([DIGEST]))
    stage.take()
    stage.forwarder(msg.Hello(1, "1"))
    (need,) = stage.up(msg.NeedBody)
    assert need.digests == [DIGEST]
    # A manager that is gone wants nothing any more.
    stage.tell(ev.ManagerGone(A, "its node is gone"))
    stage.take()
    stage.forwarder(msg.Hello(2, "1"))
    assert not stage.up(msg.NeedBody)
