"""An endpoint's log files: how they are rotated, which there are, how one is followed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO

from fxhpc.printable import make_logs_safe

FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"

_CHUNK = 64 * 1024


def log_to_file(path: Path, max_bytes: int, files: int, echo: bool = False) -> None:
    """Let this process log to a file that is rotated; with `echo`, to standard error too."""
    handlers: list[logging.Handler] = [
        RotatingFileHandler(path, maxBytes=max_bytes, backupCount=max(1, files), encoding="utf-8")
    ]
    if echo:
        handlers.append(logging.StreamHandler(sys.stderr))
    logging.basicConfig(format=FORMAT, level=logging.INFO, handlers=handlers, force=True)
    make_logs_safe()


def last_lines(path: Path, count: int, start: int = 0, end: int | None = None) -> list[str]:
    """The last lines of a file, none of them from before the byte `start` or behind `end`."""
    if count <= 0:
        return []
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            end = size if end is None else min(size, end)
            if end < start:
                start = 0  # rotated meanwhile
            data = b""
            while end > start and data.count(b"\n") <= count:
                begin = max(start, end - _CHUNK)
                file.seek(begin)
                data = file.read(end - begin) + data
                end = begin
    except OSError:
        return []
    return data.decode(errors="replace").splitlines()[-count:]


class Follower:
    """Reads what is appended to a file, also when it is rotated away or not there yet.

    Args:
        from_end: begin behind what it holds now.
    """

    def __init__(self, path: Path, from_end: bool = True) -> None:
        self._path = path
        self._file = self._open()
        self._rest = b""
        if self._file is not None and from_end:
            self._file.seek(0, os.SEEK_END)
        #: Where in the file it begins.
        self.position = self._file.tell() if self._file is not None else 0

    def read(self) -> Iterator[str]:
        """The lines that came since the last call, without their ends."""
        while True:
            if self._file is None:
                self._file = self._open()
                if self._file is None:
                    return
            yield from self._lines()
            if not self._was_replaced():
                return
            yield from self._lines()  # what came between the last look and the rotation
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Follow no longer."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO | None:
        try:
            return open(self._path, "rb")
        except OSError:
            return None

    def _lines(self) -> Iterator[str]:
        if self._file is None:
            return
        while data := self._file.read(_CHUNK):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")

    def _was_replaced(self) -> bool:
        if self._file is None:
            return False
        ours = os.fstat(self._file.fileno())
        try:
            there = os.stat(self._path)
        except OSError:
            return False  # between two steps of a rotation, or removed: look again next time
        if os.path.samestat(ours, there):
            if there.st_size < self._file.tell():
                self._file.seek(0)  # cut short
            return False
        return True
