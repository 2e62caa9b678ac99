"""Futures of chunks, and of the single calls of these for whoever asks for them."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import threading
from collections.abc import Callable, Generator
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any

from fxhpc import ids
from fxhpc.client.calls import value_in
from fxhpc.client.futures.callbacks import call_back
from fxhpc.client.futures.conditions import Condition
from fxhpc.client.futures.futures import TaskFuture, interrupt, snapshot
from fxhpc.client.shown.details import of_chunk
from fxhpc.protocol.outcome import ERROR, VALUE, Outcome
from fxhpc.serialize import Chunk, unpack_chunk


class ChunkFuture(TaskFuture):
    """The future of a chunk, whose result is a `Chunk`, whichever of its calls have failed."""

    __slots__ = ()

    def call_id(self, call: int) -> str:
        """The id of one of its calls."""
        return ids.task_id(self._group.stream, self._index, call)

    def _unpacked(self, outcome: Outcome) -> tuple[Any, BaseException | None]:
        if outcome.kind not in (VALUE, ERROR):
            return super()._unpacked(outcome)
        try:
            return unpack_chunk(outcome.data), None
        except Exception as error:
            return None, error


def element_futures(chunk: ChunkFuture, size: int) -> list[cf.Future[Any]]:
    """A future for each call of a chunk; asked for once: a second set would know nothing of what
    was cancelled in the first.
    """
    return list(_Elements(chunk, size).futures)


class _Elements:
    """The futures of one chunk's calls."""

    def __init__(self, chunk: ChunkFuture, size: int) -> None:
        self.chunk = chunk
        self.futures = [ElementFuture(self, call) for call in range(size)]
        self._lock = threading.Lock()
        self._unwanted: set[int] = set()  # calls that were cancelled, or whose wait was interrupted
        chunk.add_done_callback(self._on_end)

    def cancel_one(self, call: int) -> None:
        """Note that nobody wants a call; when nobody wants any, all are cancelled at once.

        A worker runs a chunk whole: a call of it does not run only if none does.
        """
        chunk = self.chunk
        if not chunk.cancelled():
            if chunk.running() or chunk.done() or self._are_others_wanted(call):
                return
            if not chunk.cancel():
                return
        for future in self.futures:  # `_on_end` tells of it, and does the same if Ctrl-C comes here
            future.be_cancelled()

    def interrupt_one(self, call: int) -> None:
        """Ctrl-C has ended a wait for a call. When nobody wants any, all end, also if they run."""
        if not self._are_others_wanted(call):
            interrupt([self.chunk])

    def _are_others_wanted(self, call: int) -> bool:
        """Note that nobody wants a call; whether others are wanted still."""
        with self._lock:
            self._unwanted.add(call)
            return len(self._unwanted) < len(self.futures)

    def _on_end(self, chunk: cf.Future[Any]) -> None:
        # Nothing of the user's is unpacked here.
        if chunk.cancelled():
            for future in self.futures:
                future.end_cancelled()
            return
        if chunk.exception() is not None:
            for future in self.futures:
                future.end(chunk.result, failed=True)
            return
        ended: Chunk = chunk.result()
        name = self.chunk.call_id
        for call, future in enumerate(self.futures):
            future.end(functools.partial(value_in, ended, call, name), ended.has_failed(call))


