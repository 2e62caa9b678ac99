"""Room on the store's disk: a short log, pages given back, and what is done when the disk is full.

To forget something takes room first: a log of the change, and for what is in the log already, its
place in the database. So there is a reserve that is as large as all of this can get; the log is
short, and on a full disk shorter still; new work is refused before the reserve is touched, and what
has run leaves the last of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from fxhpc.errors import StoreFull
from fxhpc.forwarder.claim import Claim
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.store.acknowledged import Acknowledged
from fxhpc.forwarder.store.errors import explain, no_room, room_needed
from fxhpc.forwarder.store.operations import Operation
from fxhpc.forwarder.store.read import Reader
from fxhpc.forwarder.store.reserve import BESIDE_BYTES, Reserve
from fxhpc.forwarder.store.write import Changes

#: Bytes that the log may hold before it is emptied: where there is room, and where there is not.
LOG_BYTES = 4 * 1024 * 1024
_SHORT_LOG_BYTES = 256 * 1024

#: Rows dropped, and pages freed, in one step on a full disk: their log takes about 150 KB.
_FEW_ROWS, _FEW_PAGES = 32, 64

#: Room that one such step takes at the most.
_STEP_BYTES = 512 * 1024

#: Pages that are freed before the log is emptied: it gets two for each at the worst.
_PAGES_A_CHECKPOINT = 512

_NEW_WORK = frozenset({op.AddBody, op.AddFunction, op.AddContainer, op.AddStream, op.AddSubmission})
_DROPS = frozenset(
    {
        op.DropSubmissions,
        op.DropResults,
        op.DropStream,
        op.DropBodies,
        op.DropExceptions,
        op.ForgetStream,
    }
)


class Room(Reader):
    """The part of a store that keeps it small, and able to become smaller.

    Attributes:
        claim: this process's to the store, if others may take that over: looked at before it is
            written to.
    """

    claim: Claim | None = None
    _changes: Changes
    _reserve: Reserve | None
    _acknowledged: Acknowledged | None = None
    _is_scarce = False  # room on the disk is, or was when it was looked at last
    _freed_pages = 0  # since the log was emptied

    def _apply(self, operations: list[Operation]) -> None:
        """Carry out all of these, or nothing."""
        raise NotImplementedError

    # --- the log and freed pages ----------------------------------------------------------------

    @property
    def log_limit(self) -> int:
        """Bytes that the log may hold before it is to be emptied."""
        if self._reserve is None:
            return LOG_BYTES
        return max(_SHORT_LOG_BYTES, min(LOG_BYTES, self._reserve.aim // 2))

    def checkpoint_by_hand(self) -> None:
        """From now on the log is emptied by `checkpoint` alone, and not by some commit."""
        if self._acknowledged is not None:
            self._acknowledged.by_hand = True
        self._connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()

    def checkpoint(self) -> None:
        """Move what is in the log into the database, as far as that can be done now."""
        self._check_owner()
        self._look_again()
        with contextlib.suppress(sqlite3.Error):  # a full disk: it is tried again
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def truncate(self) -> bool:
        """Give the room of freed pages and of the log back to the file system. Waits for it.

        Returns whether that could be done: on a full disk the log holds it all the same.
        """
        self._check_owner()
        self._look_again()
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            return False
        return True

    def compact(self, pages: int = 1000) -> int:
        """Free up to so many unused pages of 4 KB; returns how many are left.

        Raises:
            StoreFull: the disk is full, and the reserve is used up.
        """
        if not self._is_scarce:
            try:
                left = self._vacuum(pages)
            except StoreFull:
                if self._reserve is None:
                    raise
            else:
                self._freed_pages += pages
                if self._freed_pages >= _PAGES_A_CHECKPOINT:
                    self._freed_pages = 0
                    self.checkpoint()
                return left
        self._settle()
        try:
            left = self._vacuum(_FEW_PAGES)
        except StoreFull as error:
            raise self._cannot_shrink() from error
        finally:
            self.truncate()
            self._look_for_room()
        return left

    def _vacuum(self, pages: int) -> int:
        self._check_owner()
        self._look_again()
        # A transaction of its own. A script goes on to its end: `execute` would free one page.
        try:
            self._connection.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
        except sqlite3.Error as error:
            if self._acknowledged is not None:
                self._acknowledged.doubt()
            raise explain(error, self.path) from error
        if self._acknowledged is not None:
            self._acknowledged.note()
        (left,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return int(left)

    def _check_owner(self) -> None:
        if self.claim is not None:
            self.claim.check()

    def _look_again(self) -> None:
        if self._acknowledged is not None:
            self._acknowledged.look_again()

    # --- a full disk ----------------------------------------------------------------------------

    def _prepare_room(self) -> None:
        """The store is open: set the reserve aside, and leave some room to other files."""
        if self._reserve is None:
            return
        if self._reserve.room() < BESIDE_BYTES:
            self._settle()
        self._reserve.begin()
        self._is_scarce = not self._reserve.is_whole
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {self.log_limit // 4096}").fetchall()

    def _settle(self) -> None:
        """Give up the reserve, and bring what is in the log to its place, which takes room."""
        if self._reserve is not None:
            self._is_scarce = True
            self._reserve.release()
            self.truncate()

    def _look_for_room(self) -> bool:
        """Whether there is room for more than what runs: the reserve is whole, some more is free,
        and what is in the log has its place in the database."""
        if self._reserve is not None:
            is_whole = self._reserve.hold()
            self._is_scarce = (
                not is_whole
                or self._reserve.room() < BESIDE_BYTES
                or (self._is_clogged and not self.truncate())
            )
        return not self._is_scarce

    @property
    def _is_clogged(self) -> bool:
        """Whether the log has grown far beyond its limit: that it could not be emptied, perhaps."""
        return self._log_size() > 2 * self.log_limit

    def _refuse_if_scarce(self, operations: list[Operation]) -> None:
        """Refuse new work as long as the room there is belongs to what runs.

        Raises:
            StoreFull: so it is.
        """
        if self._reserve is None or _NEW_WORK.isdisjoint(map(type, operations)):
            return
        if (self._is_scarce or self._is_clogged) and not self._look_for_room():
            raise no_room(self.path, "the last room is kept for running work")

    def _on_full_disk(self, operations: list[Operation], error: StoreFull) -> None:
        """Apply what met a full disk, as far as the reserve is for it.

        Raises:
            StoreFull: it is not, or is used up; of a list that only forgets some may be forgotten.
        """
        if self._reserve is None:
            raise error
        kinds = set(map(type, operations))
        if kinds <= _DROPS:
            self._drop_on_full_disk(operations)
            return
        if _NEW_WORK.isdisjoint(kinds):
            while self._reserve.give_half():
                self._is_scarce = True
                self.truncate()
                with contextlib.suppress(StoreFull):
                    self._apply(operations)
                    return
        self._settle()  # what did not fit is in the log's file still
        self._look_for_room()
        raise error

    def _drop_on_full_disk(self, operations: list[Operation]) -> None:
        self._settle()
        for part in _in_parts(operations):
            try:
                self._apply([part])
            except StoreFull:
                self._changes.remove_files(part)  # nobody may ask for them any more
                self.truncate()
                try:
                    self._apply([part])
                except StoreFull as error:
                    told = self._cannot_shrink()
                    self._look_for_room()
                    raise told from error
            self.truncate()

    def _tidy_up(self, operations: list[Operation]) -> None:
        """After a change on a full disk: keep the log short, and take back what was given up."""
        assert self._reserve is not None
        makes_room = _DROPS.issuperset(map(type, operations))
        if makes_room or self._log_size() > _SHORT_LOG_BYTES:
            self.truncate()
        if self._look_for_room() or not makes_room:
            return
        self._settle()
        with contextlib.suppress(StoreFull):
            while self._reserve.room() < self._reserve.aim + BESIDE_BYTES:
                left = self._vacuum(_FEW_PAGES)
                self.truncate()
                if not left:
                    break
        self._look_for_room()

    def _cannot_shrink(self) -> StoreFull:
        """The error for a store that is too full to forget anything."""
        assert self._reserve is not None
        grows = sum(self.usage()) - self._files_size() - self._database_size()
        needed = max(0, grows) + _STEP_BYTES
        return room_needed(self.path, "made smaller", needed, self._reserve.room())


def _in_parts(operations: list[Operation]) -> Iterator[Operation]:
    """The same, to be done a few rows at a time."""
    for operation in operations:
        if isinstance(operation, op.DropSubmissions | op.DropResults):
            for at in range(0, len(operation.rows), _FEW_ROWS):
                yield type(operation)(operation.rows[at : at + _FEW_ROWS])
        else:
            yield operation
