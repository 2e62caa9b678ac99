"""What becomes of lost tasks, and of cancelled ones."""

from __future__ import annotations

import pytest

from fxhpc import errors
from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause, OutcomeKind
from tests.unit.interchange.acting import STREAM, Stage

A, B, C = b"a", b"b", b"c"


def test_a_lost_task_goes_to_the_front_of_the_queue() -> None:
    stage = Stage()
    stage.submit(10)
    stage.register(A, tasks=2)
    stage.take()
    stage.lose(A, 1, LossCause.WORKER_KILLED, 1)
    assert stage.sent(A) == [(STREAM, 1)]


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_a_task_that_kills_workers_runs_once_more_for_each_retry(retries: int) -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, retries=retries)
    for attempt in range(1, retries + 2):
        assert not stage.losses()
        stage.lose(A, 0, LossCause.WORKER_KILLED, attempt)
    loss = stage.losses()[0]
    assert loss.text == f"attempt {retries + 1} was lost"
    assert loss.attempts == [f"attempt {number} was lost" for number in range(1, retries + 1)]


def test_what_its_own_code_ended_is_not_tried_again() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1)
    stage.lose(A, 0, LossCause.WORKER_EXITED, 1)
    assert stage.losses()[0].cause == LossCause.WORKER_EXITED


def test_an_interruption_charges_nobody() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, retries=1)
    for attempt in range(1, 20):
        stage.lose(A, 0, LossCause.INTERRUPTED, attempt)
    assert not stage.losses()


def test_a_loss_of_an_earlier_attempt_means_nothing() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, retries=1)
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    stage.take()
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    assert not stage.sent(A)
    assert not stage.losses()


def test_what_ran_at_a_lost_manager_runs_again_one_per_manager() -> None:
    stage = Stage()
    stage.register(A, tasks=4, slots=4)
    stage.submit(4)
    stage.tell(ev.ManagerGone(A, "its node is gone"))
    stage.take()
    stage.register(B, tasks=4)
    assert len(stage.sent(B)) == 1
    stage.register(C, tasks=4)
    assert len(stage.sent(C)) == 1
    ((_, first),) = stage.sent(B)
    stage.take()
    stage.finish(B, [first], attempt=2)
    assert len(stage.sent(B)) == 1


def test_what_had_surely_not_begun_at_a_lost_manager_is_no_suspect() -> None:
    stage = Stage()
    stage.register(A, tasks=50, slots=1)
    stage.submit(50)
    stage.tell(ev.ManagerGone(A, "its node is gone"))
    stage.take()
    stage.register(B, tasks=100)
    assert len(stage.sent(B)) == 50 - 2 + 1


def test_a_suspect_is_charged_when_it_loses_another_manager() -> None:
    stage = Stage()
    stage.register(A, tasks=1, slots=1)
    stage.submit(1, retries=1)
    stage.tell(ev.ManagerGone(A, "the first node is gone"))
    for number, peer in enumerate((B, C)):
        stage.register(peer, tasks=1)
        assert not stage.losses(), number
        stage.tell(ev.ManagerGone(peer, "another node is gone"))
    loss = stage.losses()[0]
    assert "another node is gone" in loss.text
    assert len(loss.attempts) == 2


def test_a_manager_that_greets_again_keeps_its_suspect() -> None:
    stage = Stage()
    stage.register(A, tasks=1, slots=1)
    stage.submit(2)
    stage.tell(ev.ManagerGone(A, "gone"))
    stage.register(B, tasks=1, slots=1)
    suspect = msg.TaskRefs(STREAM, [0, 1], 1, 2)
    stage.register(B, tasks=1, slots=1, running=[suspect])
    for peer in (B, C):
        stage.register(peer, tasks=1) if peer == C else None
        stage.tell(ev.ManagerGone(peer, "gone as well"))
    assert stage.core._losses.histories.charged((STREAM, 0)) == 2


def test_without_retries_nothing_that_was_sent_runs_again() -> None:
    stage = Stage()
    stage.register(A, tasks=4, slots=4)
    stage.submit(4, retries=0)
    stage.take()
    stage.tell(ev.ManagerGone(A, "gone"))
    assert stage.losses().keys() == {0, 1, 2, 3}
    written = [action for action in stage.take() if isinstance(action, ev.Sent)]
    assert {record.manager for record in written} == {""}


def test_without_retries_what_was_given_back_runs_elsewhere() -> None:
    stage = Stage()
    stage.register(A, tasks=4, slots=1)
    stage.submit(2, retries=0)
    stage.manager(A, msg.Returned([msg.TaskRefs(STREAM, [1, 1], 1, 1)]))
    stage.take()
    stage.register(B)
    stage.lose(A, 1, LossCause.WORKER_KILLED, 1)
    assert 1 not in stage.losses()


