"""Futures that are awaited in asyncio, one or many.

A loop is woken once for all that has ended meanwhile, however many futures it awaits, and by the
thread that has their outcomes. Values are unpacked in the loop's thread, when they are asked for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import functools
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import Any

#: Seconds that a loop is kept from other work at a time by what has ended.
_TURN_S = 0.005

Told = Callable[["cf.Future[Any]"], object]


class Awaited:
    """What has ended of all that one loop awaits, and has not been told there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._ended: deque[tuple[Told, cf.Future[Any]]] = deque()
        self._is_woken = False

    def note(self, told: Told, future: cf.Future[Any]) -> None:
        """A future has ended: somebody is to be told in the loop. In any thread; never waits."""
        self._ended.append((told, future))
        if not self._is_woken:
            self._is_woken = True
            loop = self._loop()
            try:
                if loop is not None:
                    loop.call_soon_threadsafe(self._tell)
            except RuntimeError:
                pass  # it is closed: nobody awaits anything there

    def _tell(self) -> None:
        self._is_woken = False  # first: what ends from here on may not be seen below
        until = time.monotonic() + _TURN_S
        while self._ended:
            told, future = self._ended.popleft()
            told(future)
            if self._ended and time.monotonic() >= until:
                loop = self._loop()
                if loop is not None:
                    self._is_woken = True
                    loop.call_soon(self._tell)
                return


class Waiter:
    """Has somebody told in a loop when a future has ended. It is what `concurrent.futures` calls a
    waiter: told by whoever ends the future, with its condition held.
    """

    __slots__ = ("_awaited", "_told")

    def __init__(self, awaited: Awaited, told: Told) -> None:
        self._awaited = awaited
        self._told = told

    def add_result(self, future: cf.Future[Any]) -> None:
        """A future has ended."""
        self._awaited.note(self._told, future)

    add_exception = add_result
    add_cancelled = add_result

    def wait_for(self, future: Any) -> None:
        """Wait for a future, too."""
        with future._condition:
            if not future.done():
                future._waiters.append(self)
                return
        self.add_result(future)

    def forget(self, future: Any) -> None:
        """Do not wait for it any more."""
        with future._condition:
            if self in future._waiters:
                future._waiters.remove(self)


_awaited: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Awaited] = (
    weakref.WeakKeyDictionary()
)
_lock = threading.Lock()


def awaited_in(loop: asyncio.AbstractEventLoop) -> Awaited:
    """What a loop awaits."""
    with _lock:
        found = _awaited.get(loop)
        if found is None:
            found = _awaited[loop] = Awaited(loop)
        return found


def _wake(signal: asyncio.Future[None], _: cf.Future[Any]) -> None:
    """A future has ended. Its value is left where it is, for whoever awaits it."""
    if not signal.done():
        signal.set_result(None)


def awaiting(future: cf.Future[Any]) -> Generator[Any, None, Any]:
    """What `await future` does: gives its value, or raises as `result` does.

    If whoever awaits it is cancelled, so is the task, if it has not begun to run.

    Raises:
        CancelledError: of asyncio: this was cancelled, or the task.
    """
    if not future.done():
        loop = asyncio.get_running_loop()
        signal: asyncio.Future[None] = loop.create_future()
        waiter = Waiter(awaited_in(loop), functools.partial(_wake, signal))
        waiter.wait_for(future)
        try:
            yield from signal
        except asyncio.CancelledError:
            future.cancel()
            raise
        finally:
            waiter.forget(future)
    if future.cancelled():
        raise asyncio.CancelledError(f"{future!r}")
    return future.result()


async def as_completed(
    futures: Iterable[cf.Future[Any]], timeout: float | None = None
) -> AsyncIterator[Any]:
    """Futures as they end, each once.

    Raises:
        TimeoutError: not all have ended within so many seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    ended: deque[cf.Future[Any]] = deque()
    news = asyncio.Event()

    def told(future: cf.Future[Any]) -> None:
        ended.append(future)
        news.set()

    waiter = Waiter(awaited_in(loop), told)
    waiting = dict.fromkeys(futures)
    count = len(waiting)
    try:
        for future in waiting:
            waiter.wait_for(future)
        while waiting:
            while ended:
                future = ended.popleft()
                del waiting[future]
                yield future
            if not waiting:
                return
            news.clear()
            if deadline is None:
                await news.wait()
                continue
            try:
                await asyncio.wait_for(news.wait(), deadline - loop.time())
            except asyncio.TimeoutError:
                words = f"{len(waiting)} (of {count}) futures unfinished"
                raise cf.TimeoutError(words) from None
    finally:
        for future in waiting:
            waiter.forget(future)
