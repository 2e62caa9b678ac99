"""What is known after a restart, of managers that come back, and of a forwarder that was away."""

from __future__ import annotations

import pytest

from fxhpc.interchange import events as ev
from fxhpc.interchange.held import each
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause
from tests.unit.interchange.acting import STREAM, Stage

A, B = b"a", b"b"
HELD = msg.TaskRefs(STREAM, [0, 2], 1, 1)


def restarted(*records: ev.Sent, managers: tuple[str, ...] = ("m",)) -> Stage:
    """An interchange that has read its journal: manager m was sent tasks 0 and 1."""
    stage = Stage(epoch=2, greet=False)
    sent = list(records) or [ev.Sent("m", [HELD])]
    stage.tell(ev.Recovered(list(managers), sent))
    stage.forwarder(msg.Hello(1, "1"))
    stage.take()
    return stage


@pytest.mark.parametrize("running", [True, False])
def test_what_a_manager_still_has_is_not_sent_again(running: bool) -> None:
    stage = restarted()
    stage.submit(4, sent_before=True)
    held = {"running": [HELD]} if running else {"queued": [HELD]}
    stage.register(A, name="m", tasks=10, **held)
    assert stage.sent(A) == [(STREAM, 2), (STREAM, 3)]
    stage.take()
    stage.finish(A, [0, 1])
    assert stage.outcomes().keys() == {0, 1}


@pytest.mark.parametrize("running", [True, False])
def test_the_manager_may_come_back_before_the_forwarder_sends_again(running: bool) -> None:
    stage = restarted()
    held = {"running": [HELD]} if running else {"queued": [HELD]}
    stage.register(A, name="m", tasks=10, **held)
    stage.submit(4, sent_before=True)
    assert stage.sent(A) == [(STREAM, 2), (STREAM, 3)]


@pytest.mark.parametrize("first", ["manager", "forwarder"])
def test_the_forwarder_is_told_what_runs_on(first: str) -> None:
    stage = restarted()
    if first == "manager":
        stage.register(A, name="m", running=[HELD])
        stage.submit(2, sent_before=True)
    else:
        stage.submit(2, sent_before=True)
        stage.register(A, name="m", running=[HELD])
    told = {index for started in stage.up(msg.Started) for _, index in each(started.tasks)}
    assert told == {0, 1}
    # One that comes back knows nothing of it.
    stage.take()
    stage.tell(ev.ForwarderGone())
    stage.forwarder(msg.Hello(1, "1"))
    (started,) = stage.up(msg.Started)
    assert {index for _, index in each(started.tasks)} == {0, 1}
    said = [type(message) for message in stage.up(object)]
    assert said.index(msg.Present) < said.index(msg.Started)


def test_a_claim_outlives_another_greeting() -> None:
    stage = restarted()
    stage.register(A, name="m", running=[HELD])
    stage.take()
    stage.register(B, name="m", running=[HELD])
    (welcome,) = stage.to(B, msg.Welcome)
    assert not welcome.drop
    stage.submit(2, sent_before=True)
    assert not stage.sent(B)


def test_what_was_claimed_and_lost_is_tried_again_when_it_comes() -> None:
    stage = restarted()
    stage.register(A, name="m", tasks=10, running=[HELD])
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    assert not stage.sent(A)
    stage.submit(2, sent_before=True)
    assert stage.sent(A) == [(STREAM, 0)]


def test_a_loss_of_an_attempt_before_the_claimed_one_means_nothing() -> None:
    stage = restarted()
    later = msg.TaskRefs(STREAM, [0, 1], 1, 2)
    stage.register(A, name="m", tasks=10, running=[later, HELD])
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    stage.submit(2, sent_before=True)
    assert not stage.sent(A)
    stage.lose(A, 0, LossCause.WORKER_KILLED, 2)
    assert stage.sent(A) == [(STREAM, 0)]


def test_what_was_claimed_and_lost_without_retries_is_lost() -> None:
    stage = restarted()
    stage.register(A, name="m", tasks=10, running=[HELD])
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    stage.submit(2, sent_before=True, retries=0)
    assert not stage.sent(A)
    assert stage.losses().keys() == {0}


def test_what_was_claimed_and_returned_runs_elsewhere() -> None:
    stage = restarted()
    stage.register(A, name="m", tasks=10, queued=[HELD])
    stage.manager(A, msg.Returned([HELD]))
    stage.submit(2, sent_before=True)
    assert stage.sent(A) == [(STREAM, 0), (STREAM, 1)]


def test_claims_of_a_manager_that_dies_are_lost_with_it() -> None:
    stage = restarted()
    stage.register(A, name="m", running=[HELD])
    stage.tell(ev.ManagerGone(A, "its node is gone"))
    stage.submit(2, sent_before=True, retries=0)
    assert stage.losses().keys() == {0, 1}


def test_outcomes_that_a_manager_still_has_are_waited_for() -> None:
    stage = restarted()
    stage.register(A, name="m", tasks=10, unstored=[5])
    stage.submit(2, sent_before=True)
    assert not stage.sent(A)
    stage.finish(A, [0], number=5)
    assert stage.outcomes().keys() == {0}
    assert stage.sent(A) == [(STREAM, 1)]


def test_outcomes_that_come_before_the_forwarder_sends_again_count() -> None:
    stage = restarted()
    stage.register(A, name="m", tasks=10, unstored=[5])
    stage.finish(A, [0, 1], number=5)
    stage.submit(2, sent_before=True)
    assert not stage.sent(A)


