"""What a task's outcome becomes here: a value, an error, or the dictionary of `get_task`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from fxhpc import errors
from fxhpc.client.shown.details import details_of
from fxhpc.protocol import states
from fxhpc.protocol.outcome import CANCELLED, ERROR, VALUE, LossCause, Outcome, unpack_loss
from fxhpc.protocol.service import StreamSummary, TaskState
from fxhpc.serialize import unpack_exception, unpack_result

if TYPE_CHECKING:
    from fxhpc.client.futures.futures import TaskFuture


class FailedTask:
    """The 'exception' of a task that ended otherwise than by its function: lost, cancelled, ...

    It has what the wrapper of a function's own exception has.
    """

    def __init__(self, error: BaseException) -> None:
        self.e_value = error
        self.e_type = type(error)
        self.traceback_text = f"{type(error).__module__}.{type(error).__qualname__}: {error}"

    def reraise(self) -> None:
        """Raise the error."""
        raise self.e_value

    def __str__(self) -> str:
        return self.traceback_text

    def __repr__(self) -> str:
        return f"<FailedTask {self.e_type.__name__}>"


def value_of(outcome: Outcome) -> Any:
    """The value of an outcome of kind VALUE, unpacked.

    Raises:
        SerializationError: it cannot be unpacked here.
    """
    return unpack_result(outcome.data)


def failure_of(outcome: Outcome, task_id: str) -> Any:
    """Why the task has no value, as something with `.reraise()`.

    Raises:
        SerializationError: it cannot be unpacked here.
    """
    if outcome.kind == ERROR:
        failure = unpack_exception(outcome.data)
        failure.task_id = task_id
        return failure
    if outcome.kind == CANCELLED:
        return FailedTask(errors.TaskCancelled(task_id))
    return FailedTask(_loss_error(outcome, task_id))


def error_of(outcome: Outcome, task_id: str) -> BaseException:
    """Why the task has no value, as the error that is raised."""
    try:
        failure_of(outcome, task_id).reraise()
    except Exception as error:
        return error.with_traceback(None)
    return errors.TaskExecutionFailed(
        f"task {task_id} failed, and its exception cannot be raised here; get_task(id) has its "
        f"text as ['exception']"
    )


def unpacked(task: TaskFuture, outcome: Outcome) -> tuple[Any, BaseException | None]:
    """What the future of a task has: its result and its exception, of which one is None."""
    try:
        if outcome.kind == VALUE:
            return value_of(outcome), None
        return None, error_of(outcome, task.task_id)
    except Exception as error:
        return None, error


def _loss_error(outcome: Outcome, task_id: str) -> errors.TaskLost:
    loss = unpack_loss(outcome.data)
    try:
        cause = LossCause(loss.cause).name
    except ValueError:
        cause = ""  # of a newer version
    return errors.lost(
        cause,
        loss.text,
        task_id=task_id,
        host=loss.host,
        pid=loss.pid,
        signal=loss.signal,
        exit_code=loss.exit_code,
        peak_memory=loss.peak_memory,
        stderr=loss.stderr,
        attempts=loss.attempts,
        ran_s=loss.ran_s,
        block_s=loss.block_s,
        limit_s=loss.limit_s,
        limit_bytes=loss.limit_bytes,
        oom_evidence=loss.oom,
        counted=loss.counted,
        retries=loss.retries,
        alone=loss.alone,
    )


def pending_reason(state: TaskState) -> str:
    """Why a task is pending, as TaskPending tells it."""
    return f"{state.status}: {state.reason}" if state.reason else state.status


def task_dict(
    state: TaskState, task_id: str, summary: StreamSummary | None = None
) -> dict[str, Any]:
    """What `get_task` returns: a task's state as funcX shows it.

    `pending` is a bool; a task that has ended has `completion_t` (a string of seconds since the
    epoch) and either `result` or `exception`, which has `.reraise()`; one that has not may have a
    `reason`. `details` has what else is known, see `details.details_of`.

    Raises:
        SerializationError: what came back cannot be unpacked here.
    """
    outcome = state.outcome
    if state.status == states.UNKNOWN:
        failure = FailedTask(errors.TaskNotFound(task_id))
        return {"pending": False, "status": state.status, "exception": failure}
    if outcome is None:
        told: dict[str, Any] = {"pending": True, "status": state.status}
        if state.reason:
            told["reason"] = state.reason
        if details := details_of(state, summary):
            told["details"] = details
        return told
    if outcome.kind == VALUE and outcome.ran and not outcome.output and summary is None:
        # As nearly all are of which many are told of: in one step.
        return {
            "pending": False,
            "status": states.SUCCESS,
            "result": unpack_result(outcome.data),
            "completion_t": text_of(state.ended),
            "details": {"ran_s": outcome.ran},
        }
    told = {"pending": False, "status": state.status}
    if outcome.kind == VALUE:
        told["result"] = value_of(outcome)
    else:
        told["exception"] = failure_of(outcome, task_id)
    told["completion_t"] = text_of(state.ended)
    if details := details_of(state, summary):
        told["details"] = details
    return told


#: Tasks that were stored together ended at one time, and a million may be told of at once: they
#: share what says so.
text_of = functools.lru_cache(1024)(str)


def task_dict_in_batch(state: TaskState, task_id: str) -> dict[str, Any]:
    """As `task_dict`; one task that cannot be unpacked does not hide the others."""
    try:
        return task_dict(state, task_id)
    except errors.SerializationError as error:
        return {
            "pending": False,
            "status": state.status,
            "exception": FailedTask(error),
            "completion_t": str(state.ended),
        }
