"""What is known after a restart, of managers that come back, and of a forwarder that was away."""

from __future__ import annotations

import pytest

from fxhpc.interchange import events as ev
from fxhpc.interchange.held import each
from fxhpc.interchange.recovering import RETURN_S, SETTLED_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind
from fxhpc.protocol.provision import ScalingPolicy
from tests.unit.interchange.acting import STREAM, Stage
from tests.unit.interchange.batch_system import Site

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


def test_what_was_claimed_and_lost_is_known_to_the_next_process_too() -> None:
    stage = restarted()
    stage.register(A, name="m", tasks=10, running=[HELD])
    stage.take()
    stage.lose(A, 1, LossCause.WORKER_KILLED, 1)
    written = [action for action in stage.take() if isinstance(action, ev.Sent)]
    assert written == [ev.Sent("", [msg.TaskRefs(STREAM, [1, 1], 1, 1)])]
    again = restarted(ev.Sent("m", [HELD]), *written)
    again.register(A, name="m", tasks=10, running=[msg.TaskRefs(STREAM, [0, 1], 1, 1)])
    again.submit(2, sent_before=True, retries=0)
    assert not again.sent(A)
    assert again.losses().keys() == {1}


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


def test_all_interchanges_together_wait_only_so_long() -> None:
    stage = Stage(epoch=3, greet=False)
    away = {"m": RETURN_S - 12.0, "n": 2 * RETURN_S}
    stage.tell(ev.Recovered(["m", "n"], [ev.Sent("m", [HELD])], away=away))
    stage.forwarder(msg.Hello(1, "1"))
    stage.submit(2, sent_before=True)
    stage.register(A)
    stage.tick(SETTLED_S - 0.1)
    assert stage.core._recovering.expected.keys() == {"m", "n"}  # one that lives takes as long
    stage.tick(1.0)
    assert stage.core._recovering.expected.keys() == {"m"}
    assert not stage.sent(A)
    stage.tick(12.0 - SETTLED_S)
    assert len(stage.sent(A)) == 1  # suspects, one at a time


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


def wait(stage: Stage, seconds: float, *managers: bytes) -> None:
    """Let time pass, while these managers are there."""
    for _ in range(int(seconds)):
        for peer in managers:
            stage.manager(peer, msg.Heartbeat())
        stage.tick(1.0)


def wait_for_all(stage: Stage, *managers: bytes) -> None:
    """Let as much time pass as managers of before have to come back."""
    wait(stage, RETURN_S + 2.0, *managers)


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
    wait_for_all(stage, A, B)
    assert sorted(stage.sent(A) + stage.sent(B)) == [(STREAM, 2), (STREAM, 3)]


def test_without_a_whole_journal_a_manager_that_stands_still_keeps_its_tasks() -> None:
    """The disk was full when it registered; it is stopped for longer than others need to return."""
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], [], incomplete=True))
    stage.forwarder(msg.Hello(1, "1"))
    stage.submit(2, sent_before=True)
    stage.register(A, name="m", tasks=10, running=[msg.TaskRefs(STREAM, [1, 1], 1, 1)])
    stage.take()
    wait(stage, RETURN_S - 1.0, A)
    assert not stage.sent(A)
    assert stage.core.status().reason == (
        "1 task may still be with managers of before the restart, which have 30 s to come back: "
        "one that the endpoint's journal does not name (its disk was full or damaged, or its host "
        "went down)"
    )
    stage.register(B, name="unheard of", tasks=10, running=[msg.TaskRefs(STREAM, [0, 1], 1, 1)])
    wait(stage, 5.0, A, B)
    assert not stage.sent(A)
    stage.finish(B, [0])
    assert stage.outcomes().keys() == {0}


def test_without_a_whole_journal_nobody_is_waited_for_who_tells_still() -> None:
    """It is there, and about to tell what has ended there: that is not to run again."""
    stage = incomplete()
    stage.submit(1, sent_before=True)
    stage.register(A, name="m", tasks=10, unstored=[7])
    wait_for_all(stage, A)
    assert not stage.sent(A)
    stage.finish(A, [0], number=7)
    assert stage.outcomes().keys() == {0}