class ElementFuture(cf.Future):  # type: ignore[type-arg]
    """The future of one call in a chunk. Its value is unpacked by whoever asks for it first."""

    _done_callbacks: list[Callable[[cf.Future[Any]], object]]  # of `cf.Future`

    def __init__(self, elements: _Elements, call: int) -> None:
        super().__init__()
        self._condition = Condition()
        self._untold: list[Any] = []  # those who waited when it was cancelled
        self._is_told = False
        self._elements = elements
        self._call = call
        self._source: Callable[[], Any] | None = None
        self.has_failed = False  # it has ended without a value
        self._found: list[tuple[Any, BaseException | None]] = []

    @property
    def task_id(self) -> str:
        """The call's id, a UUID string."""
        return self._elements.chunk.call_id(self._call)

    @property
    def stored(self) -> bool:
        """Whether its chunk is stored: through a home, it then survives any process's end."""
        return self._elements.chunk.stored

    @property
    def stdout(self) -> str:
        """As of a `TaskFuture`, of its chunk: of what its calls wrote together."""
        return self._elements.chunk.stdout

    @property
    def stderr(self) -> str:
        """As of a `TaskFuture`, of its chunk: of what its calls wrote together."""
        return self._elements.chunk.stderr

    @property
    def output(self) -> dict[str, Any]:
        """As of a `TaskFuture`, of its chunk: of what its calls wrote together."""
        return self._elements.chunk.output

    @property
    def details(self) -> dict[str, Any]:
        """As of a `TaskFuture`, of its chunk: when that started, ended, how long it ran and the
        processor time that it took are `chunk_started` and so on.
        """
        return of_chunk(self._elements.chunk.details)

    def pending_reason(self) -> str:
        """Why its chunk does not run yet, in words; empty if it runs or has ended. Asks for it."""
        return self._elements.chunk.pending_reason()

    def __await__(self) -> Generator[Any, None, Any]:
        from fxhpc.client.futures.awaiting import awaiting  # asyncio takes time to import

        self.check_process()
        return awaiting(self)

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else self._state.lower()
        return f"<ElementFuture {self.task_id} {state}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} is a future, which exists in this process alone: send its result(), or its "
            f"task_id, by which a FuncXClient of the same home finds the call"
        )

    # As of a `TaskFuture`, a forked child does not wait for its parent's.

    @property
    def _waiters(self) -> list[Any]:
        self.check_process()
        return self._waiting

    @_waiters.setter
    def _waiters(self, value: list[Any]) -> None:  # by `cf.Future`
        self._waiting = value

    def add_done_callback(self, fn: Callable[[cf.Future[Any]], object]) -> None:
        """Have this called with the future when it has ended, or now."""
        self.check_process()
        super().add_done_callback(fn)

    @property
    def is_of_parent(self) -> bool:
        """Whether this is a forked child, and the call is its parent's and had not ended."""
        return self._state in (PENDING, RUNNING) and self._elements.chunk.is_elsewhere

    def check_process(self) -> None:
        """Make sure that it can be waited for here: see `TaskFuture.check_process`."""
        if self.is_of_parent:
            raise self._elements.chunk.of_parent(self.task_id)

    def running(self) -> bool:
        """Whether its chunk runs."""
        return not self.done() and self._elements.chunk.running()

    def cancel(self) -> bool:
        """Cancel the call; True only if it does not run.

        The calls of a chunk run or are cancelled together. While the chunk has not begun, this says
        False until it has been asked of each of its calls; then all are cancelled.
        """
        if not self.done() and not self.is_of_parent:
            self._elements.cancel_one(self._call)
        return self.cancelled()

    def be_cancelled(self) -> None:
        """The call was cancelled, and does not run; `end_cancelled` is to come, too."""
        with self._condition:
            if self._state == PENDING:
                # No call among these, so that Ctrl-C does not part them.
                self._untold = [*self._waiting]
                self._state = CANCELLED_AND_NOTIFIED

    def end_cancelled(self) -> None:
        """Tell everybody that the call was cancelled. Not in a thread that Ctrl-C may interrupt."""
        with self._condition:
            self.be_cancelled()
            if self._state != CANCELLED_AND_NOTIFIED or self._is_told:
                return
            self._is_told = True
            for waiter in self._untold:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._call_back()

    def end(self, source: Callable[[], Any], failed: bool) -> None:
        """The call has ended.

        Args:
            source: gives its value, or raises.
        """
        with self._condition:
            if self._state not in (PENDING, RUNNING):
                return
            self._source = source
            self.has_failed = failed
            self._state = FINISHED
            for waiter in self._waiting:
                (waiter.add_exception if failed else waiter.add_result)(self)
            self._condition.notify_all()
        self._call_back()

    def _call_back(self) -> None:
        """Whatever these raise, the futures of the calls behind this one are to end, too."""
        for callback in self._done_callbacks:
            call_back(callback, self)

    def result(self, timeout: float | None = None) -> Any:
        """The call's value; raises as a task's future does.

        Ctrl-C ends the chunk with the wait only if nobody wants another call of it.
        """
        value, error = self._wait(timeout)
        if error is None:
            return value
        try:
            raise error
        finally:
            self = error = None  # type: ignore[assignment]  # no cycle through the traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None."""
        return self._wait(timeout)[1]

    def _wait(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        try:
            self.check_process()
            super().exception(timeout)
        except KeyboardInterrupt:
            self._elements.interrupt_one(self._call)
            raise
        found = self._found
        if not found and self._source is not None:
            try:
                pair: tuple[Any, BaseException | None] = (self._source(), None)
            except Exception as error:
                pair = (None, error.with_traceback(None))
            found.append(pair)  # of two who ask at once, the first one's counts
        return found[0] if found else (self._result, self._exception)

    _get_snapshot = snapshot
