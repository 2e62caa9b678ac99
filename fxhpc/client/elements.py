"""Futures of the single calls of a chunk, for those who ask for them."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import threading
from collections.abc import Callable
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any

from fxhpc.chunks import Chunk
from fxhpc.client.futures import TaskFuture, interrupt
from fxhpc.client.splitting import Singles


def element_futures(chunk: TaskFuture, size: int) -> list[cf.Future[Any]]:
    """A future for each call of a chunk; asked for once: a second set would know nothing of what
    was cancelled in the first.
    """
    return list(_Elements(chunk, size).futures)


class _Elements:
    """The futures of one chunk's calls."""

    def __init__(self, chunk: TaskFuture, size: int) -> None:
        self.chunk = chunk
        self.futures = [ElementFuture(self, place) for place in range(size)]
        self._lock = threading.Lock()
        self._unwanted: set[int] = set()  # places of calls that were to be cancelled
        chunk.add_done_callback(self._on_end)

    def cancel_one(self, place: int) -> None:
        """Note that nobody wants a call; when nobody wants any, all are cancelled at once.

        A worker runs a chunk whole: a call of it does not run only if none does.
        """
        chunk = self.chunk
        if not chunk.cancelled():
            if chunk.running() or chunk.done():
                return
            with self._lock:
                self._unwanted.add(place)
                if len(self._unwanted) < len(self.futures):
                    return
            if not chunk.cancel():
                return
        for future in self.futures:
            future.end_cancelled()

    def is_wanted(self, place: int) -> bool:
        """Whether a call is to run if it can be cancelled without others."""
        with self._lock:
            return place not in self._unwanted

    def _on_end(self, chunk: cf.Future[Any]) -> None:
        # Nothing of the user's is unpacked here.
        if chunk.cancelled():
            for future in self.futures:
                future.end_cancelled()
            return
        error = chunk.exception()
        found: Chunk | Singles | None = None if error is not None else chunk.result()
        for place, future in enumerate(self.futures):
            if isinstance(found, Chunk):
                source = functools.partial(found.value, place)
                future.end(source, failed=place in found.failures)
            elif found is None:
                future.end(chunk.result, failed=True)
            else:
                future.follow(found[place])


class ElementFuture(cf.Future):  # type: ignore[type-arg]
    """The future of one call in a chunk. Its value is unpacked by whoever asks for it first."""

    def __init__(self, elements: _Elements, place: int) -> None:
        super().__init__()
        self._elements = elements
        self.place = place  #: in its chunk: what `Chunk.value` is asked for
        self._single: TaskFuture | None = None  # once the call runs as a task of its own
        self._source: Callable[[], Any] | None = None
        self._found: list[tuple[Any, BaseException | None]] = []

    @property
    def task_id(self) -> str:
        """The id of the task that makes this call: the chunk's, or its own if that was lost.

        A client of the same home gets a `Chunk` for the former, whose `value(place)` is the call's.
        """
        return (self._single or self._elements.chunk).task_id

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else self._state.lower()
        return f"<ElementFuture {self.place} of {self.task_id} {state}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} is a future, which exists in this process alone: send its result()"
        )

    def running(self) -> bool:
        """Whether its chunk runs."""
        return not self.done() and (self._single or self._elements.chunk).running()

    def cancel(self) -> bool:
        """Cancel the call; True only if it does not run.

        The calls of a chunk run or are cancelled together. While the chunk has not begun, this says
        False until it has been asked of each of its calls; then all are cancelled.
        """
        if not self.done():
            if self._single is None:
                self._elements.cancel_one(self.place)
            elif self._single.cancel():
                self.end_cancelled()
        return self.cancelled()

    def end_cancelled(self) -> None:
        """The call was cancelled, and does not run."""
        with self._condition:
            if self._state != PENDING:
                return
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]

    def follow(self, single: TaskFuture) -> None:
        """The chunk was lost: the call runs as a task of its own."""
        self._single = single
        if not self._elements.is_wanted(self.place):
            single.cancel()
        single.add_done_callback(self._on_single)

    def _on_single(self, single: cf.Future[Any]) -> None:
        if single.cancelled():
            self.end_cancelled()
        else:
            self.end(single.result, failed=single.exception() is not None)

    def end(self, source: Callable[[], Any], failed: bool) -> None:
        """The call has ended.

        Args:
            source: gives its value, or raises.
        """
        with self._condition:
            if self._state not in (PENDING, RUNNING):
                return
            self._source = source
            self._state = FINISHED
            for waiter in self._waiters:
                (waiter.add_exception if failed else waiter.add_result)(self)
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]

    def result(self, timeout: float | None = None) -> Any:
        """The call's value; raises as a task's future does."""
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
            super().exception(timeout)
        except KeyboardInterrupt:
            interrupt([self._single or self._elements.chunk])
            raise
        found = self._found
        if not found and self._source is not None:
            try:
                pair: tuple[Any, BaseException | None] = (self._source(), None)
            except Exception as error:
                pair = (None, error.with_traceback(None))
            found.append(pair)  # of two who ask at once, the first one's counts
        return found[0] if found else (self._result, self._exception)

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        # asyncio of Python 3.14 reads several facts at once by this.
        if not self.done():
            return False, False, None, None
        if self.cancelled():
            return True, True, None, None
        error = self.exception()
        return True, False, None if error else self.result(), error
