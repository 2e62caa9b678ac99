"""`Executor.map`: sends calls one by one or in chunks, and reads their values in order."""

from __future__ import annotations

import concurrent.futures as cf
import itertools
import operator
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fxhpc import errors
from fxhpc.client.calls import value_in
from fxhpc.client.declared.resources import Declared
from fxhpc.client.futures.elements import ChunkFuture, element_futures
from fxhpc.client.futures.futures import TaskFuture, interrupt
from fxhpc.client.sending.submitter import Submitter
from fxhpc.serialize import Chunk, PackedFunction, pack_calls
from fxhpc.serialize.chunks import Pack, Row

T = TypeVar("T")

#: Tasks that are numbered and sent under one lock.
_BATCH = 1000


@dataclass(slots=True)
class Entry:
    """One task of a map: a call, or a chunk of so many."""

    future: TaskFuture
    size: int = 0  # 0: a call of its own
    asked: list[cf.Future[Any]] | None = None  # what `Values.futures` has given for it

    def futures(self) -> list[cf.Future[Any]]:
        """One for each of its calls, the same each time."""
        if self.asked is None:
            future = self.future
            if isinstance(future, ChunkFuture):
                self.asked = element_futures(future, self.size)
            else:
                self.asked = [future]
        return self.asked


class Sender:
    """Packs and submits the calls of one map.

    Args:
        pack: packs the arguments of one call.
        limit: bytes that these may take, and those of a chunk of several calls together.
        explained: makes the error of larger ones one that says whose limit it is.
        declared: what a call is declared to be.
        calls: the most that a chunk has; 0: each call is a task of its own.
        buffersize: calls at most that are sent and not read; None sends all at once.
    """

    def __init__(
        self,
        submitter: Submitter,
        rows: Iterator[Row],
        function: PackedFunction,
        pack: Pack,
        limit: int,
        explained: Callable[[errors.PayloadTooLarge], BaseException] | None,
        declared: Declared,
        calls: int,
        buffersize: int | None,
    ) -> None:
        self.entries: deque[Entry] = deque()
        self.place = 0  # calls whose values were read
        self._submitter = submitter
        self._rows: Iterator[Row] | None = rows
        self._function = function
        self._pack = pack
        self._explained = explained
        self._limit = limit
        self._declared = declared
        self._calls = calls
        self._buffersize = buffersize
        self._ahead = 0  # calls that are sent and not read
        self.fill()

    def read(self, count: int) -> None:
        """So many values were read: there is room for others."""
        self._ahead -= count
        self.place += count
        if self._rows is not None:
            self.fill()

    def fill(self) -> None:
        """Send as much as there is room for."""
        size = self._calls or 1
        most = _BATCH * size
        while self._rows is not None:
            room = most
            if self._buffersize is not None:
                room = min(most, self._buffersize - self._ahead)
                if room < size and self._ahead:
                    return
                room = max(room - room % size, min(size, self._buffersize))
            rows = list(itertools.islice(self._rows, room))
            if not rows:
                self._rows = None
                return
            self._ahead += len(rows)
            try:
                self._send(rows)
            except errors.PayloadTooLarge as error:
                if self._explained is None:
                    raise
                raise self._explained(error) from None

    def _send(self, rows: list[Row]) -> None:
        pack, limit, calls = self._pack, self._limit, self._calls
        if not calls:
            payloads = [pack(row, {}, limit) for row in rows]
            futures = self._submitter.submit_many(self._function, payloads, self._declared)
            self.entries += map(Entry, futures)
            return
        packed: list[tuple[bytes, int]] = []
        for first in range(0, len(rows), calls):
            packed += pack_calls(rows[first : first + calls], {}, pack, limit)
        # By their size: an id says how many calls its chunk has, and all of these have so many.
        for size, alike in itertools.groupby(packed, operator.itemgetter(1)):
            futures = self._submitter.submit_many(
                self._function, [payload for payload, _ in alike], self._declared, size, calls
            )
            self.entries += (Entry(future, size) for future in futures)


class Values(Iterator[T], Generic[T]):
    """The values of a map, in the order of its calls.

    Whoever stops reading cancels what has not begun, unless `futures` was asked for.
    """

    def __init__(self, sender: Sender, deadline: float | None) -> None:
        self._entries = sender.entries
        self._kept: list[bool] = []  # not empty: the futures belong to somebody else, too
        # Not the iterator itself: a cycle would keep whatever is not read.
        self._values: Generator[T, None, None] = _values(sender, deadline, self._kept)
        # So that it is closed, which cancels, though nobody has read anything.
        self._values.send(None)

    def __iter__(self) -> Iterator[T]:
        return self._values  # a loop goes faster without `__next__` in between

    def __next__(self) -> T:
        return next(self._values)

    def close(self) -> None:
        """Stop reading."""
        self._values.close()

    @property
    def futures(self) -> list[cf.Future[T]]:
        """A future for each call that was sent and whose value has not been read, in order.

        Each can be waited for on its own. The calls of a chunk are cancelled together: `cancel()`
        says False until it was asked of all of them before the chunk began. They are the same
        futures each time, and stay when the iterator goes.
        """
        self._kept.append(True)
        found: list[cf.Future[T]] = []
        for entry in self._entries:
            found += entry.futures()
        return found


def _values(sender: Sender, deadline: float | None, kept: list[bool]) -> Generator[Any, None, None]:
    """The values in order; no name here keeps one alive that was read."""
    entries = sender.entries
    try:
        yield None  # begun
        while entries:
            if not entries[0].size:
                yield _take(sender, deadline)
                continue
            size = entries[0].size
            chunk: Chunk = _result(sender, deadline)
            values = chunk.values()
            if values is None:
                for call in range(size):
                    yield _value(sender, chunk, call)
            else:
                values.reverse()
                while values:
                    yield values.pop()
            del chunk
            entries.popleft()
            sender.read(size)
    except KeyboardInterrupt:
        interrupt(entry.future for entry in entries)
        raise
    finally:
        if not kept:
            for entry in entries:
                entry.future.cancel()


def _take(sender: Sender, deadline: float | None) -> Any:
    """The next call's value; only then it is taken off."""
    value = _result(sender, deadline)
    sender.entries.popleft()
    sender.read(1)
    return value


def _result(sender: Sender, deadline: float | None) -> Any:
    """The next task's value; if it was lost, the error says which calls it had."""
    entry = sender.entries[0]
    try:
        return entry.future.result(_left(deadline))
    except errors.TaskLost as error:
        if error.task_id != entry.future.task_id:  # the function's own error
            raise
        raise error.of_map(sender.place, entry.size or 1) from None


def _value(sender: Sender, chunk: Chunk, call: int) -> Any:
    """The value of a call of the next task; if the call was given up, the error says which."""
    future = sender.entries[0].future
    assert isinstance(future, ChunkFuture)
    try:
        return value_in(chunk, call, future.call_id)
    except errors.TaskLost as error:
        if call not in chunk.losses:  # the function's own error
            raise
        raise error.of_map(sender.place + call) from None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()


def rows_of(iterables: Iterable[Iterable[Any]]) -> Iterator[Row]:
    """The arguments of each call."""
    return zip(*iterables, strict=False)
