"""An append-only file of checksummed records: what journal and spool are made of.

A record is its length, the CRC-32 of its bytes, and the bytes. What a crash cut off, or a disk
damaged, is passed over and kept beside the file; records that follow it are found again by what
they begin with.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
import zlib
from collections.abc import Iterator

_HEADER = struct.Struct("<II")


class RecordFile:
    """Appends records to a file of mode 0600; it is created if it is not there."""

    def __init__(self, path: str) -> None:
        self.path = path
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self.size = os.fstat(self._file).st_size

    def append(self, data: bytes) -> None:
        """Append a record. It survives the end of this process.

        Raises:
            OSError: it could not be written whole; the file is as it was before.
        """
        record = _HEADER.pack(len(data), zlib.crc32(data)) + data
        try:
            written = os.write(self._file, record)
            if written < len(record):
                raise OSError(f"{written} of {len(record)} bytes were written to {self.path}")
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(record)

    def read(self, position: int) -> bytes:
        """The record at a position; nothing if there is none that is whole.

        Through the descriptor that is open already: reading back needs no other.
        """
        return read_record(self._file, position, self.size) or b""

    @property
    def marked(self) -> bool:
        """Whether the file was marked by `mark`, now or by an earlier process."""
        return bool(os.fstat(self._file).st_mode & stat.S_IXUSR)

    def mark(self, yes: bool) -> None:
        """Mark the file, or unmark it. In its mode: that takes no room on a full disk."""
        os.fchmod(self._file, 0o700 if yes else 0o600)

    def sync(self) -> None:
        """Make all records survive the end of this host."""
        getattr(os, "fdatasync", os.fsync)(self._file)  # macOS has the latter alone

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self._file, 0)
        self.size = 0

    def cut(self, size: int) -> None:
        """Drop what follows the first `size` bytes: a record that a crash left unfinished."""
        os.ftruncate(self._file, size)
        self.size = size

    def close(self, remove: bool = False) -> None:
        """Close the file; remove it if nothing in it is of use any more."""
        os.close(self._file)
        if remove:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass  # its directory was removed meanwhile


def is_marked(path: str) -> bool:
    """Whether a file was marked by `RecordFile.mark`."""
    try:
        return bool(os.lstat(path).st_mode & stat.S_IXUSR)
    except OSError:
        return False


class Records:
    """The whole records of a file, each with the position behind it.

    Args:
        path: a file that need not be there.
        tags: of the msgpack arrays that records are; behind damage, the next one is looked for.

    Attributes:
        end: the position behind the last whole record.
        damaged: what could not be read, as positions: where it begins and where it ends.
    """

    def __init__(self, path: str, tags: tuple[str, ...] = ()) -> None:
        self._path = path
        # An array of up to 15 fields, of which the first is the tag.
        self._marks = [bytes([0xA0 + len(tag)]) + tag.encode() for tag in tags]
        self.end = 0
        self.damaged: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        self.end, self.damaged = 0, []
        try:
            file = open(self._path, "rb")  # noqa: SIM115 - closed below; it may be missing
        except FileNotFoundError:
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            position = 0
            while position < size:
                data = read_record(file.fileno(), position, size)
                if data is not None:
                    position = self.end = position + _HEADER.size + len(data)
                    yield position, data
                    continue
                following = self._next(file.fileno(), position, size)
                self.damaged.append((position, following))
                position = following

    def _next(self, file: int, position: int, size: int) -> int:
        """Where the first whole record behind a position begins, or the end of the file."""
        best = size
        with mmap.mmap(file, size, access=mmap.ACCESS_READ) as view:
            for mark in self._marks:
                at = view.find(mark, position + _HEADER.size + 1, best)
                while at >= 0:
                    begin = at - 1 - _HEADER.size
                    if read_record(file, begin, size) is not None:
                        best = begin
                        break
                    at = view.find(mark, at + 1, best)
        return best

    def keep_damaged(self) -> str:
        """Copy what could not be read to files beside it: the name of one, or nothing.

        The same damage is kept once, however often it is found.
        """
        kept = ""
        for begin, end in self.damaged:
            with contextlib.suppress(OSError):  # a full disk: the damage stays where it is
                with open(self._path, "rb") as file:
                    file.seek(begin)
                    data = file.read(end - begin)
                name = f"{self._path}.damaged-{begin}-{zlib.crc32(data):08x}"
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                kept = kept or name
                with (
                    contextlib.suppress(FileExistsError),
                    os.fdopen(os.open(name, flags, 0o600), "wb") as copy,
                ):
                    copy.write(data)
        return kept

    def describe(self) -> str:
        """What could not be read, in words; empty if all could."""
        count = sum(end - begin for begin, end in self.damaged)
        return f"{count} bytes of {self._path} cannot be read" if count else ""


def read_record(file: int, position: int, size: int) -> bytes | None:
    """The record at a position of an open file; None if there is none that is whole.

    Args:
        size: of the file.
    """
    header = os.pread(file, _HEADER.size, position)
    if len(header) < _HEADER.size:
        return None
    length, checksum = _HEADER.unpack(header)
    # No record is empty, though zeros, which a power cut leaves, would have the right checksum.
    if not 0 < length <= size - position - _HEADER.size:
        return None
    data = os.pread(file, length, position + _HEADER.size)
    return data if len(data) == length and zlib.crc32(data) == checksum else None


def read_records(path: str) -> Iterator[tuple[int, bytes]]:
    """The whole records of a file up to the first damage, each with the position behind it."""
    records = Records(path)
    for position, data in records:
        if records.damaged:
            return
        yield position, data
