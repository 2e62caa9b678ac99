"""The tasks that a call is about, by the ids that its caller has for them."""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.names import task_name
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
        if isinstance(task_ids, str | bytes | uuid.UUID | dict) or not isinstance(
            task_ids, Iterable
        ):
            raise errors.NotAList(type(task_ids).__name__, call)
        self.names: list[str] = []
        # Of each name; there may be very many, and a tuple for each would be six times as much.
        self._streams: list[bytes] = []
        self._indices = array("I")
        prefixes: dict[str, bytes] = {}  # most ids share theirs: they are taken apart by slicing
        for given in task_ids:
            text = given if type(given) is str else str(given)
            stream = prefixes.get(text[:28]) if len(text) == 36 else None
            if stream is None:
                stream, index = task_name(given)
                prefixes[text[:28]] = stream = self._same(stream)
            else:
                try:
                    index = int(text[28:], 16)
                except ValueError:
                    raise errors.InvalidUUID(repr(given)) from None
            self._add(text, stream, index)

    def _same(self, stream: bytes) -> bytes:
        """A stream's name as the last task has it, if it is the same."""
        return self._streams[-1] if self._streams and self._streams[-1] == stream else stream

    def _add(self, name: str, stream: bytes, index: int) -> None:
        self.names.append(name)
        self._streams.append(stream)
        self._indices.append(index)

    def add(self, parts: Iterable[service.StreamRanges]) -> None:
        """Add tasks, as messages name them, that are not among these yet."""
        known = set(self.places)
        for part in parts:
            for index in ids.from_ranges(part.ranges):
                if (part.stream, index) not in known:
                    self._add(ids.task_id(part.stream, index), part.stream, index)

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
