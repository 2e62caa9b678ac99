"""The bytes of functions and large shared arguments: once on a node, for all its workers."""

from __future__ import annotations

import fcntl
import os
import socket

from fxhpc.manager.channel import PAIR_TYPE
from fxhpc.message_files import anonymous_file
from fxhpc.protocol import pool
from fxhpc.units import LARGE_PAYLOAD

_SEALS = sum(
    getattr(fcntl, name, 0)
    for name in ("F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_WRITE")
)


class Bodies:
    """Bodies by their SHA-256. A large one lies in a file in memory that nobody can change, and
    that each worker maps; which of them stay, and which worker has what, the core decides.
    """

    def __init__(self) -> None:
        self._there: dict[bytes, bytes] = {}
        self._files: dict[bytes, tuple[int, int]] = {}  # descriptor and bytes

    def keep(self, digest: bytes, data: bytes) -> None:
        """Have these bytes; those of before, if there are any, are forgotten."""
        self.drop([digest])
        # Descriptors go with whole messages, not with the streams of other systems.
        if len(data) > LARGE_PAYLOAD and PAIR_TYPE != socket.SOCK_STREAM:
            fd = -1
            try:
                fd = anonymous_file(sealable=True)
                _write(fd, data)
                if hasattr(fcntl, "F_ADD_SEALS"):
                    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
                self._files[digest] = fd, len(data)
                return
            except OSError:  # no descriptor, no room: then each worker has its own
                if fd >= 0:
                    os.close(fd)
        self._there[digest] = data

    def message(self, digest: bytes) -> tuple[pool.Bytes, tuple[int, ...]]:
        """What gives a worker these bytes, and the descriptors that go with it."""
        if digest in self._files:
            fd, size = self._files[digest]
            return pool.Bytes(digest, size=size), (fd,)
        return pool.Bytes(digest, self._there[digest]), ()

    def drop(self, digests: list[bytes]) -> None:
        """Forget bytes; a worker that maps them keeps what it has."""
        for digest in digests:
            self._there.pop(digest, None)
            fd, _ = self._files.pop(digest, (-1, 0))
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        """Forget all."""
        self.drop([*self._there, *self._files])


def _write(fd: int, data: bytes) -> None:
    rest, at = memoryview(data), 0
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written