def test_without_a_whole_journal_what_was_lost_may_be_elsewhere_since() -> None:
    """A manager says again that its worker died: an interchange of before may have heard of it, and
    sent the task to one that the journal lacks, and that stands still.
    """
    stage = incomplete()
    stage.register(A, name="m", tasks=10, running=[msg.TaskRefs(STREAM, [0, 1], 1, 1)])
    stage.submit(1, sent_before=True)
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    assert not stage.sent(A)
    wait(stage, 20.0, A)
    later = msg.TaskRefs(STREAM, [0, 1], 1, 2)
    stage.register(B, name="unheard of", tasks=10, running=[later])
    assert not stage.to(B, msg.Welcome)[0].drop
    wait(stage, RETURN_S, A, B)
    assert not stage.sent(A)
    stage.finish(B, [0], attempt=2)
    assert stage.outcomes().keys() == {0}


@pytest.mark.parametrize("deaths", [1, 3])
def test_without_a_whole_journal_what_was_lost_runs_again_in_the_end(deaths: int) -> None:
    stage = incomplete()
    stage.register(A, name="m", tasks=10, running=[msg.TaskRefs(STREAM, [0, 1], 1, 1)])
    stage.submit(1, sent_before=True)
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    wait_for_all(stage, A)
    assert stage.sent(A) == [(STREAM, 0)]
    for attempt in range(2, deaths + 1):
        assert not stage.losses()
        stage.manager(A, msg.Lost([_death(2, attempt)]))
    assert bool(stage.losses()) == (deaths == 3)  # the first one counts, too


def _death(epoch: int, attempt: int) -> msg.LostTask:
    return msg.LostTask(STREAM, 0, epoch, attempt, Loss(LossCause.WORKER_KILLED, "killed"))


def test_without_a_whole_journal_a_manager_that_is_the_only_one_tells_all() -> None:
    """A `local` endpoint has one at a time: nobody else can have what it has not."""
    stage = incomplete("m")
    stage.submit(1, sent_before=True)
    stage.register(A, name="m", tasks=10)
    stage.tell(ev.OnlyManager("m"))
    stage.tick(0.1)
    assert stage.sent(A) == [(STREAM, 0)]


def test_without_a_whole_journal_a_task_may_be_at_another_manager_than_it_says() -> None:
    """It was lost at the one that the journal names, and sent to one that it does not know."""
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], [ev.Sent("m", [HELD])], incomplete=True))
    stage.forwarder(msg.Hello(1, "1"))
    stage.submit(2, sent_before=True)
    stage.register(A, name="m", tasks=10, running=[msg.TaskRefs(STREAM, [1, 1], 1, 1)])
    stage.take()
    stage.tick(1.0)
    assert not stage.sent(A)
    later = msg.TaskRefs(STREAM, [0, 1], 1, 2)
    stage.register(B, tasks=10, running=[later])
    wait_for_all(stage, A, B)
    assert not stage.sent(A)
    assert not stage.sent(B)
    stage.finish(B, [0], attempt=2)
    assert stage.outcomes().keys() == {0}


def test_without_a_whole_journal_the_latest_attempt_is_the_one_that_goes_on() -> None:
    """The manager that the journal names still has to tell that it lost an earlier one."""
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], [ev.Sent("m", [HELD])], incomplete=True))
    stage.register(A, name="m", tasks=10, running=[HELD])
    stage.register(B, tasks=10, running=[msg.TaskRefs(STREAM, [0, 1], 1, 2)])
    (welcome,) = stage.to(B, msg.Welcome)
    assert not welcome.drop
    (cancel,) = stage.to(A, msg.Cancel)
    assert cancel.tasks == [msg.TaskRefs(STREAM, [0, 1], 1, 1)]
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    stage.forwarder(msg.Hello(1, "1"))
    stage.submit(2, sent_before=True)
    wait_for_all(stage, A, B)
    assert not stage.sent(A)
    assert not stage.sent(B)
    assert not stage.losses()


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


# --- managers that have ended meanwhile -----------------------------------------------------------


def left(path: str, *numbers: int) -> ev.Left:
    """What manager m has left in a file: results of tasks, one message for each."""
    return ev.Left(
        path,
        [
            msg.Results(
                number, [msg.ResultRun(STREAM, 1, 1, [Outcome(index, OutcomeKind.VALUE, b"value")])]
            )
            for number, index in enumerate(numbers, 1)
        ],
    )


def discarded(stage: Stage) -> list[str]:
    return [action.path for action in stage.actions if isinstance(action, ev.DiscardLeft)]


