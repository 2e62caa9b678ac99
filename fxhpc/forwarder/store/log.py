"""SQLite's write-ahead log as a file: which commits are in it, and where the last of them ends.

SQLite ends at the first frame whose checksum is wrong and says nothing: what was committed after it
is gone, and is to be told.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

_HEADER = struct.Struct(">IIII8s8s")  # magic, version, page size, checkpoint, salts, checksums
_FRAME = struct.Struct(">I4s8s8s")  # page, pages after a commit (else 0), salts, checksums
_MAGIC = (0x377F0682, 0x377F0683)
_NO_COMMIT = bytes(4)


class Logged(NamedTuple):
    """What a log says of itself, whether SQLite can read it or not."""

    salts: bytes = b""  # which log it is: each that is begun anew in the same file has others
    commits: Sequence[int] = ()  # numbers of the frames that end one
    is_whole: bool = True  # its own header; without that SQLite reads nothing of the log


def commits_in(path: str) -> Logged:
    """The commits of the log at `path`, as it was written.

    Only while nothing in this process has the database open: closing the file drops its locks.
    """
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            if size < _HEADER.size + _FRAME.size:
                return Logged()
            header = file.read(_HEADER.size)
            magic, _, page, _, salts, sums = _HEADER.unpack(header)
            order = ">" if magic & 1 else "<"
            if magic not in _MAGIC or _checksum(header[:24], order) != sums:
                return Logged(is_whole=False)
            commits: list[int] = []
            number = 0
            while True:
                number += 1
                frame = file.read(_FRAME.size)
                if len(frame) < _FRAME.size:
                    return Logged(salts, commits)
                _, committed, frame_salts, _ = _FRAME.unpack(frame)
                # A process that was killed between a frame's header and its page had told nobody.
                is_there = file.seek(page, os.SEEK_CUR) <= size
                if frame_salts == salts and committed != _NO_COMMIT and is_there:
                    commits.append(number)
    except FileNotFoundError:
        return Logged()


class LogEnd:
    """Follows the end of an open log: `frame` is the last one of the log with these `salts`.

    Reads headers of frames from the log's file, which no lock of SQLite's is on.

    Args:
        descriptor: the log's file, opened to be read; it stays the caller's.
        logged: what was in it before it was opened.
        frame: how many of its frames SQLite has read; 0 if that is not known.
    """

    def __init__(self, descriptor: int, logged: Logged, frame: int) -> None:
        self._file = descriptor
        self.salts = logged.salts
        self.frame = frame
        self._page = 4096
        self._stride = _FRAME.size + self._page
        self._order = "<"
        self._start_sums = b""
        # Whether all frames with these salts are in use. A transaction that was undone, or cut off
        # by a kill, leaves others behind the last commit, which only their checksums tell apart.
        self._is_clean = False
        if logged.salts:
            self._look_at_start()

    def look(self) -> None:
        """Go to the end of what was committed, by now.

        Raises:
            OSError: the log cannot be read.
        """
        self._look_at_start()
        end = self.frame
        if self._is_clean:
            end = self._last_of_ours()
            self._is_clean = end == self.frame or self._header(end)[4:8] != _NO_COMMIT
        if not self._is_clean:
            end = self._last_valid()
        self.frame = end

    def doubt(self) -> None:
        """A transaction was undone: something of it may stand behind the last commit."""
        self._look_at_start()
        self._is_clean = False

    def _header(self, frame: int) -> bytes:
        return os.pread(self._file, _FRAME.size, _HEADER.size + (frame - 1) * self._stride)

    def _is_ours(self, frame: int) -> bool:
        return self._header(frame)[8:16] == self.salts

    def _last_of_ours(self) -> int:
        """The last frame with these salts, if none is missing in between."""
        low, step = self.frame, 1
        while self._is_ours(low + step):
            low, step = low + step, 2 * step
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._is_ours(middle) else (low, middle)
        return low

    def _last_valid(self) -> int:
        """The last commit that SQLite too would find: slow, 0.1 ms a frame."""
        number = last = self.frame
        sums = self._header(number)[16:24] if number else self._start_sums
        while True:
            number += 1
            header = self._header(number)
            page = os.pread(
                self._file, self._page, _HEADER.size + number * self._stride - self._page
            )
            if header[8:16] != self.salts or len(page) < self._page:
                return last
            sums = _checksum(header[:8] + page, self._order, sums)
            if header[16:24] != sums:
                return last
            if header[4:8] != _NO_COMMIT:
                last = number

    def _look_at_start(self) -> None:
        """If the log was begun anew, at the start of its file, follow it from there."""
        start = os.pread(self._file, _HEADER.size, 0)
        if len(start) < _HEADER.size:
            return
        magic, _, self._page, _, salts, self._start_sums = _HEADER.unpack(start)
        self._stride = _FRAME.size + self._page
        self._order = ">" if magic & 1 else "<"
        if salts != self.salts:
            self.salts, self.frame, self._is_clean = salts, 0, True


def _checksum(data: bytes, order: str, before: bytes = bytes(8)) -> bytes:
    """SQLite's checksum of these bytes, as it continues the one of what came before."""
    first, second = struct.unpack(">II", before)
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for low, high in zip(words[::2], words[1::2], strict=True):
        first = (first + low + second) & 0xFFFFFFFF
        second = (second + high + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)
