"""How much a store takes: in pages that are used, which is limited, and of the disk."""

from __future__ import annotations

import glob
import os
import sqlite3
import sys
from collections.abc import Sequence
from typing import NamedTuple

from fxhpc.forwarder.store.files import PayloadFiles
from fxhpc.forwarder.store.reserve import Reserve

MEMORY = ":memory:"


class Sizes(NamedTuple):
    """What the store takes, in bytes and in rows."""

    database: int  # the database's file and its log
    files: int  # the files of the largest payloads
    submissions: int  # of these: payloads of tasks
    results: int
    bodies: int
    submission_rows: int
    result_rows: int
    functions: int
    free: int  # inside the database, to be used again
    log: int = 0  # of `database`, with the note beside it
    reserve: int = 0  # what is set aside so that a full disk stops submissions alone
    aside: Sequence[tuple[str, int]] = ()  # what was damaged: paths and bytes
    # What is limited: pages in use, in the database or still in its log, files, and those beside.
    used: int = 0


class Measured:
    """Measures an open store."""

    path: str
    _connection: sqlite3.Connection
    _files: PayloadFiles | None
    _reserve: Reserve | None

    #: Bytes of files that others have written for tasks of this store: limited with it. Set by
    #: whoever counts them.
    beside = 0

    def limited(self) -> tuple[int, int, int]:
        """Bytes of all that is limited, of free pages, and that are free on its disk. Costs
        nothing.
        """
        used, free = self.usage()
        room = self._reserve.room() if self._reserve is not None else sys.maxsize
        return used + self.beside, free, room

    def usage(self) -> tuple[int, int]:
        """Bytes of pages in use and of files, and bytes of free pages. Costs nothing."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (page,) = self._connection.execute("PRAGMA page_size").fetchone()
        files = self._files.size if self._files else 0
        return int(page) * (int(pages) - int(free)) + files, int(page) * int(free)

    @property
    def logged_payload(self) -> int:
        """Bytes of the largest payload that lies in the database, and in its log before."""
        return self._files.limit if self._files else sys.maxsize

    def disk(self) -> int:
        """Bytes that the store takes of the disk: database, log, files and reserve."""
        reserve = size_of(f"{self.path}.reserve")
        log = self._log_size() + self._note_size()
        return self._database_size() + log + reserve + self._files_size()

    def _database_size(self) -> int:
        """Bytes of the database's file. Pages may be in the log that are not in it yet."""
        if self.path == MEMORY:
            return sum(self.usage())
        return size_of(self.path)  # to stat it drops no lock

    def _log_size(self) -> int:
        try:  # for each commit of new work: one system call
            return os.stat(f"{self.path}-wal").st_size
        except OSError:
            return 0  # it is in memory, or nothing was written

    def _note_size(self) -> int:
        return size_of(f"{self.path}.acknowledged")

    def _files_size(self) -> int:
        return self._files.size if self._files else 0

    def sizes_by_stream(self) -> tuple[Sizes, dict[bytes, int]]:
        """What the store takes, and the bytes of each stream's results."""
        results = self._connection.execute("SELECT stream, sum(size) FROM result GROUP BY stream")
        return self.sizes(), dict(results.fetchall())

    def sizes(self) -> Sizes:
        """What the store takes."""

        def one(query: str) -> int:
            return int(self._connection.execute(query).fetchone()[0] or 0)

        used, free = self.usage()
        log = self._log_size() + self._note_size()
        return Sizes(
            database=self._database_size() + log,
            files=self._files_size(),
            submissions=one("SELECT sum(size) FROM submission"),
            results=one("SELECT sum(size) FROM result"),
            bodies=one("SELECT sum(size) FROM body"),
            submission_rows=one("SELECT count(*) FROM submission"),
            result_rows=one("SELECT count(*) FROM result"),
            functions=one("SELECT count(*) FROM function"),
            free=free,
            log=log,
            reserve=size_of(f"{self.path}.reserve"),
            aside=sorted(
                (path, size_of(path)) for path in glob.glob(f"{glob.escape(self.path)}.damaged-*")
            ),
            used=used + self.beside,
        )


def size_of(path: str) -> int:
    """Bytes of a file, or of all files in a directory; 0 if there is none."""
    try:
        if not os.path.isdir(path):
            return os.stat(path).st_size
        with os.scandir(path) as found:
            return sum(entry.stat().st_size for entry in found)
    except OSError:
        return 0
