"""Futures that share one condition per executor, and are completed a message at a time.

They are `concurrent.futures.Future`s in every way that can be seen. What differs: a result stays
packed until somebody asks for it, and is then unpacked once, in the thread that asks.
"""

from __future__ import annotations

import concurrent.futures as cf
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import Any, Protocol

from fxhpc import ids, interrupts
from fxhpc.client.futures.callbacks import Callbacks
from fxhpc.client.futures.conditions import Condition
from fxhpc.client.outcomes import unpacked
from fxhpc.client.shown.details import output_in, run_in
from fxhpc.client.shown.output import printed_in
from fxhpc.protocol.outcome import Outcome

PACKED = cf.CancelledError("packed")  # in the place of an exception: the outcome is still packed
UNPACKING = cf.CancelledError("unpacking")  # a thread unpacks it now
_here = [os.getpid()]  # this process: to ask the kernel costs as much as a future
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _here.__setitem__(0, os.getpid()))
ENDED = (CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED)


class FutureGroup(Protocol):
    """What the futures of one stream share."""

    stream: bytes
    lock: threading.RLock  # of the condition: held by itself it costs a fifth
    condition: Condition
    callbacks: Callbacks
    pid: int  # of the process whose futures they are

    def cancel_future(self, future: TaskFuture) -> bool:
        """Cancel one that is pending: as a whole, or not at all, whenever Ctrl-C comes. The
        condition is held. False if it runs.
        """

    def tell_cancelled(self, future: TaskFuture) -> None:
        """Tell everybody that one was cancelled, also if Ctrl-C has ended an earlier try."""

    def interrupt(self, indices: list[int]) -> None:
        """Ctrl-C: have tasks end that were sent, those that run too. Never waits."""

    def is_stored(self, index: int) -> bool:
        """Whether the forwarder has stored this task."""

    def pending_reason(self, index: int) -> str:
        """Why this task has not begun."""


#: What is told of a task beside how it ended, packed; how long it ran, and on which host.
_NOTHING_TOLD = (b"", 0.0, "")


class _Extra:
    """What few futures have: somebody who waits, or callbacks."""

    __slots__ = ("blocked", "callbacks", "told", "untold", "waiters")

    def __init__(self) -> None:
        self.untold: list[Any] = []  # of the waiters, when it was cancelled
        self.waiters: list[Any] = []  # of concurrent.futures.wait and as_completed
        self.callbacks: list[Callable[[Any], object]] = []
        self.blocked: list[threading.Lock] = []  # one for each thread in result() or exception()
        self.told = _NOTHING_TOLD


def snapshot(future: cf.Future[Any]) -> tuple[bool, bool, Any, BaseException | None]:
    """Whether it is done, whether cancelled, its value, its error: asyncio of Python 3.14 reads
    these at once.
    """
    if not future.done():
        return False, False, None, None
    if future.cancelled():
        return True, True, None, None
    error = future.exception()
    return True, False, None if error else future.result(), error


