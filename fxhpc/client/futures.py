"""Futures that share one condition per executor, and are completed a message at a time.

They are `concurrent.futures.Future`s in every way that can be seen. What differs: a result stays
packed until somebody asks for it, and is then unpacked once, in the thread that asks.
"""

from __future__ import annotations

import concurrent.futures as cf
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import Any, Protocol

from fxhpc import ids
from fxhpc.client.callbacks import Callbacks
from fxhpc.client.outcomes import error_of, value_of
from fxhpc.client.output import output_of
from fxhpc.protocol.outcome import CANCELLED as CANCELLED_KIND
from fxhpc.protocol.outcome import VALUE, Outcome

_PACKED = cf.CancelledError("packed")  # in the place of an exception: the outcome is still packed
_UNPACKING = cf.CancelledError("unpacking")  # a thread unpacks it now
_ENDED = (CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED)


class FutureGroup(Protocol):
    """What the futures of one stream share."""

    stream: bytes
    lock: threading.RLock  # of the condition: held by itself it costs a fifth
    condition: threading.Condition
    callbacks: Callbacks
    pid: int  # of the process whose futures they are

    def cancel_future(self, future: TaskFuture) -> bool:
        """Cancel one that is pending; the condition is held. False if it runs."""

    def interrupt(self, indices: list[int]) -> None:
        """Ctrl-C: have tasks end that were sent, those that run too. Never waits."""

    def is_stored(self, index: int) -> bool:
        """Whether the forwarder has stored this task."""

    def pending_reason(self, index: int) -> str:
        """Why this task has not begun."""


class _Extra:
    """What few futures have: somebody who waits, or callbacks."""

    __slots__ = ("blocked", "callbacks", "output", "waiters")

    def __init__(self) -> None:
        self.waiters: list[Any] = []  # of concurrent.futures.wait and as_completed
        self.callbacks: list[Callable[[Any], object]] = []
        self.blocked: list[threading.Lock] = []  # one for each thread in result() or exception()
        self.output = b""  # what the task printed, packed


class TaskFuture(cf.Future):  # type: ignore[type-arg]
    """The future of one task.

    It takes about 0.2 KB: the stream's futures share their condition, and what only some need
    (waiters, callbacks) is made when it is needed.
    """

    __slots__ = ("_exception", "_extra", "_group", "_index", "_result", "_state")

    _group: FutureGroup
    _index: int

    def __init__(self, group: FutureGroup, index: int) -> None:
        self._group = group
        self._index = index
        self._state = PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._extra: _Extra | None = None

    # What the base class keeps in attributes.

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        return self._group.condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._more().waiters

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:
        return self._more().callbacks

    def _more(self) -> _Extra:
        if self._extra is None:
            self._extra = _Extra()
        return self._extra

    # What fxhpc adds.

    @property
    def task_id(self) -> str:
        """The task's id, a UUID string."""
        return ids.task_id(self._group.stream, self._index)

    def pending_reason(self) -> str:
        """Why the task does not run yet, in words; empty if it runs or has ended. Asks for it."""
        return self._group.pending_reason(self._index) if self._state == PENDING else ""

    @property
    def stored(self) -> bool:
        """Whether the task is stored: through a home, it then survives any process's end."""
        return self._group.is_stored(self._index)

    @property
    def stdout(self) -> str:
        """The end of what the task wrote to stdout, if `capture_output` was set; else empty."""
        return str(self.output.get("stdout", ""))

    @property
    def stderr(self) -> str:
        """The end of what the task wrote to stderr, if `capture_output` was set; else empty."""
        return str(self.output.get("stderr", ""))

    @property
    def output(self) -> dict[str, Any]:
        """`stdout`, `stderr`, `stdout_bytes`, `stderr_bytes` of a task that has ended; or empty."""
        return output_of(self._extra.output if self._extra is not None else b"")

    # Where the base class must not be used.

    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self._state in _ENDED

    def cancel(self) -> bool:
        """Cancel the task if it has not begun to run."""
        with self._group.lock:
            if self._state in (RUNNING, FINISHED):
                return False
            if self._state in _ENDED:
                return True
            if not self._group.cancel_future(self):
                return False
            self._end(CANCELLED_AND_NOTIFIED)
        self._tell()
        return True

    def result(self, timeout: float | None = None) -> Any:
        """The function's value, unpacked in this thread at the first call.

        Ctrl-C ends the task with the wait for it.

        Raises:
            CancelledError: the task was cancelled.
            TimeoutError: it has not ended within so many seconds.
            Exception: what the function raised, or why the task was lost.
        """
        if self._exception is not None or self._state is not FINISHED:
            self._await(timeout)
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # no cycle through the traceback
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the function raised, or None; raises as `result` does where there is neither."""
        self._await(timeout)
        return self._exception

    def __repr__(self) -> str:
        state = {CANCELLED_AND_NOTIFIED: "cancelled", CANCELLED: "cancelled"}.get(
            self._state, self._state.lower()
        )
        return f"<TaskFuture {self.task_id} {state}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} is a future, which exists in this process alone: send its result(), or its "
            f"task_id, by which a FuncXClient of the same home finds the task"
        )

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        # asyncio of Python 3.14 reads several facts at once by this.
        if not self.done():
            return False, False, None, None
        if self.cancelled():
            return True, True, None, None
        error = self.exception()
        return True, False, None if error else self._result, error

    def set_result(self, result: Any) -> None:
        """Complete it from outside, as tests do."""
        self._complete_locally(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """Complete it from outside, as tests do."""
        self._complete_locally(None, exception)

    # How it ends.

    def _complete_locally(self, result: Any, exception: BaseException | None) -> None:
        with self._group.lock:
            if self._state in _ENDED:
                raise cf.InvalidStateError(f"{self._state}: {self!r}")
            self._result = result
            self._exception = exception
            self._end(FINISHED, exception is not None)
        self._tell()

    def _end(self, state: str, failed: bool = False) -> None:
        """Enter an end state and tell waiters; the condition is held."""
        self._state = state
        extra = self._extra
        if extra is None:
            return
        for waiter in extra.waiters:
            if state == CANCELLED_AND_NOTIFIED:
                waiter.add_cancelled(self)
            elif failed:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)
        self._release()
        self._group.condition.notify_all()

    def _release(self) -> None:
        """Let the threads in `_wait` look again."""
        extra = self._extra
        while extra is not None and extra.blocked:
            try:
                extra.blocked.pop().release()
            except IndexError:
                break  # another thread popped it

    def _tell(self) -> None:
        """Have the callbacks called; the condition is not held."""
        if self._extra is not None and self._extra.callbacks:
            self._group.callbacks.add(self)

    def _await(self, timeout: float | None) -> None:
        try:
            self._wait(timeout)
        except KeyboardInterrupt:
            interrupt([self])
            raise

    def _wait(self, timeout: float | None) -> None:
        """Return when the future has ended and is unpacked."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._group.lock:
                state = self._state
                if state == FINISHED and self._exception is not _UNPACKING:
                    if self._exception is not _PACKED:
                        return
                    outcome: Outcome = self._result
                    self._exception = _UNPACKING
                    break
                if state in (CANCELLED, CANCELLED_AND_NOTIFIED):
                    raise _cancelled(self.task_id)
                if self._group.pid != os.getpid():
                    raise RuntimeError(
                        f"task {self.task_id} belongs to the parent process {self._group.pid}: "
                        f"a forked child gets no results of it"
                    )
                lock = threading.Lock()
                lock.acquire()
                self._more().blocked.append(lock)
                if state == FINISHED and self._exception is not _UNPACKING:
                    continue  # unpacked just now, without the condition: see `_unpack`
            limit = -1.0
            if deadline is not None:
                limit = max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX))
            ended = False
            try:
                # Not the condition: its notification would wake the waiters of all other futures.
                ended = lock.acquire(timeout=limit)
            finally:
                if not ended:
                    self._unblock(lock)
            if not ended and not (self._state in _ENDED and self._exception is not _UNPACKING):
                raise cf.TimeoutError
        self._unpack(outcome)

    def _unblock(self, lock: threading.Lock) -> None:
        try:
            self._more().blocked.remove(lock)
        except ValueError:
            pass  # released at this moment

    def _unpack(self, outcome: Outcome) -> None:
        """Unpack without the condition: a `__reduce__` that hangs stops this thread alone."""
        result: Any = outcome
        exception: BaseException | None = _PACKED  # if Ctrl-C ends this, another may try
        try:
            try:
                if outcome.kind == VALUE:
                    result, exception = value_of(outcome), None
                else:
                    result, exception = None, error_of(outcome, self.task_id)
            except Exception as error:
                result, exception = None, error
        finally:
            # Without the condition, which `concurrent.futures.wait` may hold while it waits for
            # this. The order counts: whoever sees the exception's place changed reads the result.
            self._result = result
            self._exception = exception
            if self._extra is not None:
                self._release()


