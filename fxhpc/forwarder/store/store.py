"""The durable truth: functions, streams, submissions and results in one SQLite database.

One connection, one transaction for each `apply`. A row carries many tasks; payloads above 64 KB
have rows of their own, still larger ones files. Nothing else in the process may open the database's
files: to close a second descriptor of them would drop the lock that keeps other processes out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any

from fxhpc.errors import FxhpcError, StoreFull
from fxhpc.forwarder.store.acknowledged import Acknowledged
from fxhpc.forwarder.store.checksums import result_checksum, submission_checksum
from fxhpc.forwarder.store.errors import explain, is_damage, room_needed
from fxhpc.forwarder.store.files import PayloadFiles, body_file
from fxhpc.forwarder.store.log import Logged, commits_in
from fxhpc.forwarder.store.operations import Operation
from fxhpc.forwarder.store.plausible import check_plausible
from fxhpc.forwarder.store.read import Recovered, ResultRow, SubmissionRow
from fxhpc.forwarder.store.reserve import BESIDE_BYTES, Reserve
from fxhpc.forwarder.store.room import LOG_BYTES, Room
from fxhpc.forwarder.store.salvage import Salvage, mend_header
from fxhpc.forwarder.store.schema import MIGRATIONS, migrate, refuse_newer
from fxhpc.forwarder.store.sizes import MEMORY, Sizes
from fxhpc.forwarder.store.transaction import Transaction
from fxhpc.forwarder.store.write import Changes
from fxhpc.hosts import boot_id

__all__ = ["MEMORY", "Recovered", "ResultRow", "Sizes", "Store", "SubmissionRow"]

#: Above this size a store is checked after a crash only if the machine went down with it: what a
#: process had written when it was killed the kernel still has.
_QUICK_CHECK_LIMIT = 16 * 1024 * 1024

#: The log's file is cut to so many bytes, if it has grown beyond, when it is begun anew.
_LOG_FILE_BYTES = 2 * LOG_BYTES


class Store(Room):
    """A store, open. To be used by one thread at a time; errors leave it usable and unchanged.

    Raises:
        HomeError: it cannot be opened, or another process has it open.
        StoreTooNew: a newer fxhpc wrote it.
    """

    def __init__(
        self,
        path: str,
        *,
        full_sync: bool = False,
        migrations: Sequence[str] = MIGRATIONS,
    ) -> None:
        self.path = path
        #: What a person should be told of the opening, in words.
        self.notices: list[str] = []
        #: What is damaged, if that was found while the store was used.
        self.damage = ""
        self._full_sync = full_sync
        self._files = None
        self._reserve = None
        if path != MEMORY:
            self.path = path = os.path.abspath(path)
            self._files = PayloadFiles(
                os.path.join(os.path.dirname(path), "payloads"), full_sync=full_sync
            )
            self._reserve = Reserve(f"{path}.reserve")
            self._acknowledged = Acknowledged(path)
        try:
            self._open_or_begin(migrations)
        except StoreFull:
            # What is stored is to be read on a full disk too: opening takes little.
            if self._reserve is None or not self._reserve.release():
                self._tell_room_needed()
                raise
            self._open_or_begin(migrations)
        self._prepare_room()

    # --- opening and closing --------------------------------------------------------------------

    def _tell_room_needed(self) -> None:
        """Raise what says more of a disk that is full than that it is."""
        free = self._reserve.room() if self._reserve is not None else BESIDE_BYTES
        if free < BESIDE_BYTES:  # else it is a quota, or a limit on the size of files
            raise room_needed(self.path, "opened", 2 * BESIDE_BYTES, free) from None

    def _open_or_begin(self, migrations: Sequence[str]) -> None:
        try:
            if self.path != MEMORY and os.path.exists(self._mark):
                self._replace("it was found to be so while it was used", migrations)
            else:
                self._open(migrations)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise explain(error, self.path) from error
            self._replace(str(error), migrations)
        except OSError as error:
            raise explain(error, self.path) from error

    def _open(self, migrations: Sequence[str]) -> None:
        path = self.path
        logged, read = Logged(), 0
        if path != MEMORY:
            logged = commits_in(f"{path}-wal")
            # SQLite gives its log the mode of the database; the umask decides nothing here. A file
            # that exists is not opened: another store of this process might have its lock.
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                os.close(os.open(path, flags, 0o600))
            except FileExistsError:
                pass
        connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        self._connection = connection
        self._changes = Changes(connection, self._files)
        try:
            # Exclusive before WAL: then SQLite needs no shared memory, which network file systems
            # do not have, and no other process can read or write.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            refuse_newer(version, path, migrations)
            if version == 0:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA secure_delete = OFF")
            if path == MEMORY:
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("PRAGMA journal_mode = MEMORY")
            else:
                connection.execute("PRAGMA journal_mode = WAL")
                level = "FULL" if self._full_sync else "NORMAL"
                connection.execute(f"PRAGMA synchronous = {level}")
                connection.execute(f"PRAGMA journal_size_limit = {_LOG_FILE_BYTES}")
                connection.execute("PRAGMA cache_size = -16000")
                read = self._compare_log(logged)
                if version:
                    self._check_after_crash()
            copy = migrate(connection, path, migrations)
            if copy:
                self.notices.append(f"The store was migrated; {copy} is its copy from before.")
            identity = self.identity or secrets.token_hex(16)
            self._set_meta_if_new(clean=0, boot=boot_id(), identity=identity)
            if self._acknowledged is not None:
                self._acknowledged.begin(logged, read)
            if self._files is not None:
                self._files.measure()
        except BaseException:
            self._disconnect()
            raise

    def _compare_log(self, logged: Logged) -> int:
        """Tell of commits that are in the log, and that SQLite could not read there.

        What a kill cut off counts as one, unless it is known what was acknowledged. Returns how
        many of the log's frames SQLite has read, or 0.
        """
        assert self._acknowledged is not None
        noted = self._acknowledged.frames_of(logged)
        wanted = max(logged.commits, default=0) if noted is None else noted
        read, is_known = 0, True
        if logged.commits or wanted or not logged.is_whole:
            try:
                _, read, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.OperationalError:
                if self._reserve is not None and self._reserve.size:
                    raise  # it is opened once more, without the reserve
                is_known = False  # a full disk; what is there can be read
        if (is_known and read < wanted) or not logged.is_whole:
            self.notices.append(
                f"The log {self.path}-wal was damaged, as by a loss of power: what was stored in "
                f"the last moments before may be missing. Look for it with `fxhpc task list`, and "
                f"submit again what is not there."
            )
        return int(read)

    def _check_after_crash(self) -> None:
        """Look for damage, and for files that nothing refers to.

        Raises:
            sqlite3.DatabaseError: the database is damaged.
        """
        meta = dict(self._connection.execute("SELECT name, value FROM meta"))
        if meta.get("clean"):
            return
        if meta.get("boot") != boot_id() or os.stat(self.path).st_size < _QUICK_CHECK_LIMIT:
            (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        assert self._files is not None
        known: set[str] = set()
        for kind, letter in (("submission", "s"), ("result", "r")):
            known.update(
                f"{letter}{row}-{position}"
                for row, position in self._connection.execute(
                    f"SELECT row, position FROM {kind}_large WHERE data IS NULL"
                )
            )
        for (digest,) in self._connection.execute("SELECT digest FROM body WHERE data IS NULL"):
            known.add(body_file(digest))
        self._files.sweep(known)

    def recover(self) -> Recovered:
        """What the store holds, without payloads and outcomes. A damaged one is replaced first.

        Raises:
            ForwarderError: it cannot be read.
        """
        try:
            recovered = super().recover()
            for kind, rows in zip(
                ("submission", "result"), check_plausible(recovered), strict=True
            ):
                # What a client left that has gone, or rows of another stream with a flipped bit.
                if not all(self._is_whole(kind, row) for row in rows):
                    raise ValueError("a row of tasks belongs to no batch")
        except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error):
                raise explain(error, self.path) from error
            if self.path == MEMORY:
                raise
            self._disconnect()
            self._replace(str(error), MIGRATIONS)
            recovered = super().recover()
        return recovered

    def _is_whole(self, kind: str, row: int) -> bool:
        columns = "first, count, shared, payloads" if kind == "submission" else "ranges, outcomes"
        *values, stored = self._connection.execute(
            f"SELECT row, stream, {columns}, crc FROM {kind} WHERE row = ?", (row,)
        ).fetchone()
        found = submission_checksum(*values) if kind == "submission" else result_checksum(*values)
        return stored in (None, found)

    def note_damage(self, error: BaseException) -> None:
        """Remember, also for the next opening, if an error came of a damaged database.

        An open one cannot be replaced: whoever has it open sees `damage`, and opens it anew.
        """
        cause = error if isinstance(error, sqlite3.Error) else error.__cause__
        if self.path == MEMORY or self.damage or not is_damage(cause):
            return
        self.damage = str(cause)
        try:
            os.close(os.open(self._mark, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        except OSError:
            pass  # a full disk: it will be found again

    @property
    def _mark(self) -> str:
        return f"{self.path}.is-damaged"

    def _replace(self, reason: str, migrations: Sequence[str]) -> None:
        """Keep a damaged database for whoever wants to look, and carry over what can be read."""
        assert self._files is not None
        assert self._acknowledged is not None
        self._acknowledged.forget()
        aside = f"{self.path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        for suffix in ("", "-wal"):
            if os.path.exists(self.path + suffix):
                os.replace(self.path + suffix, aside + suffix)
        if os.path.isdir(self._files.directory):
            os.replace(self._files.directory, aside + "-payloads")
        self._open(migrations)
        saved, told = self._carry_over(aside)
        if not saved:  # half of it would be worse than nothing
            self._disconnect()
            os.unlink(self.path)
            self._open(migrations)
        if not self._connection.execute("SELECT 1 FROM meta WHERE name = 'epoch'").fetchone():
            # Endpoints have seen epochs that nobody knows any more, and refuse lower ones.
            self._set_meta(epoch=int(time.time()))
        self._files.measure()
        try:
            os.unlink(self._mark)
        except FileNotFoundError:
            pass
        self.notices.append(
            f"The store {self.path} was damaged ({reason}), and is now {aside}. {told}"
        )

    def _carry_over(self, aside: str) -> tuple[bool, str]:
        """Copy what is whole from a store that was set aside; and what to tell of it."""
        assert self._files is not None
        with contextlib.suppress(OSError):  # a full disk: then as much as can be read as it is
            mend_header(aside)
        source = sqlite3.connect(aside, timeout=0, isolation_level=None)
        try:
            salvage = Salvage(source, f"{aside}-payloads", self._connection, self._files.directory)
            with self._transaction():
                salvage.run()
        except (sqlite3.Error, FxhpcError) as error:
            return False, (
                f"Nothing could be carried over ({error}): older tasks and functions are unknown "
                f"to the new one. Submit again what is missing."
            )
        finally:
            source.close()
        return True, salvage.told()

    def close(self) -> None:
        """Write everything into the database's one file, and give the lock back."""
        if self._reserve is not None and self._reserve.room() < self._log_size() + BESIDE_BYTES:
            self._settle()  # what is in the log needs room in the database first
        try:
            self._set_meta(clean=1)
        except sqlite3.Error:
            pass  # a full disk: the next opening looks for damage, and finds none
        self._disconnect()
        if self._acknowledged is not None:
            self._acknowledged.forget_if_emptied()
        if self._reserve is not None:
            self._reserve.hold()

    def _disconnect(self) -> None:
        if self._acknowledged is not None:
            self._acknowledged.close()
        if self._files is not None:
            self._files.close()
        self._connection.close()

    def _set_meta(self, **values: Any) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", values.items()
        )

    def _set_meta_if_new(self, **values: Any) -> None:
        """Write what differs: on a full disk even that may be too much."""
        known = dict(self._connection.execute("SELECT name, value FROM meta"))
        if any(known.get(name) != value for name, value in values.items()):
            self._set_meta(**values)

    def raise_epoch(self) -> int:
        """Begin a new epoch, and return it: 1 for a new store.

        It is on the disk, whatever becomes of other commits: endpoints that have seen it refuse a
        lower one, such as a store would tell that has lost its last moments.

        Raises:
            StoreFull: see `apply`.
        """
        try:
            return self._raise_epoch()
        except StoreFull:
            self._settle()  # if only in the log, which is then written anew from its start
            try:
                return self._raise_epoch()
            finally:
                self._look_for_room()

    def _raise_epoch(self) -> int:
        (level,) = self._connection.execute("PRAGMA synchronous").fetchone()
        if self.path != MEMORY:
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            return self._next_epoch()
        finally:
            self._connection.execute(f"PRAGMA synchronous = {level}")

    def _next_epoch(self) -> int:
        with self._transaction():
            row = self._connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
            epoch = int(row[0] if row else 0) + 1
            self._set_meta(epoch=epoch)
        return epoch

    # --- writing --------------------------------------------------------------------------------

    def apply(self, operations: Iterable[Operation]) -> None:
        """Carry out all operations in one transaction, in their order; durable on return.

        Raises:
            StoreFull: no room on the disk or in the quota; nothing was changed, unless by a list
                that only forgets: some of it may be forgotten.
            ForwarderError: the store cannot be written for another reason; nothing was changed.
        """
        operations = list(operations)
        self._refuse_if_scarce(operations)
        try:
            self._apply(operations)
        except StoreFull as error:
            self._on_full_disk(operations, error)
        if self._is_scarce:
            self._tidy_up(operations)

    def _apply(self, operations: list[Operation]) -> None:
        handlers = self._changes.handlers
        with self._transaction():
            for operation in operations:
                handlers[type(operation)](operation)

    def _transaction(self) -> Transaction:
        return Transaction(self._connection, self._files, self._acknowledged, self.path, self.claim)
