"""The tasks that a call is about, by the ids that its caller has for them."""

from __future__ import annotations

import uuid
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.names import task_name
from fxhpc.client.sending.chunk_sizes import ChunkSizes
from fxhpc.protocol import service

#: Positions of names in a selection, by stream and index.
Piece = dict[bytes, dict[int, list[int]]]


class Selection:
    """Tasks that somebody asks for, by the ids that were given, in that order.

    Args:
        task_ids: what was given.
        call: to which call, for an error's text.

    Raises:
        NotAList: it is one id, or nothing that has elements.
        InvalidUUID: one is not a UUID.
    """

    def __init__(self, task_ids: Iterable[Any], call: str = "get_batch_result") -> None:
        is_one = isinstance(task_ids, str | bytes | uuid.UUID | dict)
        if is_one or hasattr(task_ids, "task_id") or not isinstance(task_ids, Iterable):
            raise errors.NotAList(type(task_ids).__name__, call)
        self.names: list[str] = []
        # Of each name; there may be very many, and a tuple for each would be six times as much.
        self._streams: list[bytes] = []
        self._indices = array("I")
        self._calls = array(
            "h"
        )  # which call of a chunk, up to the last that is one; -1: it is none
        streams, indices, which = self._streams, self._indices, self._calls
        prefix, stream, calls = "", b"", 0  # most ids share theirs: they are taken apart by slicing
        known: dict[str, bytes] = {}
        for given in task_ids:
            if type(given) is not str:
                given = getattr(given, "task_id", given)  # of a future
            text = given if type(given) is str else str(given)
            if text[:28] != prefix or len(text) != 36:
                stream, number = task_name(given)
                prefix = text[:28] if len(text) == 36 else ""
                known[prefix] = stream = known.get(prefix, stream) if prefix else stream
                calls = ids.calls_of(stream)
            else:
                try:
                    number = int(text[28:], 16)
                except ValueError:
                    raise errors.InvalidUUID(repr(given)) from None
            if calls:
                number, of_chunk = divmod(number, calls)
                if len(which) < len(indices):
                    which.extend([-1] * (len(indices) - len(which)))
                which.append(of_chunk)
            self.names.append(text)
            streams.append(stream)
            indices.append(number)

    def _add(self, name: str, stream: bytes, index: int, call: int) -> None:
        if call >= 0:
            self._note_call(call)
        self.names.append(name)
        self._streams.append(stream)
        self._indices.append(index)

    def add(self, parts: Iterable[service.StreamRanges], sizes: Mapping[bytes, ChunkSizes]) -> None:
        """Add tasks, as messages name them, that are not among these yet.

        Args:
            parts: the tasks.
            sizes: of the chunks among them, by stream. All calls of a chunk are added; where its
                size is not known, its first.
        """
        known = {(*place, self.call(position)) for position, place in enumerate(self.places)}
        for part in parts:
            stream, of_stream = part.stream, sizes.get(part.stream)
            which: Iterable[int] = (0,) if ids.calls_of(stream) else (-1,)
            for index in ids.from_ranges(part.ranges):
                if of_stream is not None and of_stream.are_known:
                    which = range(of_stream[index])
                for call in which:
                    if (stream, index, call) not in known:
                        self._add(ids.task_id(stream, index, max(0, call)), stream, index, call)

    @property
    def has_calls(self) -> bool:
        """Whether any of them is a call of a chunk."""
        return bool(self._calls)

    def call(self, position: int) -> int:
        """Which call of its task this is; -1: it is a task of its own."""
        return self._calls[position] if position < len(self._calls) else -1

    def calls(self, positions: Iterable[int]) -> list[int]:
        """Which calls these are, all of which are some."""
        calls = self._calls
        return [calls[position] for position in positions]

    def _note_call(self, call: int) -> None:
        """What is added next is this call of a chunk."""
        if (others := len(self.names) - len(self._calls)) > 0:
            self._calls.extend([-1] * others)
        self._calls.append(call)

    def whole(self, sizes: Mapping[bytes, ChunkSizes]) -> dict[bytes, list[int]]:
        """The tasks, by stream; of chunks those alone all of whose calls are named.

        Args:
            sizes: of the chunks, by stream; chunks of other streams are left out.
        """
        named: dict[tuple[bytes, int], set[int]] = {}
        for position, call in enumerate(self._calls):
            if call >= 0:
                place = self._streams[position], self._indices[position]
                named.setdefault(place, set()).add(call)
        tasks = {stream: set(indices) for stream, indices in self.by_stream().items()}
        for (stream, index), calls in named.items():
            size = sizes[stream][index] if stream in sizes else 0
            if not size or not calls.issuperset(range(size)):
                tasks[stream].discard(index)
        return {stream: list(indices) for stream, indices in tasks.items()}

    @property
    def places(self) -> Iterator[tuple[bytes, int]]:
        """Stream and index of each, in the order given."""
        return zip(self._streams, self._indices, strict=True)

    @property
    def streams(self) -> set[bytes]:
        """The streams that they are of."""
        return set(self._streams)

    def __len__(self) -> int:
        return len(self.names)

    def by_stream(self) -> dict[bytes, list[int]]:
        """The indices asked for, of each stream."""
        found: dict[bytes, list[int]] = {}
        for stream, index in self.places:
            found.setdefault(stream, []).append(index)
        return found

    def in_order(self) -> Sequence[int]:
        """The positions of all names, by stream and index. Those of one task stand together."""
        streams, indices = self._streams, self._indices
        seen: set[bytes] = set()
        stream, index = b"", -1
        for following, next_index in self.places:
            if following is not stream:
                if following in seen:
                    break
                seen.add(following)
            elif next_index < index:
                break
            stream, index = following, next_index
        else:
            return range(len(streams))  # as most who ask have them
        order = sorted(range(len(streams)), key=indices.__getitem__)
        order.sort(key=streams.__getitem__)
        return order

    def parts(self, order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
        """Positions in parts of so many, or of more where one would end among those of one task.

        Args:
            order: of which those of one task stand together.
        """
        start = 0
        while start < len(order):
            end = start + size
            if end < len(order):
                end = self._end_of_task(order, end)
            yield order[start:end]
            start = end

    def _end_of_task(self, order: Sequence[int], at: int) -> int:
        """Where the positions end that are of the same task as the one before this place."""
        streams, indices = self._streams, self._indices
        stream, index = streams[order[at - 1]], indices[order[at - 1]]
        return bisect_left(
            order, True, at, key=lambda other: (streams[other], indices[other]) != (stream, index)
        )

    def piece(self, positions: Iterable[int]) -> Piece:
        """The positions of these tasks, which are asked for together, by stream and index."""
        streams, indices = self._streams, self._indices
        found: Piece = {}
        for position in positions:
            there = found.setdefault(streams[position], {})
            there.setdefault(indices[position], []).append(position)
        return found

    def ranges(self) -> list[service.StreamRanges]:
        """The tasks as messages name them."""
        return to_ranges(self.by_stream())


def to_ranges(tasks: dict[bytes, list[int]]) -> list[service.StreamRanges]:
    """Tasks of some streams as messages name them."""
    return [
        service.StreamRanges(stream, ids.to_ranges(set(indices)))
        for stream, indices in tasks.items()
        if indices
    ]
