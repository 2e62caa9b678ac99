"""Outcomes that the forwarder cannot take now: on disk, bounded, until it has them.

Once they are here, managers may forget them: they are as durable as in the store. What `add` says
that it has kept is on the disk (fdatasync), so that it survives the end of the host too.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

import msgspec

from fxhpc.interchange.outbox import result_refs
from fxhpc.interchange.records import RecordFile, Records
from fxhpc.protocol.messages import Results, TaskRefs
from fxhpc.units import format_bytes

#: Bytes beyond which nothing more is spooled: managers keep their outcomes then.
SPOOL_BYTES = 2 * 2**30

#: Bytes that are read back at once, or one message if that is larger.
READ_BYTES = 32 * 2**20

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Results)

log = logging.getLogger("fxhpc.interchange.spool")


class Spool:
    """A spool file, and what it holds from an earlier time.

    What is damaged in it is passed over, and kept in files beside it: the outcomes that it held
    are lost, and their tasks run again.

    Attributes:
        found: what was left here: the number of each message, and the tasks that it tells of.
        damage: what could not be read, in words, since the start; empty: nothing.
        trouble: why nothing can be written now; empty: it can.
    """

    def __init__(self, path: str, limit: int = SPOOL_BYTES) -> None:
        self._path = path
        self._limit = limit
        self.found: list[tuple[int, list[TaskRefs]]] = []
        self.damage = ""
        self.trouble = ""
        self._positions: dict[int, int] = {}  # where the record of each number begins
        records = Records(path, ("results",))
        for position, data in records:
            try:
                results = _decoder.decode(data)
            except msgspec.DecodeError:
                # Whole, and yet not a message: of a version that is not this one.
                records.damaged.append((position - len(data) - 8, position))
                continue
            self._positions[results.number] = position - len(data) - 8
            self.found.append((results.number, result_refs(results)))
        if records.damaged:
            self._tell_damage(records.describe(), records.keep_damaged())
        self._records = RecordFile(path)
        self._records.cut(records.end)

    def add(self, batch: list[Results]) -> list[int]:
        """Write these, as far as there is room; the numbers of those that are durable now."""
        kept: dict[int, int] = {}
        trouble = ""
        try:
            for results in batch:
                if self._records.size > self._limit:
                    trouble = f"it holds {format_bytes(self._records.size)}, and may hold no more"
                    break
                kept[results.number] = self._records.size
                self._records.append(_encode(results))
            if kept:
                self._records.sync()
        except OSError as error:
            # A full disk. What was not synchronised is not promised: managers keep it.
            trouble, kept = error.strerror or str(error), {}
        self._positions.update(kept)
        if trouble and not self.trouble:
            log.warning(
                "the spool %s cannot be written: %s. Managers keep their results, and stop when "
                "they hold too many; free space there, or let the home's forwarder run",
                self._path,
                trouble,
            )
        elif self.trouble and not trouble:
            log.info("the spool %s can be written again", self._path)
        self.trouble = trouble
        return list(kept)

    def read(self, numbers: Iterable[int]) -> tuple[list[Results], list[int]]:
        """The first messages of these numbers, as many as may be in memory at once; and the
        numbers of those that cannot be read any more.
        """
        found: list[Results] = []
        missing: list[int] = []
        size = 0
        for number in numbers:
            data = b""
            with contextlib.suppress(OSError, KeyError):
                data = self._records.read(self._positions[number])
            try:
                found.append(_decoder.decode(data))
            except msgspec.DecodeError:
                missing.append(number)
            size += len(data)
            if size >= READ_BYTES:
                break
        if missing:
            self._tell_damage(f"{len(missing)} of the messages in {self._path} cannot be read", "")
        return found, missing

    def clear(self) -> None:
        """The forwarder has everything."""
        self._records.clear()
        self._positions.clear()

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _tell_damage(self, what: str, kept: str) -> None:
        self.damage = f"{what}: the tasks whose results were there run again"
        if kept:
            self.damage += f"; the damaged part is kept as {kept}"
        log.error("%s", self.damage)
