"""Keeps how each call of a chunk ends where its worker's death does not reach it.

That is in a file in memory that the manager has, too: it reads there what a dead worker leaves.
Only for a chunk that runs again, since it costs 9 µs a call. And these values take no memory of the
process in which the calls that follow are made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, MutableMapping
from typing import NoReturn

import msgspec

from fxhpc.protocol import kept
from fxhpc.protocol.outcome import Output

_WHY = (
    b"fxhpc: this worker cannot go on. A call of the chunk has closed a file descriptor that is "
    b"not its own, or has cut its file: that of what the calls before it had returned. Find out "
    b"what closes it (os.closerange?), or do without chunks\n"
)

_decode_output = msgspec.msgpack.Decoder(Output).decode


class Ended(MutableMapping[int, bytes]):
    """What calls have ended by, by their places: all values, or all exceptions, packed."""

    def __init__(self, file: CarefulFile, kind: int) -> None:
        self._file = file
        self._kind = kind
        # Where in the file its data are, and how many bytes; or they themselves, if it took none.
        self._where: dict[int, tuple[int, int] | bytes] = {}

    def __setitem__(self, call: int, data: bytes) -> None:
        at = self._file.append(kept.record(call, self._kind, data))
        self._where[call] = data if at < 0 else (at - len(data), len(data))

    def __getitem__(self, call: int) -> bytes:
        where = self._where[call]
        return where if isinstance(where, bytes) else self._file.read(*where)

    def __delitem__(self, call: int) -> None:
        del self._where[call]

    def __iter__(self) -> Iterator[int]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


class CarefulFile:
    """The records of the chunk that runs.

    Args:
        fd: the file's, in which nothing is; -1: there is none, and nothing outlives this process.

    Attributes:
        values: of the calls that have returned.
        failures: of those that have raised.
        taken: bytes of values that were there at the beginning.
        suspects: calls that workers have died at. They are made first: who is innocent of what had
            built up, or came late, has ended then, and who is guilty takes nothing along.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pid = os.getpid()
        self._id = self._look()[:2]
        self._end = 0
        self._open = True  # what is written can be read
        self._begin_empty()

    def begin(self, earlier: bytes, size: int) -> None:
        """A chunk of so many calls runs again, with what was kept of earlier runs."""
        self._begin_empty()
        printed = b""
        for call, kind, data in kept.records(earlier):
            if kind == kept.PRINTED:
                printed = data
            elif call >= size:
                pass  # it is none of this chunk
            elif kind == kept.SUSPECT:
                self.suspects.append(call)
            elif kind == kept.VALUE:
                self.values[call] = data
                self.taken += len(data)
            elif kind == kept.ERROR:
                self.failures[call] = data
        if printed:
            _print(printed)

    def end(self) -> None:
        """The chunk has ended: nothing of it is needed any more."""
        self._begin_empty()

    def append(self, record: bytes) -> int:
        """Write a record; the position after it, or -1 if it cannot be written.

        Where the file is not there any more, the process ends: the call that it is at has done it.
        """
        if os.getpid() != self._pid:
            os._exit(0)  # a child that a call has made without Python's notice
        if not self._open:
            return -1
        if not self._is_there():
            self.give_up()
        end = self._end + len(record)
        try:
            if os.pwrite(self._fd, record, self._end) == len(record):
                self._end = end
                return end
        except OSError:
            pass
        self._open = False  # behind half a record nothing can be read
        return -1

    def read(self, at: int, size: int) -> bytes:
        """Bytes that were written.

        Raises:
            OSError: they are not there any more.
        """
        if not self._is_there() or len(data := os.pread(self._fd, size, at)) < size:
            raise OSError(_WHY.decode().strip())
        return data

    def give_up(self) -> NoReturn:
        """End the process: what calls have returned is not there any more, but for the manager."""
        with contextlib.suppress(OSError):
            os.write(2, _WHY)
        os._exit(1)

    def _begin_empty(self) -> None:
        *found, size = self._look()
        if size and tuple(found) == self._id:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
        self._end = 0
        # If a task before this chunk has closed it, nothing of this one can be kept.
        self._open = self._fd >= 0 and self._is_there()
        self.taken = 0
        self.suspects: list[int] = []
        self.values = Ended(self, kept.VALUE)
        self.failures = Ended(self, kept.ERROR)

    def _is_there(self) -> bool:
        """Whether the file has what was written: a task that closes what it did not open may have
        another file at this number.
        """
        *found, size = self._look()
        return tuple(found) == self._id and size >= self._end

    def _look(self) -> tuple[int, int, int]:
        """Which file it is, and how long."""
        if self._fd < 0:
            return 0, 0, 0
        try:
            status = os.fstat(self._fd)
        except OSError:
            return 0, 0, 0  # it was closed
        return status.st_dev, status.st_ino, status.st_size


def _print(packed: bytes) -> None:
    """Print once more what calls have printed that are not made again."""
    try:
        output = _decode_output(packed)
        for fd, text in ((1, output.stdout), (2, output.stderr)):
            while text:
                text = text[os.write(fd, text) :]
    except (msgspec.DecodeError, OSError):
        pass  # what it was for is the outcome of calls, which is there
