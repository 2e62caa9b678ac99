"""What ends, as it ends: for `for` and for `async for`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Completions(Generic[T]):
    """An iterator, of which `async for` can be asked as well; one of the two, and once.

    Args:
        iterator: waits for what it gives.
        awaited: makes the same for asyncio; if there is none, the iterator goes on in a thread.
    """

    def __init__(
        self, iterator: Iterator[T], awaited: Callable[[], AsyncIterator[T]] | None = None
    ) -> None:
        self._iterator = iterator
        self._awaited = awaited

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return next(self._iterator)

    def __aiter__(self) -> AsyncIterator[T]:
        if self._awaited is not None:
            return self._awaited()
        from fxhpc.client.futures.pumping import pumped  # asyncio takes time to import

        return pumped(self._iterator)

    def close(self) -> None:
        """Let go of what is not read."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
