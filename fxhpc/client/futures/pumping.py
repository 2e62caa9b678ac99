"""An iterator that waits, for a loop of asyncio: it goes on in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Elements that the thread is ahead of the loop at most.
_AHEAD = 1000


async def pumped(iterator: Iterator[T]) -> AsyncGenerator[T, None]:
    """The elements of an iterator whose steps take time. What it raises is raised here.

    Whoever leaves before the end leaves its thread to end by itself, after the step that it is at.
    """
    pump = _Pump(iterator, asyncio.get_running_loop())
    try:
        while elements := await pump.take():
            for element in elements:
                yield element
    finally:
        pump.stop()


class _Pump(Generic[T]):
    """A thread that reads an iterator ahead of a loop, and wakes it once for all that has come."""

    def __init__(self, iterator: Iterator[T], loop: asyncio.AbstractEventLoop) -> None:
        self._iterator = iterator
        self._loop = loop
        self._news = asyncio.Event()
        self._condition = threading.Condition()
        self._elements: list[T] = []
        self._error: BaseException | None = None
        self._is_over = False
        self._is_stopped = False
        # Not one that the interpreter waits for: what it waits for may never come.
        threading.Thread(target=self._run, name="fxhpc-completions", daemon=True).start()

    async def take(self) -> list[T]:
        """What has come since, or comes next; nothing at the end."""
        while True:
            self._news.clear()
            with self._condition:
                if self._elements:
                    elements, self._elements = self._elements, []
                    self._condition.notify_all()
                    return elements
                if self._is_over:
                    if self._error is not None:
                        raise self._error
                    return []
            await self._news.wait()

    def stop(self) -> None:
        """Nobody wants the rest."""
        with self._condition:
            self._is_stopped = True
            self._elements = []
            self._condition.notify_all()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for element in self._iterator:
                if not self._put(element):
                    break
        except BaseException as raised:  # whoever iterates is told
            error = raised
        finally:
            if (close := getattr(self._iterator, "close", None)) is not None:
                close()
            with self._condition:
                self._error, self._is_over = error, True
            self._tell()

    def _put(self, element: T) -> bool:
        """Hand over an element; whether anybody wants more."""
        with self._condition:
            self._condition.wait_for(lambda: len(self._elements) < _AHEAD or self._is_stopped)
            if self._is_stopped:
                return False
            self._elements.append(element)
            is_first = len(self._elements) == 1
        return self._tell() if is_first else True

    def _tell(self) -> bool:
        """Wake the loop; whether it is still there."""
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # it is closed
            return False
        return True
