"""Files of large results that workers have written: found, measured, and removed with their tasks.

A file lies in a folder named by its task's stream. It may go when the forwarder does not know that
stream any more: purged, too old, or of a client that has ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fxhpc.forwarder.home import SPILL, Home
from fxhpc.ids import STREAM_BYTES

#: Seconds between two looks. What is unknown at two looks goes.
LOOK_S = 20.0

#: Files that one look removes at most, since others wait meanwhile.
_MOST = 500

#: Seconds between two steps of a count, and files that a step looks at: 1 ms on a local disk.
_COUNT_S = 1.0
_COUNTED = 500


def spill_directories(home: Home) -> list[str]:
    """The directories of a home and of its endpoints, as far as they are known."""
    found = [os.fspath(home.spill)]
    for record in sorted(home.endpoints.glob("*/endpoint.json")):
        state = record.parent
        with contextlib.suppress(OSError, UnicodeDecodeError):
            state = Path((state / "state_dir").read_text().removesuffix("\n") or state)
        found.append(os.fspath(state / SPILL))
    return found


def size_of(directories: Iterable[str]) -> int:
    """Bytes of all files there."""
    return sum(_sizes(directories))


class SpilledFiles:
    """Removes files that nobody can ask for any more, and counts how large those are that are left.

    Args:
        directories: tells where they may be.

    Attributes:
        size: bytes of all files, as they were counted last.
    """

    def __init__(self, directories: Callable[[], list[str]]) -> None:
        self._directories = directories
        self._unknown: set[str] = set()
        self._next_look = 0.0
        self.size = 0
        self._counted = 0  # bytes, of the count that is under way
        self._to_count: Iterator[int] | None = None
        self._next_count = 0.0

    def tick(self, now: float, knows: Callable[[bytes], bool]) -> None:
        """Time has passed.

        Args:
            now: monotonic.
            knows: whether there is a stream of this name.
        """
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self.look(knows)
        if now >= self._next_count:
            self._next_count = now + (LOOK_S if self.count() else _COUNT_S)

    def count(self) -> bool:
        """Begin to count, or go on. Returns whether all were counted: then `size` is what it is."""
        if self._to_count is None:
            self._to_count, self._counted = _sizes(self._directories()), 0
        for looked_at, size in enumerate(self._to_count, 1):
            self._counted += size
            if looked_at == _COUNTED:
                return False
        self.size, self._to_count = self._counted, None
        return True

    def look(self, knows: Callable[[bytes], bool]) -> None:
        """Remove what is unknown now and was at the look before."""
        unknown = {f for name, f in _folders(self._directories()) if not knows(name)}
        room = _MOST
        for folder in sorted(unknown & self._unknown):
            room -= _empty(folder, room)
            if room <= 0:
                break  # the next look goes on
        self._unknown = unknown


def _sizes(directories: Iterable[str]) -> Iterator[int]:
    for _, folder in _folders(directories):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                size = 0  # of one that went meanwhile
                with contextlib.suppress(OSError):
                    size = os.lstat(os.path.join(folder, name)).st_size
                yield size


def _folders(directories: Iterable[str]) -> Iterator[tuple[bytes, str]]:
    """The folders of streams, with the streams' names."""
    for directory in directories:
        try:
            names = os.listdir(directory)
        except OSError:
            continue  # nothing was ever written there, or it cannot be told now
        for name in names:
            if len(name) == 2 * STREAM_BYTES:
                with contextlib.suppress(ValueError):
                    yield bytes.fromhex(name), os.path.join(directory, name)


def _empty(folder: str, most: int) -> int:
    """Remove a folder's files, at most so many, and the folder if it is empty; returns how many."""
    count = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(folder)[:most]:
            os.unlink(os.path.join(folder, name))
            count += 1
        os.rmdir(folder)
    return count
