"""An append-only file of checksummed records: what journal and spool are made of.

A record is its length, the CRC-32 of its bytes, and the bytes. What a crash cut off, or a disk
damaged, is left out, with all that follows it.
"""

from __future__ import annotations

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
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
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

    @property
    def marked(self) -> bool:
        """Whether the file was marked by `mark`, now or by an earlier process."""
        return bool(os.fstat(self._file).st_mode & stat.S_IXUSR)

    def mark(self, yes: bool) -> None:
        """Mark the file, or unmark it. In its mode: that takes no room on a full disk."""
        os.fchmod(self._file, 0o700 if yes else 0o600)

    def sync(self) -> None:
        """Make all records survive the end of this host."""
        os.fdatasync(self._file)

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


def read_records(path: str) -> Iterator[tuple[int, bytes]]:
    """The whole records of a file, each with the position behind it."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, where a missing file is no error
    except FileNotFoundError:
        return
    with file:
        position = 0
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            size, checksum = _HEADER.unpack(header)
            data = file.read(size)
            if len(data) < size or zlib.crc32(data) != checksum:
                return
            position += _HEADER.size + size
            yield position, data
