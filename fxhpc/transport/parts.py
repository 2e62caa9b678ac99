"""Large messages go over tcp in parts, so that whatever arrives of one shows that its sender lives.

A frame is only seen when it is whole. On a slow line a large one may take longer than a silent
peer is waited for, and a heartbeat that was sent later waits behind it. So nothing on a tcp link is
longer than a part, and its receiver hears of every one.

A part is a ZeroMQ message of its own: a head, then pieces of the large message's frames. The
lengths of these frames come first. The head begins with a byte that no msgpack begins with.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

#: Bytes of a part: at 20 kB/s, one still arrives within three heartbeats of 5 s. Parts of 64 KB
#: would halve what a fast network carries.
PART_BYTES = 256 * 1024

#: A message has no more parts than this: they all wait in one queue, see `HIGH_WATER_MARK`.
MOST_PARTS = 1_000

#: The longest message that is put together, in bytes, and its most frames.
MOST_BYTES, MOST_FRAMES = 1 << 30, 1 << 17

_MARK = b"\xc1"
_HEAD = struct.Struct(">cQII")  # the mark, a number of the message, of this part, of all parts

Piece = bytes | memoryview


def is_large(frames: Sequence[bytes]) -> bool:
    """Whether a message is to go in parts."""
    return sum(map(len, frames)) > 2 * PART_BYTES


def is_part(frames: Sequence[bytes]) -> bool:
    """Whether these frames are part of a message; they may be a bad one."""
    return len(frames) > 1 and len(frames[0]) == _HEAD.size and frames[0][:1] == _MARK


def sign_of_life() -> list[bytes]:
    """A part of no message, which shows no more than that somebody lives here. Only to be sent
    between messages: whoever is putting one together drops it.
    """
    return [_HEAD.pack(_MARK, 0, 1, 1), b""]


def split(frames: Sequence[bytes]) -> Iterator[list[Piece]]:
    """The parts of a message, each to be sent as a message."""
    total = sum(map(len, frames))
    size = max(PART_BYTES, -(-total // MOST_PARTS))
    count = 1 + -(-total // size)
    number = random.getrandbits(64)
    yield [_HEAD.pack(_MARK, number, 0, count), struct.pack(f">{len(frames)}I", *map(len, frames))]
    part: list[Piece] = [_HEAD.pack(_MARK, number, 1, count)]
    position, room = 1, size
    for frame in frames:
        rest = memoryview(frame)
        while rest:
            if not room:
                yield part
                position, room = position + 1, size
                part = [_HEAD.pack(_MARK, number, position, count)]
            part.append(rest[:room])
            room -= len(part[-1])
            rest = rest[len(part[-1]) :]
    yield part


class Assembly:
    """Puts messages of one peer together. One at a time: parts of two are never mixed."""

    def __init__(self) -> None:
        self._number = -1
        self._expected = 0  # the next part
        self._count = 0
        self._lengths: list[int] = []
        self._pieces: list[list[bytes]] = []  # of each frame so far
        self._missing = 0  # bytes of the last frame

    def add(self, part: Sequence[bytes]) -> list[bytes] | None:
        """Add a part; the message's frames if it is whole now. Bad or missing ones discard it: that
        it has not arrived shows in the numbers of the link's messages.
        """
        _, number, position, count = _HEAD.unpack(part[0])
        if position == 0:
            if not self._begin(number, count, part[1:]):
                self.clear()
            return None
        if (number, position, count) != (self._number, self._expected, self._count):
            self.clear()
            return None
        self._expected += 1
        if not all(map(self._take, part[1:])):
            self.clear()
            return None
        if self._expected < self._count:
            return None
        self._skip_empty()
        whole = not self._missing and len(self._pieces) == len(self._lengths)
        frames = [b"".join(pieces) for pieces in self._pieces] if whole else None
        self.clear()
        return frames

    def clear(self) -> None:
        """Forget what there is of a message: no more will come."""
        self._number, self._lengths, self._pieces, self._missing = -1, [], [], 0

    def _begin(self, number: int, count: int, rest: Sequence[bytes]) -> bool:
        self.clear()
        if len(rest) != 1 or len(rest[0]) % 4 or not 0 < len(rest[0]) // 4 <= MOST_FRAMES:
            return False
        lengths = list(struct.unpack(f">{len(rest[0]) // 4}I", rest[0]))
        if sum(lengths) > MOST_BYTES:
            return False
        self._number, self._expected, self._count, self._lengths = number, 1, count, lengths
        return True

    def _take(self, piece: bytes) -> bool:
        if not self._missing:
            self._skip_empty()
            if len(self._pieces) == len(self._lengths):
                return False
            self._missing = self._lengths[len(self._pieces)]
            self._pieces.append([])
        if not 0 < len(piece) <= self._missing:
            return False
        self._pieces[-1].append(piece)
        self._missing -= len(piece)
        return True

    def _skip_empty(self) -> None:
        while (
            not self._missing
            and len(self._pieces) < len(self._lengths)
            and not self._lengths[len(self._pieces)]
        ):
            self._pieces.append([])
