"""Messages too large for a socket pair lie in files without names, whose descriptors are sent.

Both the manager and its workers use this: standard library and protocol alone, so that a worker
starts fast.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Sequence
from typing import Any

from fxhpc.protocol.pool import IN_FILE, IN_FILE_MARK, REUSED_BYTES, REUSED_FILES, SIZE

#: Of a message in a file, what is read to find out how long it is: most are no longer.
_FIRST_BYTES = 4096


class Files:
    """Files without names that messages lie in. One that has been read is written to again."""

    def __init__(self, words: memoryview | None, read_there: int, read_here: int) -> None:
        self._words = words
        self._read_there = read_there
        self._read_here = read_here
        self._sent = 0
        self._mapped = 0  # files that are still looked into
        self._in_use: deque[tuple[int, int]] = deque()  # number of the message, descriptor

    def write(self, parts: Sequence[bytes | memoryview]) -> tuple[int, bytes]:
        """Put a message into a file: its descriptor, and what is to go through the socket.

        The descriptor is valid until the next call.
        """
        size = sum(map(len, parts))
        while self._in_use and (
            self._words is None
            or len(self._in_use) > REUSED_FILES
            or os.fstat(self._in_use[0][1]).st_size > REUSED_BYTES
        ):
            os.close(self._in_use.popleft()[1])
        words = self._words
        if self._in_use and words is not None and self._in_use[0][0] <= words[self._read_there]:
            fd = self._in_use.popleft()[1]
        else:
            fd = anonymous_file()
        at = 0
        for part in parts:
            rest = memoryview(part)
            while rest:
                written = os.pwrite(fd, rest, at)
                rest, at = rest[written:], at + written
        self._sent += 1
        self._in_use.append((self._sent, fd))
        return fd, IN_FILE.pack(IN_FILE_MARK, size)

    def read(self, fd: int, note: memoryview) -> tuple[memoryview, Any]:
        """The message in a file that has come, and the bytes that lie behind it: no view, so that
        to keep them is no copy more. Closes the descriptor.
        """
        try:
            first = os.pread(fd, _FIRST_BYTES, 0)
            end = SIZE.size + SIZE.unpack_from(first)[0]
            if end > len(first):
                first = os.pread(fd, end, 0)
            behind = os.pread(fd, IN_FILE.unpack(note)[1] - end, end)
            return memoryview(first)[SIZE.size : end], behind
        finally:
            os.close(fd)
            self._mapped += 1
            self.done()

    def map(self, fd: int, note: memoryview) -> tuple[memoryview, memoryview]:
        """As `read`, without a copy: both are valid until `done`. Closes the descriptor."""
        try:
            self._mapped += 1
            size = IN_FILE.unpack(note)[1]
            return split(memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ)))
        finally:
            os.close(fd)

    def done(self) -> None:
        """What was mapped is not needed any more: its files may be written to again."""
        if self._mapped:
            if self._words is not None:
                self._words[self._read_here] += self._mapped
            self._mapped = 0

    def close(self) -> None:
        """Close all."""
        while self._in_use:
            os.close(self._in_use.popleft()[1])


def anonymous_file(*, sealable: bool = False) -> int:
    """A descriptor of a file in memory that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fxhpc", os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealable else 0))
    import tempfile  # takes its time, and is not needed on Linux

    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd


def split(data: memoryview) -> tuple[memoryview, memoryview]:
    """A message, and what lies behind it."""
    end = SIZE.size + SIZE.unpack_from(data)[0]
    return data[SIZE.size : end], data[end:]