def test_a_manager_that_does_not_come_back_is_waited_for_so_long() -> None:
    stage = restarted()
    stage.register(B, tasks=10)
    stage.submit(3, sent_before=True)
    assert stage.sent(B) == [(STREAM, 2)]
    stage.take()
    for _ in range(3):
        assert not stage.sent(B)
        stage.tick(10.5)
        stage.manager(B, msg.Heartbeat())
    assert stage.sent(B) == [(STREAM, 0)]  # suspects, one after the other
    assert ev.ManagerKnown("m", False) in stage.take()


def test_what_nobody_claims_in_time_is_lost_without_retries() -> None:
    stage = restarted()
    stage.submit(1, sent_before=True, retries=0)
    stage.tick(31.0)
    stage.submit(1, first=1, sent_before=True, retries=0)
    assert stage.losses().keys() == {0, 1}


def test_what_was_lost_before_never_runs_again_without_retries() -> None:
    stage = restarted(ev.Sent("m", [HELD]), ev.Sent("", [HELD]), managers=())
    stage.register(A)
    stage.submit(2, sent_before=True, retries=0)
    assert not stage.sent(A)
    assert stage.losses().keys() == {0, 1}


def test_only_the_last_one_that_was_sent_a_task_may_claim_it() -> None:
    other = ev.Sent("n", [msg.TaskRefs(STREAM, [0, 2], 1, 2)])
    stage = restarted(ev.Sent("m", [HELD]), other, managers=("m", "n"))
    stage.register(A, name="m", running=[HELD])
    (welcome,) = stage.to(A, msg.Welcome)
    assert [ref.ranges for ref in welcome.drop] == [[0, 1], [1, 1]]


def test_a_manager_that_was_given_up_is_told_to_drop_what_it_holds() -> None:
    stage = Stage()
    stage.register(A, tasks=2)
    stage.submit(2)
    stage.tick(16.0)
    stage.take()
    stage.register(A, running=[HELD])
    (welcome,) = stage.to(A, msg.Welcome)
    assert sorted(index for ref in welcome.drop for index in ref.ranges[::2]) == [0, 1]


def test_what_never_arrived_is_sent_again() -> None:
    stage = Stage()
    stage.register(A, tasks=2)
    stage.submit(2)
    stage.take()
    stage.register(A, tasks=2, queued=[msg.TaskRefs(STREAM, [0, 1], 1, 1)])
    assert stage.sent(A) == [(STREAM, 1)]


def test_the_forwarder_is_told_what_is_here_and_what_has_ended() -> None:
    stage = Stage()
    stage.register(A, tasks=2)
    stage.submit(4)
    stage.finish(A, [0])
    stage.take()
    stage.forwarder(msg.Hello(1, "1"))
    kinds = [
        type(action.message)
        for action in stage.actions
        if isinstance(action, ev.ToForwarder)
        and isinstance(action.message, msg.Results | msg.Present)
    ]
    assert kinds == [msg.Results, msg.Present]
    (present,) = stage.up(msg.Present)
    held = {i for ref in present.held for i in range(ref.ranges[0], sum(ref.ranges[:2]))}
    assert held == {1, 2, 3}


def test_outcomes_are_kept_until_they_are_stored() -> None:
    stage = Stage()
    stage.register(A, tasks=2)
    stage.submit(1)
    stage.finish(A, [0], number=9)
    assert not stage.to(A, msg.ResultsStored)
    number = stage.up(msg.Results)[0].number
    stage.forwarder(msg.ResultsStored([number]))
    assert stage.to(A, msg.ResultsStored) == [msg.ResultsStored([9])]
    assert stage.core.is_idle


def test_numbers_of_different_lives_are_different() -> None:
    numbers = set()
    for epoch in (1, 2, 3):
        stage = Stage(epoch=epoch)
        stage.submit(1)
        stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, [0, 1])]))
        numbers.add(stage.up(msg.Results)[0].number)
    assert len(numbers) == 3


def test_the_journal_is_kept_while_managers_are_expected() -> None:
    stage = restarted()
    assert not stage.core.is_idle
    stage.register(A, name="m")
    assert stage.core.is_idle


def incomplete(*managers: str) -> Stage:
    """An interchange whose journal misses what a full disk did not take."""
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(list(managers), [], incomplete=True))
    stage.forwarder(msg.Hello(1, "1"))
    stage.take()
    return stage


@pytest.mark.parametrize("managers", [("m",), ()])
def test_without_a_whole_journal_all_wait_until_managers_are_back(
    managers: tuple[str, ...],
) -> None:
    stage = incomplete(*managers)
    stage.submit(4, sent_before=True)
    stage.register(B, name="other", tasks=10)
    assert not stage.sent(B)
    stage.register(A, name="m", tasks=10, running=[HELD])
    assert not stage.sent(A)
    stage.finish(A, [0, 1])
    assert stage.outcomes().keys() == {0, 1}
    stage.tick(6.0)
    assert sorted(stage.sent(A) + stage.sent(B)) == [(STREAM, 2), (STREAM, 3)]


def test_without_a_whole_journal_new_tasks_do_not_wait() -> None:
    stage = incomplete("m")
    stage.register(A, name="other", tasks=10)
    stage.submit(2)
    assert stage.sent(A) == [(STREAM, 0), (STREAM, 1)]


@pytest.mark.parametrize("retries", [0, 2])
def test_without_a_whole_journal_and_managers_all_is_lost_or_tried_again(retries: int) -> None:
    stage = incomplete()
    stage.submit(1, sent_before=True, retries=retries)
    stage.tick(31.0)
    assert bool(stage.losses()) == (retries == 0)
    stage.take()
    stage.register(A, name="new", tasks=10)
    assert bool(stage.sent(A)) == (retries != 0)
