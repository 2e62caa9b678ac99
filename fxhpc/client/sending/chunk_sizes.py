"""How many calls the chunks of a stream have, as its `StreamInfo.sizes` says it."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from fxhpc import ids


def pack_sizes(sizes: Iterable[int]) -> tuple[int, ...]:
    """The sizes of chunks as a size, how many chunks in a row have it, the next size, ...

    >>> pack_sizes([4, 4, 2, 2, 3])
    (4, 2, 2, 2, 3, 1)
    """
    packed: list[int] = []
    for size, alike in itertools.groupby(sizes):
        packed += (size, sum(1 for _ in alike))
    return tuple(packed)


class ChunkSizes:
    """Which calls the chunks of a stream have.

    Args:
        stream: its name.
        packed: as `pack_sizes` made it; empty if that is not known, as of an Executor's,
            which has a stream for each size as long as these are few.
    """

    def __init__(self, stream: bytes, packed: Sequence[int]) -> None:
        self._most = ids.calls_of(stream)
        self._sizes = packed[::2]
        self._ends = list(itertools.accumulate(packed[1::2]))
        self.are_known = bool(self._ends)

    def __getitem__(self, index: int) -> int:
        """How many calls a chunk has; 0 if there is no such chunk. Where the sizes are not known,
        it is the most that it may have.
        """
        if not self.are_known:
            return self._most
        at = bisect_right(self._ends, index)
        return min(self._sizes[at], self._most) if at < len(self._ends) else 0
