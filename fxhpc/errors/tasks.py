"""Errors of tasks: not ended yet, cancelled, or ended by an exception that they raised."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError

from fxhpc.errors.base import FxhpcError, the_task


class TaskPending(FxhpcError):
    """The task has not ended yet; `reason` says what it waits for."""

    def __init__(self, reason: str, task_id: str = "") -> None:
        self.reason = reason
        self.task_id = task_id
        which = f" It is task {task_id}." if task_id else ""
        super().__init__(
            f"Task is pending due to {reason}.{which} Ask again later, or pass timeout=, in "
            f"seconds from now, to get_result."
        )


class TaskCancelled(FxhpcError, CancelledError):
    """Somebody cancelled the task."""

    def __init__(self, task_id: str = "") -> None:
        self.task_id = task_id
        super().__init__(f"{the_task(task_id)} was cancelled. Submit it again if you need it.")


class UserCancelledException(FxhpcError):
    """The user cancelled a task through the executor."""

    def __init__(self) -> None:
        super().__init__("Task was cancelled by user.")


class TaskExecutionFailed(FxhpcError):
    """The task raised an exception that cannot be made again here; str() is its traceback."""

    def __init__(self, remote_data: str, completion_t: str = "") -> None:
        self.remote_data = remote_data
        self.completion_t = completion_t
        super().__init__(remote_data)


FuncxTaskExecutionFailed = TaskExecutionFailed


class TaskInterrupted(TaskExecutionFailed):
    """The task raised KeyboardInterrupt. It is not raised here: nobody pressed Ctrl-C here."""


class InitializerFailed(FxhpcError, BrokenExecutor):
    """The initializer of an Executor failed in the worker that was to run the task.

    As a BrokenProcessPool is, it is a `concurrent.futures.BrokenExecutor`. Its `__cause__` has the
    traceback.

    Args:
        name: the initializer's.
        reason: type and text of what it raised.
        host, pid: of the worker.
    """

    def __init__(self, name: str, reason: str, host: str = "", pid: int = 0) -> None:
        self.name = name
        self.reason = reason
        self.host = host
        self.pid = pid
        super().__init__(
            f"The initializer {name} of this Executor failed in worker {pid} on {host}: {reason}. "
            f"No task of this Executor runs in that worker. Mend it, and make another Executor."
        )


class RemoteTraceback(Exception):
    """The `__cause__` of an exception that a task raised: where on the worker it happened."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'
