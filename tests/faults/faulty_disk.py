"""A disk that fails, is slow or loses its power: a library loaded before all others, in C.

It watches one directory. What it does there is read from a small file that is mapped into memory,
so that a test switches a fault on and off while processes run. It can also write down each change
of a file, and each synchronisation, in their order.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SOURCE = Path(__file__).with_suffix(".c")
_CONTROL = struct.Struct("=iii")  # the error, whether writing opens fail too, ms of each sync
_RECORD = struct.Struct("=cxxxiqq")  # what, length of the name, offset, bytes of data or length


class FaultyDisk:
    """The files below a directory, for processes that are started with `environment`.

    Args:
        library: where the library, its control file and its log are; outside the directory.
        directory: whose files are watched.
        logged: write down what happens to files.
    """

    def __init__(self, library: Path, directory: Path, *, logged: bool = False) -> None:
        library.mkdir(parents=True, exist_ok=True)
        built = library / "faulty_disk.so"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O1", "-pthread", "-o", str(built), str(_SOURCE), "-ldl"],
            check=True,
        )
        self._log = library / "log"
        control = library / "control"
        control.write_bytes(bytes(mmap.PAGESIZE))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.environment = {
            "LD_PRELOAD": str(built),
            "FAULTY_DISK": f"{os.path.realpath(directory)}/",
            "FAULTY_CONTROL": str(control),
        }
        if logged:
            self.environment["FAULTY_LOG"] = str(self._log)

    def fail(self, number: int) -> None:
        """From now on writing meets this error; 0: no more."""
        _CONTROL.pack_into(self._control, 0, number, number == errno.EROFS, 0)

    def slow(self, ms: int) -> None:
        """From now on each synchronisation takes so many milliseconds longer."""
        _CONTROL.pack_into(self._control, 0, 0, 0, ms)

    def logged(self) -> Iterator[Change]:
        """What has happened to files until now."""
        data = self._log.read_bytes()
        start = 0
        while start < len(data):
            what, name, offset, length = _RECORD.unpack_from(data, start)
            start += _RECORD.size
            path = data[start : start + name].decode()
            start += name
            size = length if what == b"w" else 0
            yield Change(what.decode(), path, offset, data[start : start + size])
            start += size


class Change(NamedTuple):
    """A write (w), a new length (t), a synchronisation (s) or the removal (u) of a file."""

    what: str
    path: str  # below the directory
    offset: int  # for t: the length
    data: bytes
