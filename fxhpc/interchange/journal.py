"""An interchange's journal: which managers there are, and what they were sent. Append-only.

It outlives the process that writes it: whoever starts next learns what may still be running, and
waits for it instead of running it twice. A record is its length, the CRC-32 of its bytes, and the
bytes: what a crash cut off is left out, with all that follows it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

import msgspec

from fxhpc.interchange.events import ManagerKnown, Recovered, Sent

#: The journal is begun anew when nothing is outstanding and it has grown beyond this.
COMPACT_BYTES = 2**20

_HEADER = struct.Struct("<II")


class Owner(msgspec.Struct, array_like=True, frozen=True, tag="owner"):
    """The process that a `local` instance belongs to."""

    instance: bytes
    pid: int
    started: float


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Owner | Sent | ManagerKnown] = msgspec.msgpack.Decoder(
    Owner | Sent | ManagerKnown
)


class Journal:
    """Appends to a journal file, mode 0600.

    Args:
        path: the file; it is created if it is not there.
        owner: written first, if the file is new.
    """

    def __init__(self, path: str, owner: Owner | None = None) -> None:
        self.path = path
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._owner = owner
        self._managers: set[str] = set()
        self._size = os.fstat(self._file).st_size
        if owner is not None and not self._size:
            self._append(owner)

    def write(self, record: Sent | ManagerKnown) -> None:
        """Append a record. It survives the end of this process, though not that of the host."""
        if isinstance(record, ManagerKnown):
            if (record.manager in self._managers) == record.present:
                return
            (self._managers.add if record.present else self._managers.discard)(record.manager)
        self._append(record)

    def compact(self) -> None:
        """Begin anew, if it is worth it. Only while nothing is outstanding."""
        if self._size < COMPACT_BYTES:
            return
        os.ftruncate(self._file, 0)
        self._size = 0
        if self._owner is not None:
            self._append(self._owner)
        for manager in self._managers:
            self._append(ManagerKnown(manager, True))

    def close(self, remove: bool = False) -> None:
        """Close the file; remove it if nothing in it is of use any more."""
        os.close(self._file)
        if remove:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass  # the home was removed meanwhile

    def _append(self, record: Owner | Sent | ManagerKnown) -> None:
        data = _encode(record)
        self._size += os.write(self._file, _HEADER.pack(len(data), zlib.crc32(data)) + data)


def read_journal(path: str) -> tuple[Owner | None, Recovered]:
    """What a journal tells: its owner, the managers that were there, and what they were sent."""
    owner: Owner | None = None
    managers: dict[str, None] = {}
    sent: list[Sent] = []
    for record in _records(path):
        if isinstance(record, Owner):
            owner = record
        elif isinstance(record, Sent):
            sent.append(record)
        elif record.present:
            managers[record.manager] = None
        else:
            managers.pop(record.manager, None)
    return owner, Recovered(list(managers), sent)


def _records(path: str) -> Iterator[Owner | Sent | ManagerKnown]:
    with open(path, "rb") as file:
        data = file.read()
    position = 0
    while position + _HEADER.size <= len(data):
        size, checksum = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        record = data[position : position + size]
        position += size
        if len(record) < size or zlib.crc32(record) != checksum:
            return
        try:
            yield _decoder.decode(record)
        except msgspec.DecodeError:
            return
