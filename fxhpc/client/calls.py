"""What is told of the calls of chunks: each is a task to those who ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fxhpc import errors
from fxhpc.client import outcomes
from fxhpc.client.shown.details import details_of, of_chunk, output_in
from fxhpc.client.shown.output import printed_in
from fxhpc.protocol import states
from fxhpc.protocol.outcome import ERROR, LOST, VALUE, Outcome, unpack_loss
from fxhpc.protocol.service import StreamSummary, TaskState
from fxhpc.serialize import Chunk, unpack_chunk


def value_of(state: TaskState, call: int, task_id: str) -> Any:
    """The value of a call whose chunk has ended.

    Raises:
        TaskNotFound: its chunk has no such call.
        SerializationError: it cannot be unpacked here.
        TaskLost, TaskCancelled: it ended without a value.
        Exception: what the function raised.
    """
    return _value(_chunk_of(state), state, call, task_id)


def values_of(state: TaskState, calls: list[int]) -> list[Any] | None:
    """The values of calls of one chunk, if all of it have some that can be had at once."""
    try:
        chunk = _chunk_of(state)
        values = chunk.values() if chunk is not None else None
    except errors.SerializationError:
        return None
    if values is None or max(calls) >= len(values):
        return None
    return [values[call] for call in calls]


def each_value_of(
    state: TaskState, calls: list[int], names: list[str]
) -> Iterator[tuple[Any, bool]]:
    """The value of each of these calls of one chunk; or an error, and that it is one."""
    try:
        chunk = _chunk_of(state)
    except errors.SerializationError as error:
        yield from ((error, True) for _ in calls)
        return
    for call, name in zip(calls, names, strict=True):
        try:
            yield _value(chunk, state, call, name), False
        except Exception as error:
            yield error.with_traceback(None), True


def _value(chunk: Chunk | None, state: TaskState, call: int, task_id: str) -> Any:
    """The value of a call.

    Args:
        chunk: what its chunk ended by; None: it ended as a whole, or has not ended.
    """
    if chunk is None:
        if state.outcome is None:
            raise errors.TaskPending(outcomes.pending_reason(state), task_id)
        outcomes.failure_of(state.outcome, task_id).reraise()
        raise AssertionError("unreachable")
    _check(chunk, call, task_id)
    return value_in(chunk, call, lambda _: task_id)


def value_in(chunk: Chunk, call: int, name: Callable[[int], str]) -> Any:
    """The value of a call of this chunk.

    Args:
        name: gives a call its id.

    Raises:
        SerializationError: it cannot be unpacked here.
        TaskLost: the call was given up.
        Exception: what the function raised.
    """
    if chunk.has_failed(call):
        _failure(chunk, call, name(call)).reraise()
    return chunk.value(call)


def task_dict(
    state: TaskState, call: int, task_id: str, summary: StreamSummary | None = None
) -> dict[str, Any]:
    """What `get_task` returns of a call: as of any task, see `outcomes.task_dict`.

    `details` has when its chunk started and ended, how long it ran and the processor time that it
    took as `chunk_started` and so on, and what all of its calls printed. Of a call that was given
    up it has, as of any lost task, how long it ran, its earlier attempts, and what was printed
    until then by it and the calls before it.

    Raises:
        TaskNotFound: its chunk has no such call.
        SerializationError: what came back cannot be unpacked here.
    """
    chunk = _chunk_of(state)
    if chunk is None:
        return outcomes.task_dict(state, task_id, summary)
    _check(chunk, call, task_id)
    told = _told(state, chunk, call, task_id)
    if details := of_chunk(details_of(state, summary)):
        if (packed := chunk.losses.get(call)) is not None:
            details.update(_details_of_lost(packed))
        told["details"] = details
    return told


def task_dicts(state: TaskState, calls: list[int], names: list[str]) -> list[dict[str, Any]]:
    """As `task_dict` without details, of many calls of one chunk. One that cannot be unpacked does
    not hide the others.

    Args:
        calls: which.
        names: the id of each.
    """
    try:
        chunk = _chunk_of(state)
        values = chunk.values() if chunk is not None else None
    except errors.SerializationError as error:
        return [_unreadable(state, error) for _ in calls]
    if chunk is None:
        return [outcomes.task_dict_in_batch(state, name) for name in names]
    if values is not None and max(calls) < len(values):
        ended, success = outcomes.text_of(state.ended), states.SUCCESS
        return [
            {
                "pending": False,
                "status": success,
                "result": values[call],
                "completion_t": ended,
            }
            for call in calls
        ]
    return [_task_dict(state, chunk, call, name) for call, name in zip(calls, names, strict=True)]


def _task_dict(state: TaskState, chunk: Chunk, call: int, task_id: str) -> dict[str, Any]:
    if not chunk.of_all and call >= chunk.size:
        return outcomes.task_dict(TaskState(0, states.UNKNOWN), task_id)
    try:
        return _told(state, chunk, call, task_id)
    except errors.SerializationError as error:
        return _unreadable(state, error)


def _told(state: TaskState, chunk: Chunk, call: int, task_id: str) -> dict[str, Any]:
    told: dict[str, Any] = {"pending": False, "status": states.SUCCESS}
    failure = _failure(chunk, call, task_id)
    if failure is None:
        told["result"] = chunk.value(call)
    else:
        told["status"] = states.FAILED
        told["exception"] = failure
    told["completion_t"] = outcomes.text_of(state.ended)
    return told


def _chunk_of(state: TaskState) -> Chunk | None:
    """How the calls of a chunk ended; None: it has not ended, or ended as a whole.

    Raises:
        SerializationError: it cannot be unpacked.
    """
    outcome = state.outcome
    if outcome is None or outcome.kind not in (VALUE, ERROR):
        return None
    return unpack_chunk(outcome.data)


def _check(chunk: Chunk, call: int, task_id: str) -> None:
    if not chunk.of_all and call >= chunk.size:
        raise errors.TaskNotFound(task_id)


def _failure(chunk: Chunk, call: int, task_id: str) -> Any:
    """Why a call has no value, as something with `.reraise()`; None if it has one."""
    if (loss := chunk.losses.get(call)) is not None:
        return outcomes.failure_of(Outcome(0, LOST, loss), task_id)
    failure = chunk.failure(call)
    if failure is not None:
        failure.task_id = task_id
    return failure


def _details_of_lost(packed: bytes) -> dict[str, Any]:
    """What is known of a call that was given up, in the place of what is known of its chunk."""
    loss = unpack_loss(packed)
    found: dict[str, Any] = printed_in(output_in(loss.output))
    if loss.ran_s:
        found["ran_s"] = loss.ran_s
    if loss.attempts:
        found["attempts"] = list(loss.attempts)
    return found


def _unreadable(state: TaskState, error: BaseException) -> dict[str, Any]:
    return {
        "pending": False,
        "status": state.status,
        "exception": outcomes.FailedTask(error),
        "completion_t": outcomes.text_of(state.ended),
    }
