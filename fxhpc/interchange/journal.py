"""An interchange's journal: which managers there are, and what they were sent.

It outlives the process that writes it: whoever starts next learns what may still be running, and
waits for it instead of running it twice.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping

import msgspec

from fxhpc.hosts import since_boot
from fxhpc.interchange.events import ManagerKnown, Recovered, Sent
from fxhpc.interchange.records import RecordFile, Records, is_marked

#: The journal is begun anew when nothing is outstanding and it has grown beyond this.
COMPACT_BYTES = 2**20

log = logging.getLogger("fxhpc.interchange.journal")


class Owner(msgspec.Struct, array_like=True, frozen=True, tag="owner"):
    """The process that a `local` instance belongs to."""

    instance: bytes
    pid: int
    started: float
    host: str = ""  # where it is, if that is not the forwarder's


class Boot(msgspec.Struct, array_like=True, frozen=True, tag="boot"):
    """What follows was written since this boot of the host: nothing of it was synchronised."""

    boot: str


class Away(msgspec.Struct, array_like=True, frozen=True, tag="away"):
    """Since this time of the boot before, in seconds, these managers are waited for."""

    since: float
    managers: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Owner | Boot | Away | Sent | ManagerKnown] = (
    msgspec.msgpack.Decoder(Owner | Boot | Away | Sent | ManagerKnown)
)
_TAGS = ("owner", "boot", "away", "sent", "manager")


class Journal:
    """Appends to a journal file. A full disk is no error: see `incomplete`.

    Nothing is synchronised, so that sending costs no disk's time: the file survives the end of
    this process. Whether the host has ended since too, a record of its boot tells: what the file
    lacks then is as if the disk had been full.

    Args:
        path: the file; it is created if it is not there.
        owner: written first, if the file is new.
        managers: those that the journal knows already, from `read_journal`.
        blocks: theirs, likewise.
        boot: the host's boot; empty: the end of the host is of no interest.
        away: for how many seconds some of these managers have been waited for; with `boot`.
    """

    def __init__(
        self,
        path: str,
        owner: Owner | None = None,
        managers: Iterable[str] = (),
        blocks: Mapping[str, str] | None = None,
        boot: str = "",
        away: Mapping[str, float] | None = None,
    ) -> None:
        self._path = path
        self._owner = owner
        self._boot = boot
        self._managers = {manager: (blocks or {}).get(manager, "") for manager in managers}
        self._unwritten: list[bytes] = []
        self._failed = False
        self._error = ""
        self._records: RecordFile | None = None
        try:
            self._records = RecordFile(path)
        except OSError as error:
            self._note_failure(error)
        # Of an earlier process: what it could not write, nobody knows any more.
        self._was_incomplete = self._records is not None and self._records.marked
        if self._records is not None and self._records.size:
            self._look_for_damage(self._records, boot)
        if owner is not None and not (self._records is not None and self._records.size):
            self._append(_encode(owner))
        self._away: dict[str, float] = {}  # managers that are waited for, and since when
        if boot:
            self._append(_encode(Boot(boot)))
            self._wait_for(away or {})

    def _wait_for(self, away: Mapping[str, float]) -> None:
        now = since_boot()
        self._away = {manager: now - away.get(manager, 0.0) for manager in self._managers}
        if new := [manager for manager in self._managers if manager not in away]:
            self._append(_encode(Away(now, new)))

    def _look_for_damage(self, file: RecordFile, boot: str) -> None:
        """What is appended must be readable; and once incomplete, it stays so until it is empty."""
        records = Records(self._path, _TAGS)
        last = ""
        for _, data in records:
            with contextlib.suppress(msgspec.DecodeError):
                record = _decoder.decode(data)
                last = record.boot if isinstance(record, Boot) else last
        with contextlib.suppress(OSError):
            if records.damaged:
                kept = records.keep_damaged()
                log.warning(
                    "%s: tasks that were sent before wait until it is known which of them run%s",
                    records.describe(),
                    f"; the damaged part is kept as {kept}" if kept else "",
                )
                file.cut(records.end)
            if records.damaged or (boot and last != boot):
                self._was_incomplete = True
                file.mark(True)

    @property
    def trouble(self) -> str:
        """Why it cannot be written now, in words; empty: it can."""
        if not self._failed:
            return ""
        return f"the journal {self._path} cannot be written: {self._error}"

    @property
    def incomplete(self) -> bool:
        """Whether records are missing in the file; it is marked then, so that a later process
        takes nothing for free that it does not find there.
        """
        return bool(self._unwritten) or self._was_incomplete

    def write(self, record: Sent | ManagerKnown) -> None:
        """Append a record, or keep it for `retry`."""
        if isinstance(record, ManagerKnown):
            was_away = self._away.pop(record.manager, None) is not None
            if (record.manager in self._managers) == record.present and not was_away:
                return
            if record.present:
                self._managers[record.manager] = record.block
            else:
                self._managers.pop(record.manager, None)
        self._append(_encode(record))

    def retry(self) -> None:
        """Write what could not be written; no effect if there is nothing."""
        if not self._unwritten:
            return
        try:
            if self._records is None:
                self._records = RecordFile(self._path)
            self._records.cut(self._records.size)
            while self._unwritten:
                self._records.append(self._unwritten[0])
                del self._unwritten[0]
            self._records.mark(self._was_incomplete)
        except OSError:
            return  # at another time
        self._failed = False
        log.info("the journal %s can be written again", self._path)

    def compact(self, has_all: bool) -> None:
        """Begin anew, if it is worth it. Only while nothing is outstanding.

        Args:
            has_all: nothing may still come of what an incomplete journal lacks: it is whole then.
        """
        records = self._records
        becomes_whole = self._was_incomplete and has_all
        if records is None or (records.size < COMPACT_BYTES and not becomes_whole):
            return
        try:
            records.clear()
            records.mark(self._was_incomplete and not has_all)
        except OSError as error:
            self._note_failure(error)
            return
        self._unwritten.clear()
        self._was_incomplete = self._was_incomplete and not has_all
        if self._owner is not None:
            self._append(_encode(self._owner))
        if self._boot:
            self._append(_encode(Boot(self._boot)))
        for manager, block in self._managers.items():
            self._append(_encode(ManagerKnown(manager, True, block)))
        for manager, since in self._away.items():
            self._append(_encode(Away(since, [manager])))

    def doubt(self) -> None:
        """Something else of what was sent before is lost: as if it were missing here, for the next
        process.
        """
        self._was_incomplete = True
        if self._records is not None:
            with contextlib.suppress(OSError):
                self._records.mark(True)

    def close(self, remove: bool = False) -> None:
        """Close the file; remove it if nothing in it is of use any more."""
        if self._records is not None:
            self._records.close(remove)

    def _append(self, data: bytes) -> None:
        if self._records is None or self._unwritten:
            self._unwritten.append(data)  # in their order
            return
        try:
            self._records.append(data)
        except OSError as error:
            self._unwritten.append(data)
            self._note_failure(error)

    def _note_failure(self, error: OSError) -> None:
        if self._records is not None:
            with contextlib.suppress(OSError):
                self._records.mark(True)
        self._error = error.strerror or str(error)
        if not self._failed:
            self._failed = True
            log.warning(
                "the journal %s cannot be written: %s. Tasks go on; free space there, so that a "
                "restart knows at once where they run",
                self._path,
                error.strerror or error,
            )


def read_journal(path: str, boot: str = "") -> tuple[Owner | None, Recovered]:
    """What a journal tells: its owner, the managers that were there, and what they were sent.

    Args:
        boot: of this host; a journal that was written before its last start may lack records.
    """
    owner: Owner | None = None
    managers: dict[str, str] = {}
    sent: list[Sent] = []
    last = ""
    away: dict[str, float] = {}
    records = Records(path, _TAGS)
    incomplete = is_marked(path)
    for _, data in records:
        try:
            record = _decoder.decode(data)
        except msgspec.DecodeError:
            incomplete = True  # of a version that is not this one
            continue
        if isinstance(record, Owner):
            owner = record
        elif isinstance(record, Boot):
            if record.boot != last:
                away.clear()
            last = record.boot
        elif isinstance(record, Away):
            away |= {manager: record.since for manager in record.managers if manager not in away}
        elif isinstance(record, Sent):
            sent.append(record)
        elif record.present:
            managers[record.manager] = record.block
            away.pop(record.manager, None)
        else:
            managers.pop(record.manager, None)
            away.pop(record.manager, None)
    incomplete = incomplete or bool(records.damaged)
    if boot and records.end and last != boot:
        incomplete = True
    if not boot or last != boot:
        away.clear()
    blocks = {manager: block for manager, block in managers.items() if block}
    now = since_boot()
    waited = {manager: max(0.0, now - since) for manager, since in away.items()}
    return owner, Recovered(list(managers), sent, incomplete=incomplete, blocks=blocks, away=waited)
