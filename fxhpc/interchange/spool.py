"""Outcomes that the forwarder cannot take now: on disk, bounded, until it has them.

Once they are here, managers may forget them: they are as durable as in the store.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fxhpc.interchange.outbox import result_refs
from fxhpc.interchange.records import RecordFile, read_records
from fxhpc.protocol.messages import Results, TaskRefs

#: Bytes beyond which nothing more is spooled: managers keep their outcomes then.
SPOOL_BYTES = 2 * 2**30

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Results)


class Spool:
    """A spool file, and what it holds from an earlier time."""

    def __init__(self, path: str, limit: int = SPOOL_BYTES) -> None:
        self._path = path
        self._limit = limit
        #: What was left here: the number of each message, and the tasks that it tells of.
        self.found: list[tuple[int, list[TaskRefs]]] = []
        end = 0
        for position, data in read_records(path):
            try:
                results = _decoder.decode(data)
            except msgspec.DecodeError:
                break
            self.found.append((results.number, result_refs(results)))
            end = position
        self._records = RecordFile(path)
        self._records.cut(end)

    def add(self, batch: list[Results]) -> list[int]:
        """Write these, as far as there is room; the numbers of those that are durable now."""
        kept: list[int] = []
        try:
            for results in batch:
                if self._records.size > self._limit:
                    break
                self._records.append(_encode(results))
                kept.append(results.number)
            if kept:
                self._records.sync()
        except OSError:
            # A full disk. What was not synchronised is not promised: managers keep it.
            return []
        return kept

    def read(self, numbers: set[int]) -> Iterator[Results]:
        """Those of these numbers, in the order in which they came."""
        for _, data in read_records(self._path):
            results = _decoder.decode(data)
            if results.number in numbers:
                yield results

    def clear(self) -> None:
        """The forwarder has everything."""
        self._records.clear()

    def close(self) -> None:
        """Close the file."""
        self._records.close()