def _cancelled(task_id: str) -> cf.CancelledError:
    from fxhpc.errors import TaskCancelled

    error: cf.CancelledError = TaskCancelled(task_id)
    return error


def complete(
    futures: dict[int, TaskFuture], group: FutureGroup, outcomes: Iterable[Outcome]
) -> int:
    """End futures, all under one lock, and take them out of `futures`; return how many.

    Those that are not in `futures` have ended before.
    """
    count = 0
    with_more: list[TaskFuture] = []
    with group.lock:
        for outcome in outcomes:
            future = futures.pop(outcome.index, None)
            if future is None:
                continue
            count += 1
            if future._state in _ENDED:
                continue
            kind = outcome.kind
            if kind == CANCELLED_KIND:
                state = CANCELLED_AND_NOTIFIED
            else:
                state = FINISHED
                future._result = outcome
                future._exception = _PACKED
            if outcome.output:
                future._more().output = outcome.output
            if future._extra is None:
                future._state = state
            else:
                future._end(state, kind != VALUE)
                with_more.append(future)
        group.condition.notify_all()
    for future in with_more:
        future._tell()
    return count


def fail(futures: Iterable[TaskFuture], group: FutureGroup, error: BaseException) -> None:
    """End futures by an error that is not their task's own."""
    with group.lock:
        ended = [future for future in futures if future._state not in _ENDED]
        for future in ended:
            future._exception = error
            future._end(FINISHED, True)
    for future in ended:
        future._tell()


def interrupt(futures: Iterable[TaskFuture]) -> None:
    """Ctrl-C has ended a wait for these: cancel them, and end those that run."""
    groups: dict[int, tuple[FutureGroup, list[int]]] = {}
    for future in futures:
        if future._state != FINISHED:
            future.cancel()
            groups.setdefault(id(future._group), (future._group, []))[1].append(future._index)
    for group, indices in groups.values():
        group.interrupt(indices)


def set_running(futures: Iterable[TaskFuture], group: FutureGroup) -> None:
    """Note that these run now."""
    with group.lock:
        for future in futures:
            if future._state == PENDING:
                future._state = RUNNING
