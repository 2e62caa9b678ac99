"""The tasks of an asynchronous client: futures of asyncio, which are the tasks' ids as well."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
from collections.abc import Callable
from typing import Any

from fxhpc import errors
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.futures.awaiting import Awaited, Waiter, awaited_in
from fxhpc.client.futures.reloading import futures_of
from fxhpc.client.names import task_name
from fxhpc.client.sending.submitter import Submitter
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol.messages import StreamInfo

#: Characters of an id that say which stream it is of.
_PREFIX = 28


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