@pytest.mark.parametrize("stored", ["before", "after"])
def test_results_that_a_manager_has_left_are_told_and_nothing_runs_again(stored: str) -> None:
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], [ev.Sent("m", [HELD])]))
    stage.tell(left("file", 0, 1))
    (spool,) = [action for action in stage.take() if isinstance(action, ev.Spool)]
    numbers = [results.number for results in spool.batch]
    stage.tell(ev.Spooled(numbers))
    assert discarded(stage) == ["file"]
    stage.forwarder(msg.Hello(1, "1"))
    assert [action.numbers for action in stage.take() if isinstance(action, ev.ReadSpool)]
    stage.tell(ev.Unspooled(spool.batch))
    assert stage.outcomes().keys() == {0, 1}
    if stored == "before":
        stage.forwarder(msg.ResultsStored(numbers))
    else:
        stage.submit(3, sent_before=True)
    stage.register(A, tasks=10)
    assert stage.sent(A) == ([(STREAM, 2)] if stored == "after" else [])


def test_what_cannot_be_spooled_is_kept_and_told_to_the_forwarder() -> None:
    stage = Stage(epoch=2, greet=False)
    stage.tell(left("file", 0, 1))
    stage.tell(ev.Spooled([]))  # the disk is full
    assert not discarded(stage)
    stage.forwarder(msg.Hello(1, "1"))
    first, second = stage.up(msg.Results)
    stage.forwarder(msg.ResultsStored([first.number]))
    assert not discarded(stage)
    stage.forwarder(msg.ResultsStored([second.number]))
    assert discarded(stage) == ["file"]


def test_results_left_by_a_lost_manager_end_what_runs_again() -> None:
    stage = Stage()
    stage.register(A)
    stage.submit(1)
    stage.tell(ev.ManagerGone(A, "its node is gone"))
    stage.register(B)
    assert stage.sent(B) == [(STREAM, 0)]
    stage.take()
    stage.tell(left("file", 0))
    assert stage.outcomes().keys() == {0}
    (cancel,) = stage.to(B, msg.Cancel)
    assert cancel.interrupt
    assert cancel.forget
    assert not stage.core.is_idle


def test_a_manager_whose_block_has_ended_is_not_waited_for() -> None:
    site = Site(ScalingPolicy(max_blocks=1, poll_s=1.0))
    site.task_s = 1000.0
    site.submit(2)
    site.run(30)
    assert len(site.living()) == 1
    (job,) = site.slurm.alive()
    site.slurm.end(job, "CANCELLED by us")
    for manager in site.living():
        site.vanish(manager)
    site.task_s = 1.0
    began = site.clock()
    site.start()
    while len(site.outcomes) < 2:
        site.run(0.5)
        assert site.clock() - began < RETURN_S / 2
    assert not site.losses()


def test_until_it_is_known_people_are_told_who_is_waited_for() -> None:
    stage = restarted()
    stage.submit(2, sent_before=True)
    stage.register(A)
    stage.tick(1)
    status = stage.core.status()
    assert "2 tasks may still be with managers of before the restart" in status.reason
    assert "manager m" in status.reason
    assert status.queued == 2
    for _ in range(int(RETURN_S)):
        stage.manager(A, msg.Heartbeat())
        stage.tick(1)
    assert not stage.core.status().reason
    assert stage.sent(A)


def test_a_stop_waits_for_managers_that_may_have_results() -> None:
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], [ev.Sent("m", [HELD])]))
    stage.tell(ev.StopAsked(keep_blocks=False, drain_s=0.0))
    stage.tick(1)
    assert not [action for action in stage.take() if isinstance(action, ev.Leave)]
    stage.register(A, name="m", unstored=[1])
    stage.finish(A, [0, 1])
    (spool,) = [action for action in stage.take() if isinstance(action, ev.Spool)]
    stage.tell(ev.Spooled([results.number for results in spool.batch]))
    assert stage.to(A, msg.ResultsStored)
    stage.manager(A, msg.Bye("the endpoint is being stopped"))
    stage.tick(1)
    assert [action for action in stage.take() if isinstance(action, ev.Leave)]


def test_a_stop_waits_only_so_long() -> None:
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], []))
    stage.tell(ev.StopAsked(keep_blocks=False, drain_s=0.0))
    stage.tick(SETTLED_S)
    assert [action for action in stage.take() if isinstance(action, ev.Leave)]


def test_managers_of_before_are_not_waited_for_when_another_has_taken_their_place() -> None:
    """A `local` endpoint has one manager at a time: the next one greets when the last has ended."""
    stage = restarted(managers=("m", "n"))
    stage.submit(4, sent_before=True)
    stage.register(A, name="new", tasks=10)
    assert stage.sent(A) == [(STREAM, 2), (STREAM, 3)]  # m may still run the others
    stage.tell(ev.OnlyManager("new"))
    assert ev.ManagerKnown("m", False) in stage.actions
    assert ev.ManagerKnown("n", False) in stage.actions
    stage.finish(A, [2, 3], epoch=2)
    assert {index for _, index in stage.sent(A)} >= {0}
    assert not stage.losses()  # a lost manager charges nobody


