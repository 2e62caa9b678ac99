"""The values of tasks; of those that have none, the error that says why."""

from __future__ import annotations

from typing import Any, NamedTuple

from fxhpc import errors
from fxhpc.client import calls, outcomes
from fxhpc.client.selection import Selection
from fxhpc.protocol import states
from fxhpc.protocol.service import TaskState
from fxhpc.serialize import spilled

#: What counts for a result in a file, without looking: it is there because it is large.
_SPILLED_BYTES = 16 * 2**20


class Missing(NamedTuple):
    """Stands where there is no value."""

    error: BaseException


def size_of(state: TaskState) -> int:
    """About how many bytes came of a task."""
    if state.outcome is None:
        return 0
    data = state.outcome.data
    return _SPILLED_BYTES if spilled.is_reference(data) else len(data)


def value_of(state: TaskState, call: int, task_id: str) -> Any:
    """The value of a task, or of a call of it.

    Args:
        call: which one of a chunk's; -1: the task is no chunk.

    Raises:
        TaskNotFound: nobody knows it.
        TaskPending: it has not ended.
        TaskLost, TaskCancelled: it ended without a value.
        SerializationError: what came back cannot be unpacked here.
        Exception: what the function raised.
    """
    if state.status == states.UNKNOWN:
        raise errors.TaskNotFound(task_id)
    if state.outcome is None:
        raise errors.TaskPending(outcomes.pending_reason(state), task_id)
    if call >= 0:
        return calls.value_of(state, call, task_id)
    if state.status == states.SUCCESS:
        return outcomes.value_of(state.outcome)
    outcomes.failure_of(state.outcome, task_id).reraise()
    raise AssertionError("unreachable")


def put_values(
    found: list[Any], selection: Selection, positions: list[int], state: TaskState
) -> None:
    """Put the values of one task, or of calls of one chunk, where they are asked for.

    Args:
        positions: of these in the selection, and in `found`.
    """
    if selection.call(positions[0]) < 0:
        for position in positions:
            try:
                found[position] = value_of(state, -1, selection.names[position])
            except Exception as error:
                found[position] = Missing(error.with_traceback(None))
        return
    which = selection.calls(positions)
    values = calls.values_of(state, which)
    if values is None:
        names = [selection.names[position] for position in positions]
        values = [
            Missing(value) if is_error else value
            for value, is_error in calls.each_value_of(state, which, names)
        ]
    for position, value in zip(positions, values, strict=True):
        found[position] = value
