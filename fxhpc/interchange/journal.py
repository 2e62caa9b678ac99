"""An interchange's journal: which managers there are, and what they were sent.

It outlives the process that writes it: whoever starts next learns what may still be running, and
waits for it instead of running it twice.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fxhpc.interchange.events import ManagerKnown, Recovered, Sent
from fxhpc.interchange.records import RecordFile, read_records

#: The journal is begun anew when nothing is outstanding and it has grown beyond this.
COMPACT_BYTES = 2**20


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
    """Appends to a journal file.

    Args:
        path: the file; it is created if it is not there.
        owner: written first, if the file is new.
        managers: those that the journal knows already, from `read_journal`.
    """

    def __init__(self, path: str, owner: Owner | None = None, managers: Iterable[str] = ()) -> None:
        self._records = RecordFile(path)
        self._owner = owner
        self._managers = set(managers)
        if owner is not None and not self._records.size:
            self._records.append(_encode(owner))

    def write(self, record: Sent | ManagerKnown) -> None:
        """Append a record."""
        if isinstance(record, ManagerKnown):
            if (record.manager in self._managers) == record.present:
                return
            (self._managers.add if record.present else self._managers.discard)(record.manager)
        self._records.append(_encode(record))

    def compact(self) -> None:
        """Begin anew, if it is worth it. Only while nothing is outstanding."""
        if self._records.size < COMPACT_BYTES:
            return
        self._records.clear()
        if self._owner is not None:
            self._records.append(_encode(self._owner))
        for manager in self._managers:
            self._records.append(_encode(ManagerKnown(manager, True)))

    def close(self, remove: bool = False) -> None:
        """Close the file; remove it if nothing in it is of use any more."""
        self._records.close(remove)


def read_journal(path: str) -> tuple[Owner | None, Recovered]:
    """What a journal tells: its owner, the managers that were there, and what they were sent."""
    owner: Owner | None = None
    managers: dict[str, None] = {}
    sent: list[Sent] = []
    for _, data in read_records(path):
        try:
            record = _decoder.decode(data)
        except msgspec.DecodeError:
            break
        if isinstance(record, Owner):
            owner = record
        elif isinstance(record, Sent):
            sent.append(record)
        elif record.present:
            managers[record.manager] = None
        else:
            managers.pop(record.manager, None)
    return owner, Recovered(list(managers), sent)