def test_a_manager_that_was_refused_takes_nobodys_place() -> None:
    stage = restarted()
    stage.submit(2, sent_before=True)
    stage.tell(ev.OnlyManager("unheard of"))
    assert stage.sent(A) == []
    stage.register(B, name="m", tasks=10, running=[HELD])
    stage.finish(B, [0, 1])
    assert stage.outcomes().keys() == {0, 1}


@pytest.mark.parametrize("damaged", [False, True])
def test_an_incomplete_journal_is_of_use_until_the_forwarder_has_sent_all_again(
    damaged: bool,
) -> None:
    """Nothing is outstanding while the forwarder is away, who will send what nobody has here."""
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered([], [], incomplete=not damaged, damaged=damaged))
    wait_for_all(stage)
    assert stage.core.is_idle
    assert not stage.core.has_all
    stage.forwarder(msg.Hello(1, "1"))
    (present,) = stage.up(msg.Present)
    assert present.incomplete
    stage.forwarder(msg.Backlog(2))
    assert not stage.core.has_all
    stage.forwarder(msg.Backlog(0, again=False))
    assert stage.core.has_all


def test_a_whole_journal_asks_for_nothing() -> None:
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], [ev.Sent("m", [HELD])]))
    stage.forwarder(msg.Hello(1, "1"))
    (present,) = stage.up(msg.Present)
    assert stage.core.has_all
    assert not present.incomplete


def test_what_nobody_claims_after_an_incomplete_journal_runs_again_only_if_it_may() -> None:
    """`retries=0`: what was sent, and nobody claims, ends as lost: who ran it may have died."""
    for retries in (0, 2):
        stage = Stage(epoch=2)
        stage.tell(ev.Recovered([], [], incomplete=True))
        stage.submit(1, sent_before=True, retries=retries)
        stage.register(A)
        assert not stage.sent(A)
        wait_for_all(stage, A)
        assert bool(stage.sent(A)) == bool(retries)
        lost = [outcome.kind == OutcomeKind.LOST for outcome in stage.outcomes().values()]
        assert lost == ([] if retries else [True])


def test_what_nobody_claimed_does_not_run_again_however_late_the_forwarder_is() -> None:
    """The same, when the forwarder was away for longer than managers of before are waited for."""
    stage = Stage(epoch=2)
    stage.tell(ev.Recovered([], [], incomplete=True))
    stage.register(A)
    wait_for_all(stage, A)
    stage.submit(1, sent_before=True, retries=0)
    stage.submit(1, first=1, retries=0)
    assert stage.sent(A) == [(STREAM, 1)]
    assert stage.outcomes()[0].kind == OutcomeKind.LOST


@pytest.mark.parametrize("first", ["manager", "forwarder"])
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("expected", [["gone"], []])
def test_a_later_attempt_than_an_incomplete_journal_knows_goes_on(
    expected: list[str], running: bool, first: str
) -> None:
    """The disk was full when its manager died, or just after, when another was sent its tasks."""
    stage = Stage(epoch=2)
    stage.tell(ev.Recovered(expected, [ev.Sent("gone", [HELD])], incomplete=True))
    later = msg.TaskRefs(STREAM, [0, 2], 1, 2)
    held = {"running": [later]} if running else {"queued": [later]}
    if first == "forwarder":
        stage.submit(2, sent_before=True)
    stage.take()
    stage.register(A, name="m", tasks=10, **held)
    (welcome,) = stage.to(A, msg.Welcome)
    assert not welcome.drop
    if first == "manager":
        stage.submit(2, sent_before=True)
    wait_for_all(stage, A)
    assert not stage.sent(A)
    stage.finish(A, [0, 1], epoch=1, attempt=2)
    assert stage.outcomes().keys() == {0, 1}


def test_managers_of_before_are_waited_for_before_anybody_says_that_there_are_none() -> None:
    stage = restarted()
    stage.tick(0.1)
    reason = stage.core.status().reason
    assert reason == "the managers of before the restart have 30 s to come back: manager m"
    stage.submit(2, sent_before=True)
    stage.tick(0.1)
    assert stage.core.status().reason.startswith("2 tasks may still be with managers of before")
    stage.register(A, name="m", running=[HELD])
    stage.tick(0.1)
    assert not stage.core.status().reason
