"""Chunks that run again after a worker's death: what had ended goes along and is not made again."""

from __future__ import annotations

import pytest

from fxhpc.interchange import events as ev
from fxhpc.interchange.kept_calls import KeptCalls
from fxhpc.protocol import kept
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause, unpack_loss
from tests.unit.interchange.acting import STREAM, Stage

A, B = b"a", b"b"
KILLED = LossCause.WORKER_KILLED
ONE = kept.record(0, kept.VALUE, b"zero")
TWO = ONE + kept.record(1, kept.ERROR, b"one")


def chunk(retries: int = 2, calls: int = 10) -> Stage:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, calls=calls, retries=retries)
    return stage


def lose(
    stage: Stage, attempt: int, call: int, records: bytes = b"", cause: LossCause = KILLED
) -> None:
    loss = Loss(cause, f"attempt {attempt} was lost", host="node", call=call, kept=records)
    stage.manager(A, msg.Lost([msg.LostTask(STREAM, 0, 1, attempt, loss)]))


def sent(stage: Stage, peer: bytes = A) -> list[tuple[int, int, bytes]] | None:
    """What goes along with the chunk, as it was sent last."""
    found = stage.to(peer, msg.Tasks)[-1].runs[-1].kept
    return None if found is None else list(kept.records(found))


def suspect(call: int) -> tuple[int, int, bytes]:
    return call, kept.SUSPECT, b""


def test_a_chunk_runs_carefully_after_its_first_death() -> None:
    stage = chunk()
    assert sent(stage) is None
    lose(stage, 1, call=7)
    assert sent(stage) == [suspect(7)]
    lose(stage, 2, call=3, records=ONE)
    assert sent(stage) == [*kept.records(ONE), suspect(7), suspect(3)]
    lose(stage, 3, call=3)  # of which the worker was killed before it had read what was kept
    assert sent(stage) == [*kept.records(ONE), suspect(7), suspect(3)]
    lose(stage, 4, call=4, records=TWO)
    assert sent(stage) == [*kept.records(TWO), suspect(7), suspect(3), suspect(4)]


@pytest.mark.parametrize("cause", [KILLED, LossCause.INTERRUPTED, LossCause.WALLTIME])
def test_what_is_kept_goes_along_with_each_loss(cause: LossCause) -> None:
    stage = chunk()
    lose(stage, 1, call=-1, cause=cause)
    assert sent(stage) == []
    lose(stage, 2, call=-1, cause=cause, records=TWO)
    assert sent(stage) == list(kept.records(TWO))


def test_it_goes_along_when_the_manager_is_lost() -> None:
    stage = chunk()
    lose(stage, 1, call=5, records=TWO)
    stage.tell(ev.ManagerGone(A, "its node is gone"))
    stage.take()
    stage.register(B, tasks=1)
    assert sent(stage, B) == [*kept.records(TWO), suspect(5)]


def test_a_chunk_whose_manager_was_lost_runs_as_at_first() -> None:
    stage = chunk()
    stage.tell(ev.ManagerGone(A, "its node is gone"))
    stage.take()
    stage.register(B, tasks=1)
    assert sent(stage, B) is None


def test_nothing_is_kept_of_tasks_that_are_calls() -> None:
    stage = chunk(calls=0)
    lose(stage, 1, call=-1, records=TWO)
    assert sent(stage) is None


def test_nobody_above_is_told_what_is_kept() -> None:
    stage = chunk(retries=1)
    lose(stage, 1, call=5, records=ONE)
    lose(stage, 2, call=5, records=TWO)
    run = stage.to(A, msg.Tasks)[-1].runs[-1]
    assert [unpack_loss(one.loss).kept for one in run.given_up] == [b""]
    lost = stage.up(msg.Lost)
    assert [one.loss.kept for each in lost for one in each.tasks] == [b"", b""]
    told = [one.loss.then for each in lost for one in each.tasks]
    assert told == ["with what is left of its chunk", "without that call"]
    lose(stage, 3, call=-1, records=TWO)
    lose(stage, 4, call=-1, records=TWO)
    (loss,) = stage.losses().values()
    assert (loss.cause, loss.kept) == (KILLED, b"")


def test_a_chunk_that_has_ended_leaves_nothing() -> None:
    stage = chunk()
    lose(stage, 1, call=5, records=TWO)
    histories = stage.core._state.histories
    assert histories.kept.size == len(TWO)
    stage.finish(A, [0], attempt=2)
    assert histories.kept.size == 0
    assert not histories


@pytest.mark.parametrize("forget", [False, True], ids=["cancelled", "forgotten"])
@pytest.mark.parametrize("suspect", [False, True], ids=["of the queue", "alone"])
@pytest.mark.parametrize("calls", [0, 10], ids=["task", "chunk"])
def test_what_is_cancelled_before_its_next_run_leaves_nothing(
    calls: int, suspect: bool, forget: bool
) -> None:
    stage = chunk(calls=calls)
    lose(stage, 1, call=5 if calls else -1, records=TWO)
    if suspect:
        stage.tell(ev.ManagerGone(A, "its node is gone"))
    else:
        stage.manager(A, msg.Capacity(0, 0, 2))
        lose(stage, 2, call=3 if calls else -1, records=TWO)
    losses = stage.core._losses
    assert losses.watching
    assert (losses.histories.kept.size > 0) == (calls > 0)
    refs = [msg.TaskRefs(STREAM, [0, 1])]
    stage.forwarder(msg.Cancel(refs, interrupt=False, forget=forget))
    assert losses.histories.kept.size == 0
    assert not losses.watching
    assert list(stage.outcomes()) == ([] if forget else [0])


def test_there_is_a_bound_for_all_chunks() -> None:
    held = KeptCalls(most=10)
    first, second = (b"s", 0), (b"s", 1)
    assert held.keep(first, b"123456") == b"123456"
    assert held.keep(second, b"12345") == b""
    assert held.keep(second, b"1234") == b"1234"
    assert held.keep(first, b"1234567") == b"123456"
    assert held.size == 10
    held.forget(second)
    assert held.keep(first, b"1234567890") == b"1234567890"
    held.forget(first)
    held.forget(first)
    assert held.size == 0
