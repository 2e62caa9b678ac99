"""Calls of chunks that end their workers: each is charged for itself."""

from __future__ import annotations

import msgspec

from fxhpc import ids
from fxhpc.interchange import events as ev
from fxhpc.interchange.losses import CALL_OUTPUT_BYTES
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause, OutcomeKind, Output, unpack_loss
from tests.unit.interchange.acting import STREAM, Stage

A, B = b"a", b"b"
KILLED, EXITED = LossCause.WORKER_KILLED, LossCause.WORKER_EXITED


def chunk(retries: int = 2) -> Stage:
    """One chunk of ten calls, at a manager."""
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, calls=10, retries=retries)
    return stage


def given_up(stage: Stage) -> dict[int, str]:
    """The calls that the manager was told not to make, and why not."""
    run = stage.to(A, msg.Tasks)[-1].runs[-1]
    return {one.call: unpack_loss(one.loss).text for one in run.given_up}


def test_a_call_is_given_up_when_it_has_no_retries_left() -> None:
    stage = chunk(retries=2)
    for attempt in (1, 2):
        stage.lose(A, 0, KILLED, attempt, call=7)
        assert not given_up(stage)
    stage.lose(A, 0, KILLED, 3, call=7)
    assert given_up(stage) == {7: "attempt 3 was lost"}
    (one,) = stage.to(A, msg.Tasks)[-1].runs[-1].given_up
    loss = unpack_loss(one.loss)
    assert loss.attempts == ["attempt 1 was lost", "attempt 2 was lost"]
    assert (loss.counted, loss.retries) == (3, 2)
    assert not stage.outcomes()


def test_what_a_call_printed_that_is_given_up_is_kept_in_short() -> None:
    stage = chunk()
    for attempt, (call, size) in enumerate(((2, 5), (3, 10 * CALL_OUTPUT_BYTES)), 1):
        output = msgspec.msgpack.encode(Output(b"x" * size, b"y" * size, size, size))
        loss = Loss(LossCause.TASK_WALLTIME, "it hung", host="node", call=call, output=output)
        stage.manager(A, msg.Lost([msg.LostTask(STREAM, 0, 1, attempt, loss)]))
    packed = [unpack_loss(one.loss).output for one in stage.to(A, msg.Tasks)[-1].runs[-1].given_up]
    small, large = (msgspec.msgpack.decode(each, type=Output) for each in packed)
    assert small == Output(b"xxxxx", b"yyyyy", 5, 5)
    assert large.stdout == b"x" * CALL_OUTPUT_BYTES
    assert large.stderr_bytes == 10 * CALL_OUTPUT_BYTES
    assert not any(lost.tasks[0].loss.output for lost in stage.up(msg.Lost))


def test_each_call_is_charged_for_itself() -> None:
    stage = chunk(retries=1)
    for attempt, call in enumerate((1, 2, 3, 4, 1, 2), 1):
        stage.lose(A, 0, KILLED, attempt, call=call)
    assert sorted(given_up(stage)) == [1, 2]
    stage.finish(A, [0], attempt=7)
    assert stage.outcomes()[0].kind == OutcomeKind.VALUE


def test_a_call_that_exits_is_not_made_again() -> None:
    stage = chunk()
    stage.lose(A, 0, EXITED, 1, call=0)
    assert list(given_up(stage)) == [0]


def test_a_death_before_any_call_counts_against_the_chunk() -> None:
    stage = chunk(retries=1)
    stage.lose(A, 0, KILLED, 1)
    assert not stage.losses()
    stage.lose(A, 0, KILLED, 2)
    assert stage.losses()[0].attempts == ["attempt 1 was lost"]


def test_without_retries_nothing_of_a_chunk_is_run_again() -> None:
    stage = chunk(retries=0)
    stage.lose(A, 0, KILLED, 1, call=4)
    assert stage.losses()[0].cause == KILLED


def test_what_was_given_up_goes_along_when_the_manager_is_lost() -> None:
    stage = chunk()
    stage.lose(A, 0, EXITED, 1, call=5)
    stage.tell(ev.ManagerGone(A, "its node is gone"))
    stage.take()
    stage.register(B, tasks=1)
    (tasks,) = stage.to(B, msg.Tasks)
    assert [one.call for one in tasks.runs[0].given_up] == [5]


def test_a_chunk_that_has_ended_is_forgotten() -> None:
    stage = chunk()
    stage.lose(A, 0, KILLED, 1, call=5)
    assert stage.core._state.histories
    stage.finish(A, [0], attempt=2)
    assert not stage.core._state.histories


def test_the_forwarder_is_told_what_became_of_the_chunk() -> None:
    stage = chunk()
    stage.lose(A, 0, EXITED, 1, call=5)
    (lost,) = stage.up(msg.Lost)
    assert (lost.tasks[0].stream, lost.tasks[0].index) == (STREAM, 0)
    assert lost.tasks[0].loss.then == "without that call"


def test_ids_say_which_call_they_are() -> None:
    stream = ids.new_stream(1000)
    assert ids.calls_of(stream) == 1000
    assert ids.locate(stream, 41_007) == (41, 7)
    assert ids.parse_task_id(ids.task_id(stream, 41, 7)) == (stream, 41_007)
    assert ids.task_ids(stream, [41_007]) == [ids.task_id(stream, 41, 7)]
    for _ in range(100):
        plain = ids.new_stream()
        assert ids.calls_of(plain) == 0
        assert ids.locate(plain, 5) == (5, -1)
        assert ids.calls_of(ids.new_stream(1)) == 1
        assert ids.calls_of(ids.new_stream(ids.CHUNK_CALLS)) == ids.CHUNK_CALLS
