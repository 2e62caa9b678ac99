"""Tasks in asyncio: futures that are awaited, and the tasks of an asynchronous client.

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

from fxhpc import errors
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.futures.reloading import futures_of
from fxhpc.client.names import task_name
from fxhpc.client.sending.submitter import Submitter
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol.messages import StreamInfo

#: Seconds that a loop is kept from other work at a time by what has ended.
_TURN_S = 0.005

#: Characters of an id that say which stream it is of.
_PREFIX = 28

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


class _ClientClosed(errors.ForwarderError):
    """The client of a task was closed before the task had ended."""


class AsyncTask(asyncio.Future):  # type: ignore[type-arg]
    """A task of an asynchronous client, to be awaited. Calls that want an id take it as well.

    To cancel it cancels the task, if that has not begun to run.
    """

    def __init__(
        self,
        task_id: str,
        future: cf.Future[Any],
        loop: asyncio.AbstractEventLoop,
        awaited: Awaited,
    ) -> None:
        super().__init__(loop=loop)
        self._task_id = task_id
        self._source = future
        self._waiter = Waiter(awaited, self._take)
        self._waiter.wait_for(future)

    @property
    def task_id(self) -> str:
        """The task's id, a UUID string."""
        return self._task_id

    def __str__(self) -> str:
        return self._task_id

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "finished" if self.done() else "pending"
        return f"<AsyncTask {self._task_id} {state}>"

    def cancel(self, msg: Any = None) -> bool:
        """Do not wait for it any more, and cancel the task if it has not begun."""
        if not super().cancel(msg):
            return False
        self._waiter.forget(self._source)
        self._source.cancel()
        return True

    def _take(self, future: cf.Future[Any]) -> None:
        if self.done():
            return
        if future.cancelled():
            super().cancel(f"task {self._task_id} was cancelled")
            return
        error = future.exception()
        if error is None:
            self.set_result(future.result())
        elif isinstance(error, StopIteration):  # which no future of asyncio can have
            told = RuntimeError(f"task {self._task_id} raised StopIteration")
            told.__cause__ = error
            self.set_exception(told)
        else:
            self.set_exception(error)
            if isinstance(error, _ClientClosed):
                self._log_traceback = False  # else each would be logged of which nobody asks


class AsyncTasks:
    """What an asynchronous client gives out in the place of ids.

    Args:
        share: the client's attachment, held once more.
        info: what a stream of the client's is.
    """

    def __init__(
        self, share: Callable[[], Attachment], info: Callable[[bytes], StreamInfo]
    ) -> None:
        self._submitter = Submitter(share, LOCAL_ENDPOINT, {"keep": True})
        self._info = info

    def of(self, task_ids: list[str], loop: asyncio.AbstractEventLoop) -> list[AsyncTask]:
        """Something to be awaited in this loop for each of these tasks, in this order."""
        places: dict[str, tuple[list[int], list[int]]] = {}  # by stream: positions and indices
        for position, task_id in enumerate(task_ids):
            positions, indices = places.setdefault(task_id[:_PREFIX], ([], []))
            positions.append(position)
            indices.append(int(task_id[_PREFIX:], 16))
        awaited = awaited_in(loop)
        found: list[Any] = [None] * len(task_ids)
        for positions, indices in places.values():
            stream, _ = task_name(task_ids[positions[0]])
            futures = futures_of(self._submitter, self._info(stream), indices)
            for position, future in zip(positions, futures, strict=True):
                found[position] = AsyncTask(task_ids[position], future, loop, awaited)
        return found

    def close(self) -> None:
        """The client is closed: what is awaited fails, and the tasks go on."""
        self._submitter.fail_open(
            _ClientClosed(
                "the client that this task was submitted by was closed before the task had ended; "
                "the task goes on, and get_result(id) of another client has its result"
            )
        )
        self._submitter.close()


def check_loop(given: Any) -> asyncio.AbstractEventLoop:
    """What was given as a loop.

    Raises:
        UsageError: it is none, or closed.
    """
    if not isinstance(given, asyncio.AbstractEventLoop):
        raise errors.UsageError(f"loop={given!r}: it is an event loop of asyncio.")
    if given.is_closed():
        raise errors.UsageError(f"loop={given!r}: it is closed, and nothing can be awaited.")
    return given


def loop_for(given: Any) -> asyncio.AbstractEventLoop:
    """The loop that new tasks are for: the one that was given, or the one that runs here.

    Raises:
        UsageError: there is none.
    """
    if given is not None:
        return check_loop(given)
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise errors.UsageError(
            "A client with asynchronous=True gives out tasks of asyncio, which need a loop, and "
            "none runs in this thread; nothing was submitted. Call it in a coroutine "
            "(asyncio.run(main())), give the client one (loop=), or leave asynchronous=True out."
        ) from None
