"""A note beside the store: which of the commits in its log were acknowledged.

A process that is killed in the middle of a commit leaves a log whose end SQLite leaves out, and a
damaged one looks alike. What was acknowledged tells them apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from bisect import bisect_right
from io import FileIO

from fxhpc.forwarder.store.log import LogEnd, Logged
from fxhpc.hosts import boot_id

#: Boot, salts of the log, a frame of it that ends a commit; then a checksum of these.
_LOG = struct.Struct(">8s8sI")
_SUM = struct.Struct(">I")

#: Commits after that frame; and the same, by exclusive or with that checksum.
_COUNT = struct.Struct(">II")
_COUNT_AT = _LOG.size + _SUM.size
_FIRST_SALT = 2**32

#: More frames than any log has: some commits that were acknowledged are in none of them.
_MISSING = 2**63


class Acknowledged:
    """Notes each commit before it is acknowledged. That is not synchronised: what the kernel has
    outlives every kill, and the note of another boot counts for nothing.

    Written, not mapped into memory: a mapped file whose disk is full, or gone, ends the process.

    Attributes:
        by_hand: the log is emptied only after `look_again`. Then commits are counted, and the log
            is looked at once each time; else after each commit, which costs more.
    """

    def __init__(self, store: str) -> None:
        self._log_path = f"{store}-wal"
        self._path = f"{store}.acknowledged"
        boot = boot_id()
        self._boot = hashlib.blake2b(boot.encode(), digest_size=8).digest() if boot else b""
        self._files: list[FileIO] = []
        self._end: LogEnd | None = None  # None: nothing is noted
        self._note = -1
        self._commits = 0  # after `_end`
        self._checksum = 0  # of what tells where that is
        self._is_counted = False  # whether nothing but these has changed the log since
        self.by_hand = False

    def frames_of(self, logged: Logged) -> int | None:
        """The frame of this log that ends what was acknowledged last; None: not known."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(_COUNT_AT + _COUNT.size)
        except OSError:
            return None
        if len(data) < _COUNT_AT + _COUNT.size:
            return None
        boot, salts, frame = _LOG.unpack_from(data)
        (checksum,) = _SUM.unpack_from(data, _LOG.size)
        commits, check = _COUNT.unpack_from(data, _COUNT_AT)
        if checksum != zlib.crc32(data[: _LOG.size]) or check != commits ^ checksum:
            return None
        if not self._boot or boot != self._boot:
            return None
        if salts == logged.salts:
            later = logged.commits[bisect_right(logged.commits, frame) :]
            if commits > len(later):
                return _MISSING
            return later[commits - 1] if commits else int(frame)
        # A log is begun anew when all before is in the database, with a first salt that is one
        # more: then nothing of it was acknowledged, else the note would be of it.
        first, before = (int.from_bytes(one[:4], "big") for one in (logged.salts, salts))
        return 0 if logged.salts and first == (before + 1) % _FIRST_SALT else None

    def begin(self, logged: Logged, frame: int) -> None:
        """The store is open: follow its log, of which SQLite has read so many frames."""
        self.close()
        self.by_hand = self._is_counted = False
        if not self._boot:
            return
        try:
            self._files.append(_open(self._log_path, os.O_RDONLY))
            self._files.append(_open(self._path, os.O_RDWR | os.O_CREAT))
            log, self._note = (file.fileno() for file in self._files)
            self._end = LogEnd(log, logged, frame)
        except OSError:
            self.forget()

    def note(self) -> None:
        """A transaction that has changed something is committed, and is acknowledged next."""
        end = self._end
        if end is None:
            return
        try:
            if self._is_counted:
                self._commits = commits = self._commits + 1
                os.pwrite(self._note, _COUNT.pack(commits, commits ^ self._checksum), _COUNT_AT)
                return
            end.look()
            data = _LOG.pack(self._boot, end.salts, end.frame)
            self._commits, self._checksum = 0, zlib.crc32(data)
            data += _SUM.pack(self._checksum) + _COUNT.pack(0, self._checksum)
            os.pwrite(self._note, data, 0)
            self._is_counted = self.by_hand
        except OSError:
            self.forget()

    def look_again(self) -> None:
        """The log may be begun anew from now on, or commits come that are not noted."""
        self._is_counted = False

    def doubt(self) -> None:
        """A transaction was undone."""
        self._is_counted = False
        if self._end is not None:
            try:
                self._end.doubt()
            except OSError:
                self.forget()

    def close(self) -> None:
        """Note nothing more. To be called before the database is closed: SQLite removes the log,
        and network file systems keep what is open under another name."""
        self._end = None
        for file in self._files:
            file.close()
        self._files.clear()

    def forget(self) -> None:
        """Note nothing more, and leave no note: an old one would hide what is missing."""
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def forget_if_emptied(self) -> None:
        """The database is closed: without a log there is nothing to note."""
        if not os.path.exists(self._log_path):
            self.forget()


def _open(path: str, flags: int) -> FileIO:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return FileIO(descriptor, "rb" if flags == os.O_RDONLY else "r+b")