def test_a_late_outcome_counts_and_ends_the_other_attempt() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1)
    stage.tick(16.0)
    stage.register(B, tasks=1)
    assert stage.sent(B) == [(STREAM, 0)]
    stage.register(A, tasks=0, unstored=[1])
    stage.finish(A, [0])
    assert stage.outcomes()[0].data == b"value"
    (cancel,) = stage.to(B, msg.Cancel)
    assert cancel.interrupt
    assert cancel.forget, "or its outcome, cancelled, could be taken for the task's"
    assert not any(manager.held_tasks for manager in stage.core._state.managers.values())


def test_an_outcome_of_an_earlier_attempt_ends_the_later_one_at_the_same_manager() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1)
    stage.lose(A, 0, LossCause.INTERRUPTED, 1)
    stage.take()
    stage.finish(A, [0], attempt=1)
    assert stage.outcomes()[0].data == b"value"
    assert stage.to(A, msg.Cancel)


# --- cancelling ---------------------------------------------------------------------------------


def cancel(stage: Stage, *indices: int, interrupt: bool = False) -> None:
    refs = [msg.TaskRefs(STREAM, [index, 1]) for index in indices]
    stage.forwarder(msg.Cancel(refs, interrupt))


def test_what_waits_here_is_cancelled_at_once() -> None:
    stage = Stage()
    stage.submit(3)
    cancel(stage, 1)
    assert stage.outcomes()[1].kind == OutcomeKind.CANCELLED
    stage.register(A, tasks=10)
    assert stage.sent(A) == [(STREAM, 0), (STREAM, 2)]


def test_what_a_manager_has_is_cancelled_there() -> None:
    stage = Stage()
    stage.register(A, tasks=3)
    stage.submit(3)
    cancel(stage, 2, interrupt=True)
    assert stage.to(A, msg.Cancel) == [msg.Cancel([msg.TaskRefs(STREAM, [2, 1])], True)]
    assert not stage.outcomes()


def test_a_cancellation_that_was_lost_on_the_way_is_said_again() -> None:
    stage = Stage()
    stage.register(A, tasks=3)
    stage.submit(3)
    cancel(stage, 2)
    stage.take()
    stage.register(A, queued=[msg.TaskRefs(STREAM, [0, 3], 1, 1)])
    assert stage.to(A, msg.Cancel) == [msg.Cancel([msg.TaskRefs(STREAM, [2, 1])], False)]


def test_what_is_to_be_forgotten_has_no_outcome() -> None:
    stage = Stage()
    stage.register(A, tasks=2)
    stage.submit(4)
    stage.take()
    stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, [0, 4])], interrupt=True, forget=True))
    assert stage.to(A, msg.Cancel) == [msg.Cancel([msg.TaskRefs(STREAM, [0, 2])], True, True)]
    assert not stage.outcomes()
    assert stage.core.is_idle


def test_a_suspect_that_waits_is_cancelled() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1)
    stage.tell(ev.ManagerGone(A, "gone"))
    cancel(stage, 0)
    assert stage.outcomes()[0].kind == OutcomeKind.CANCELLED
    stage.register(B)
    assert not stage.sent(B)


def test_what_a_lost_task_printed_goes_with_its_outcome_and_not_with_its_story() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, retries=1)
    for attempt in (1, 2):
        loss = Loss(LossCause.WORKER_KILLED, "killed", output=b"printed")
        stage.manager(A, msg.Lost([msg.LostTask(STREAM, 0, 1, attempt, loss)]))
    assert [lost.loss.output for told in stage.up(msg.Lost) for lost in told.tasks] == [b""]
    assert stage.outcomes()[0].output == b"printed"
    assert stage.losses()[0].output == b""


def test_a_final_loss_says_how_many_count() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, retries=1)
    causes = (LossCause.WORKER_KILLED, LossCause.INTERRUPTED, LossCause.WORKER_KILLED)
    for attempt, cause in enumerate(causes, 1):
        stage.lose(A, 0, cause, attempt)
    loss = stage.losses()[0]
    assert (len(loss.attempts), loss.counted, loss.retries, loss.alone) == (2, 2, 1, 0)
    error = errors.lost("WORKER_KILLED", loss.text, attempts=loss.attempts, counted=2, retries=1)
    assert "lost 3 times, of which 2 count against its retries=1" in str(error)


def test_what_a_stop_cuts_off_says_who_stopped_the_endpoint() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, retries=0)
    why = "the endpoint was stopped by its user's command on 2026-01-02 at 03:04:05"
    stage.tell(ev.StopAsked(keep_blocks=False, drain_s=0.0, why=why))
    stage.tell(ev.ManagerGone(A, "its connection was closed"))
    (loss,) = stage.losses().values()
    assert why in loss.text
    error = str(errors.lost(LossCause(loss.cause).name, loss.text, retries=loss.retries))
    assert "fxhpc endpoint start" in error
    assert "retries=0, so it was not run again" in error
