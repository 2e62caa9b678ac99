"""Which tasks of a group have ended since somebody looked last. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from fxhpc.protocol.service import GroupStream


class GroupEnded:
    """Compares what is told of a group with what was told before: one byte for each task."""

    def __init__(self) -> None:
        self._told: dict[bytes, bytearray] = {}  # by stream: 1 for each task that has ended

    def take(self, parts: Iterable[GroupStream]) -> dict[bytes, list[int]]:
        """Which tasks have ended, by stream, that had not when this was asked last.

        Args:
            parts: all that the group has now. It may have become more, and less by a purge.
        """
        before, self._told = self._told, {}
        found: dict[bytes, list[int]] = {}
        for part in parts:
            stream = part.summary.stream
            told = self._told[stream] = before.get(stream, bytearray())
            told.extend(bytes(max(0, part.count - len(told))))
            new: list[int] = []
            for first, count in zip(part.ranges[::2], part.ranges[1::2], strict=True):
                stop = min(first + count, len(told))
                at = told.find(0, first, stop)
                while at >= 0:
                    end = told.find(1, at, stop)
                    end = stop if end < 0 else end
                    new += range(at, end)
                    at = told.find(0, end, stop)
                told[first:stop] = b"\1" * max(0, stop - first)
            if new:
                found[stream] = new
        return found

    @property
    def pending(self) -> int:
        """How many have not ended."""
        return sum(told.count(0) for told in self._told.values())

    def first_pending(self, most: int) -> dict[bytes, list[int]]:
        """The first of those that have not ended, by stream: so many at most."""
        found: dict[bytes, list[int]] = {}
        for stream, told in self._told.items():
            at = told.find(0)
            while at >= 0 and most > 0:
                found.setdefault(stream, []).append(at)
                most -= 1
                at = told.find(0, at + 1)
        return found
