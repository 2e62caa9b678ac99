"""`Executor.map`: sends calls one by one or in chunks, and reads their values in order."""

from __future__ import annotations

import concurrent.futures as cf
import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fxhpc import errors
from fxhpc.chunks import Chunk
from fxhpc.client.elements import element_futures
from fxhpc.client.futures import TaskFuture, interrupt
from fxhpc.client.resources import Declared
from fxhpc.client.splitting import Chunks, Pack, Singles
from fxhpc.client.submitter import Submitter
from fxhpc.serialize import PackedFunction
from fxhpc.serialize.rows import pack_rows

T = TypeVar("T")

Row = tuple[Any, ...]

#: Tasks that are numbered and sent under one lock.
_BATCH = 1000

#: What one call more takes in a chunk than alone: a tuple around it.
_ROOM = 100


@dataclass(slots=True)
class Entry:
    """One task of a map: a call, or a chunk of so many."""

    future: TaskFuture
    size: int = 0  # 0: a call of its own
    asked: list[cf.Future[Any]] | None = None  # what `Values.futures` has given for it

    def futures(self) -> list[cf.Future[Any]]:
        """One for each of its calls, the same each time."""
        if self.asked is None:
            self.asked = element_futures(self.future, self.size) if self.size else [self.future]
        return self.asked

    def split(self, singles: Singles) -> list[Entry]:
        """What stands for a chunk whose calls were run again."""
        if self.asked is None:
            return [Entry(single) for single in singles]
        return [Entry(single, 0, [one]) for single, one in zip(singles, self.asked, strict=True)]


class Sender:
    """Packs and submits the calls of one map.

    Args:
        chunked: calls the function for a chunk of rows; None if each call is a task of its own.
        pack: packs the arguments of one call.
        pack_strictly: packs those of a chunk, and refuses what is too large.
        size: calls in a chunk.
        buffersize: calls at most that are sent and not read; None sends all at once.
    """

    def __init__(
        self,
        submitter: Submitter,
        rows: Iterator[Row],
        function: PackedFunction,
        chunked: PackedFunction | None,
        pack: Pack,
        pack_strictly: Pack,
        limit: int,
        declared: Declared,
        size: int,
        buffersize: int | None,
    ) -> None:
        self.entries: deque[Entry] = deque()
        self.place = 0  # calls whose values were read
        self._submitter = submitter
        self._rows: Iterator[Row] | None = rows
        self._function = function
        self._chunked = chunked
        self._pack = pack
        self._pack_strictly = pack_strictly
        self._limit = limit
        self._declared = declared
        self._size = 1 if chunked is None else size
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
        size = self._size
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
            self._send(rows)

    def _send(self, rows: list[Row]) -> None:
        pack, limit, size = self._pack, self._limit, self._size
        if self._chunked is None:
            payloads = [pack(row, {}, limit) for row in rows]
            futures = self._submitter.submit_many(self._function, payloads, self._declared)
            self.entries += map(Entry, futures)
            return
        packed: list[tuple[bytes, int]] = []
        for first in range(0, len(rows), size):
            packed += self._pack_chunk(rows[first : first + size])
        futures = self._submitter.submit_many(
            self._chunked,
            [payload for payload, _ in packed],
            self._declared,
            chunks=Chunks(self._function, pack, limit, self._declared),
        )
        self.entries += map(Entry, futures, (count for _, count in packed))

    def _pack_chunk(self, rows: list[Row]) -> list[tuple[bytes, int]]:
        """A chunk's payload and size; of several chunks if it is too large for one."""
        count = len(rows)
        small = pack_rows(rows, self._limit)
        if small is not None:
            return [(small, count)]
        try:
            # One alone may go to where larger ones go.
            pack = self._pack if count == 1 else self._pack_strictly
            return [(pack(tuple(rows), {}, self._limit + _ROOM), count)]
        except errors.PayloadTooLarge:
            if count == 1:
                raise
        middle = count // 2
        return self._pack_chunk(rows[:middle]) + self._pack_chunk(rows[middle:])


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
            entry = entries[0]
            found: Chunk | Singles = _result(sender, deadline)
            if isinstance(found, Singles):
                entries.popleft()
                entries.extendleft(reversed(entry.split(found)))
                del entry, found  # they have the futures, and these their values
                continue
            values = found.values()
            if values is None:
                for place in range(len(found)):
                    yield found.value(place)
            else:
                values.reverse()
                while values:
                    yield values.pop()
            entries.popleft()
            sender.read(entry.size)
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
    """The next future's value; if its task was lost, the error says which calls it had."""
    entry = sender.entries[0]
    try:
        return entry.future.result(_left(deadline))
    except errors.TaskLost as error:
        if error.task_id != entry.future.task_id:  # the function's own error
            raise
        raise error.of_map(sender.place, entry.size or 1) from None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()


def rows_of(iterables: Iterable[Iterable[Any]]) -> Iterator[Row]:
    """The arguments of each call."""
    return zip(*iterables, strict=False)
