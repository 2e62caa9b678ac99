"""The journal of blocks: their names are on disk before they are submitted.

Whoever starts next learns which jobs may be there, and adopts them or cancels them.
"""

from __future__ import annotations

import contextlib
import logging
import os

import msgspec

from fxhpc.interchange.events import BlockKnown, RecoveredBlocks
from fxhpc.interchange.records import RecordFile, Records
from fxhpc.protocol.provision import BlockRef

#: A journal that has grown beyond this is written anew at the next start.
COMPACT_BYTES = 64 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(BlockKnown)

log = logging.getLogger("fxhpc.interchange")


class BlockJournal:
    """Appends to the journal of blocks; what it held is read before.

    Attributes:
        damage: what could not be read of it, in words; empty: all could.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._blocks: dict[int, BlockRef] = {}
        self._last = 0
        self.damage = ""
        records = Records(path, ("block",))
        for position, data in records:
            try:
                self._note(_decoder.decode(data))
            except msgspec.DecodeError:
                records.damaged.append((position - len(data) - 8, position))
        end = records.end
        if records.damaged:
            kept = records.keep_damaged()
            self.damage = (
                f"{records.describe()}: jobs of this endpoint may be there that it does not know, "
                f"and does not cancel; look for them in the batch system"
            )
            self.damage += f"; the damaged part is kept as {kept}" if kept else ""
            log.error("%s", self.damage)
        if records.damaged or end > COMPACT_BYTES:
            with contextlib.suppress(OSError):  # a full disk: at another start
                end = self._rewrite(path)
        self._records = RecordFile(path)
        self._records.cut(end)

    @property
    def recovered(self) -> RecoveredBlocks:
        """What the journal tells."""
        return RecoveredBlocks(list(self._blocks.values()), self._last)

    def write(self, record: BlockKnown) -> None:
        """Append a record; it is on the disk then.

        Raises:
            OSError: it could not be written. Nothing that depends on it may be done.
        """
        if not record.present and record.block.number not in self._blocks:
            return
        self._records.append(_encode(record))
        self._records.sync()
        self._note(record)

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _note(self, record: BlockKnown) -> None:
        self._last = max(self._last, record.block.number)
        if record.present:
            self._blocks[record.block.number] = record.block
        else:
            self._blocks.pop(record.block.number, None)

    def _rewrite(self, path: str) -> int:
        """Keep what is still of use: the blocks that may be there, and the highest number."""
        draft = path + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        records = RecordFile(draft)
        records.append(_encode(BlockKnown(BlockRef(self._last, ""), False)))
        for block in self._blocks.values():
            records.append(_encode(BlockKnown(block, True)))
        records.sync()
        records.close()
        os.replace(draft, path)
        return records.size