class TaskFuture(cf.Future):  # type: ignore[type-arg]
    """The future of one task.

    It takes about 0.2 KB: the stream's futures share their condition, and what only some need
    (waiters, callbacks) is made when it is needed.
    """

    __slots__ = ("_exception", "_extra", "_group", "_index", "_result", "_state")

    _group: FutureGroup
    _index: int
    _unpacked = unpacked

    def __init__(self, group: FutureGroup, index: int) -> None:
        self._group = group
        self._index = index
        self._state = PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._extra: _Extra | None = None

    # What the base class keeps in attributes.

    @property
    def _condition(self) -> Condition:  # type: ignore[override]
        return self._group.condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        self.check_process()
        return self._more().waiters

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:
        self.check_process()
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
        return printed_in(output_in(self._extra.told[0])) if self._extra is not None else {}

    @property
    def details(self) -> dict[str, Any]:
        """How a task that has ended ran, if that took 10 ms or longer; or empty.

        `host`, `worker_pid`, `started` and `ended` (seconds since the epoch), `ran_s`, `cpu_s`,
        `peak_memory` (bytes), `python`, `fxhpc` and `dill` (versions); if it was lost before
        `attempt` and `attempts`: as `FuncXClient.get_task` has them.
        """
        if self._extra is None or not self._extra.told[0]:
            return {}
        packed, ran, host = self._extra.told
        return {"host": host, "ran_s": ran, **run_in(output_in(packed), ran)}

    # Where the base class must not be used.

    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self._state in ENDED

    def cancel(self) -> bool:
        """Cancel the task if it has not begun to run, and is this process's own."""
        group = self._group
        if self.is_of_parent:
            return False
        try:
            with group.lock:
                if self._state in (RUNNING, FINISHED):
                    return False
                if self._state in ENDED:
                    return True
                if not group.cancel_future(self):
                    return False
            group.tell_cancelled(self)
        except BaseException:  # Ctrl-C
            if self._state == CANCELLED_AND_NOTIFIED:
                group.tell_cancelled(self)
            raise
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

    def __await__(self) -> Generator[Any, None, Any]:
        from fxhpc.client.futures.awaiting import awaiting  # asyncio takes time to import

        self.check_process()
        return awaiting(self)

    @property
    def is_of_parent(self) -> bool:
        """Whether this is a forked child, and the task is its parent's and had not ended."""
        return self._group.pid != _here[0] and self._state not in ENDED

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is a forked child, and the task its parent's."""
        return self._group.pid != _here[0]

    def of_parent(self, task_id: str) -> RuntimeError:
        """What is said to a forked child of its parent's task."""
        return RuntimeError(
            f"task {task_id} belongs to the parent process {self._group.pid}: "
            f"a forked child gets no results of it"
        )

    def check_process(self) -> None:
        """Make sure that it can be waited for here.

        Raises:
            RuntimeError: it is the parent process's, and has not ended.
        """
        if self.is_of_parent:
            raise self.of_parent(self.task_id)

    def __repr__(self) -> str:
        return f"<TaskFuture {self.task_id} {self._words()}>"

    def _repr_html_(self) -> str:
        from fxhpc.client.shown import notebooks

        return notebooks.of_future(self.task_id, self._words())

    def _words(self) -> str:
        cancelled = self._state in (CANCELLED_AND_NOTIFIED, CANCELLED)
        return "cancelled" if cancelled else self._state.lower()

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} is a future, which exists in this process alone: send its result(), or its "
            f"task_id, by which a FuncXClient of the same home finds the task"
        )

    _get_snapshot = snapshot

    def set_result(self, result: Any) -> None:
        """Complete it from outside, as tests do."""
        self._complete_locally(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """Complete it from outside, as tests do."""
        self._complete_locally(None, exception)

    # How it ends.

    def _complete_locally(self, result: Any, exception: BaseException | None) -> None:
        with self._group.lock:
            if self._state in ENDED:
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

    def tell_cancelled(self) -> None:
        """Tell whoever waited when it was cancelled, each once. Not in a thread that Ctrl-C may
        interrupt: a waiter of the standard library does not bear to be told twice, or by half.
        """
        extra = self._more()
        with self._group.lock:
            untold, extra.untold = extra.untold, []
            for waiter in untold:
                waiter.add_cancelled(self)
            self._release()
        self._tell()

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
        mine: Outcome | None = None  # what this thread unpacks
        result: Any = None
        exception: BaseException | None = PACKED  # if Ctrl-C ends this, another may try
        try:
            while True:
                with self._group.lock:
                    state = self._state
                    if state == FINISHED and self._exception is not UNPACKING:
                        if self._exception is not PACKED:
                            return
                        # No call among these, so that Ctrl-C does not part them.
                        mine = result = self._result
                        self._exception = UNPACKING
                        break
                    if state in (CANCELLED, CANCELLED_AND_NOTIFIED):
                        raise _cancelled(self.task_id)
                    self.check_process()
                    lock = threading.Lock()
                    lock.acquire()
                    self._more().blocked.append(lock)
                    if state == FINISHED and self._exception is not UNPACKING:
                        continue  # unpacked just now, without the condition: see below
                self._block(lock, deadline)
            # Without the condition: a `__reduce__` that hangs stops this thread alone.
            result, exception = self._unpacked(mine)
        finally:
            if mine is not None:
                # Without the condition, which `concurrent.futures.wait` may hold while it waits for
                # this. The order counts: whoever sees the exception's place changed reads the
                # result.
                self._result = result
                self._exception = exception
                if self._extra is not None:
                    self._release()

    def _block(self, lock: threading.Lock, deadline: float | None) -> None:
        """Wait for a lock of those that are released when there is news.

        Raises:
            TimeoutError: there is none.
        """
        limit = None if deadline is None else deadline - time.monotonic()
        ended = False
        try:
            # Not the condition: its notification would wake the waiters of all other futures.
            ended = interrupts.acquire(lock, limit)
        finally:
            if not ended:
                self._unblock(lock)
        if not ended and not (self._state in ENDED and self._exception is not UNPACKING):
            raise cf.TimeoutError

    def _unblock(self, lock: threading.Lock) -> None:
        try:
            self._more().blocked.remove(lock)
        except ValueError:
            pass  # released at this moment


def _cancelled(task_id: str) -> cf.CancelledError:
    from fxhpc.errors import TaskCancelled

    error: cf.CancelledError = TaskCancelled(task_id)
    return error


def interrupt(futures: Iterable[TaskFuture]) -> None:
    """Ctrl-C has ended a wait for these: cancel them, and end those that run."""
    groups: dict[int, tuple[FutureGroup, list[int]]] = {}
    for future in futures:
        if future._state != FINISHED and not future.is_of_parent:
            future.cancel()
            groups.setdefault(id(future._group), (future._group, []))[1].append(future._index)
    for group, indices in groups.values():
        group.interrupt(indices)
