"""What the store is asked: all that a restart needs, payloads, outcomes, functions, sizes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from fxhpc.forwarder.store_files import PayloadFiles, body_file
from fxhpc.forwarder.store_search import full_text_query
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.service import FunctionRecord

MEMORY = ":memory:"

_decode_payloads = msgspec.msgpack.Decoder(list[bytes]).decode
_decode_ranges = msgspec.msgpack.Decoder(list[int]).decode
_decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode
_decode_info = msgspec.msgpack.Decoder(StreamInfo).decode
_decode_record = msgspec.msgpack.Decoder(FunctionRecord).decode


class SubmissionRow(NamedTuple):
    """A row of submissions, without its payloads."""

    row: int
    stream: bytes
    first: int
    tasks: int
    size: int  # bytes of all payloads


class ResultRow(NamedTuple):
    """A row of results, without its outcomes."""

    row: int
    stream: bytes
    ranges: list[int]
    size: int  # bytes of all outcomes' data
    ended: float


class Recovered(NamedTuple):
    """All that a forwarder needs to go on, but for payloads and outcomes."""

    epoch: int
    next_submission: int  # the next free row
    next_result: int
    bodies: dict[bytes, int]  # digest -> bytes
    streams: list[tuple[StreamInfo, bytes]]  # with their owners
    submissions: list[SubmissionRow]  # ascending by row
    results: list[ResultRow]
    exceptions: list[tuple[bytes, int, int, bytes]]  # stream, index, ExceptionKind, data
    # Of results that are no values: the stream, the OutcomeKind, ranges of indices.
    kinds: list[tuple[bytes, int, list[int]]] = []


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


class Reader:
    """Reads an open store."""

    path: str
    _connection: sqlite3.Connection
    _files: PayloadFiles | None

    def recover(self) -> Recovered:
        """What the store holds, without payloads and outcomes."""
        execute = self._connection.execute
        epoch = execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        submissions = list(
            map(
                SubmissionRow._make,
                execute("SELECT row, stream, first, count, size FROM submission ORDER BY row"),
            )
        )
        results = [
            ResultRow(row, stream, _decode_ranges(ranges), size, ended)
            for row, stream, ranges, size, ended in execute(
                "SELECT row, stream, ranges, size, ended FROM result ORDER BY row"
            )
        ]
        return Recovered(
            epoch=epoch[0] if epoch else 0,
            next_submission=submissions[-1].row + 1 if submissions else 1,
            next_result=results[-1].row + 1 if results else 1,
            bodies=dict(execute("SELECT digest, size FROM body").fetchall()),
            streams=[
                (_decode_info(info), owner)
                for info, owner in execute("SELECT info, owner FROM stream ORDER BY number")
            ],
            submissions=submissions,
            results=results,
            exceptions=execute("SELECT stream, task, kind, data FROM exception").fetchall(),
            kinds=[
                (stream, kind, _decode_ranges(ranges))
                for stream, kind, ranges in execute(
                    "SELECT stream, kind, result_kind.ranges "
                    "FROM result_kind JOIN result USING (row)"
                )
            ],
        )

    def load_submission(self, row: int) -> tuple[list[bytes], list[bytes]]:
        """The payloads of a row, and the digests of the large arguments that they share.

        Raises:
            KeyError: there is no such row.
            ForwarderError: a payload's file is damaged.
        """
        found = self._connection.execute(
            "SELECT shared, payloads FROM submission WHERE row = ?", (row,)
        ).fetchone()
        if found is None:
            raise KeyError(row)
        shared, encoded = found
        payloads = _decode_payloads(encoded)
        for position, data in self._large("submission", row):
            payloads[position] = data
        digests = [shared[at : at + 32] for at in range(0, len(shared), 32)] if shared else []
        return payloads, digests

    def load_results(self, row: int) -> tuple[list[Outcome], float, str]:
        """The outcomes of a row, when they ended (wall clock) and on which host.

        Raises:
            KeyError: there is no such row.
            ForwarderError: a result's file is damaged.
        """
        found = self._connection.execute(
            "SELECT outcomes, ended, host FROM result WHERE row = ?", (row,)
        ).fetchone()
        if found is None:
            raise KeyError(row)
        encoded, ended, host = found
        outcomes = _decode_outcomes(encoded)
        for position, data in self._large("result", row):
            outcomes[position].data = data
        return outcomes, ended, host

    def _large(self, kind: str, row: int) -> list[tuple[int, bytes]]:
        found = self._connection.execute(
            f"SELECT position, size, data FROM {kind}_large WHERE row = ?", (row,)
        )
        return [
            (position, self._from_file(f"{kind[0]}{row}-{position}", size, data))
            for position, size, data in found
        ]

    def _from_file(self, name: str, size: int, data: bytes | None) -> bytes:
        if data is not None:
            return data
        assert self._files is not None
        return self._files.read(name, size)

    def load_body(self, digest: bytes) -> bytes | None:
        """The bytes with this SHA-256, or None.

        Raises:
            ForwarderError: their file is damaged.
        """
        found = self._connection.execute(
            "SELECT size, data FROM body WHERE digest = ?", (digest,)
        ).fetchone()
        return None if found is None else self._from_file(body_file(digest), *found)

    def functions(self, function_ids: Iterable[str]) -> list[FunctionRecord]:
        """The records of those of these functions that exist, in this order."""
        records = []
        for function_id in function_ids:
            found = self._connection.execute(
                "SELECT record FROM function WHERE id = ?", (function_id,)
            ).fetchone()
            if found:
                records.append(_decode_record(found[0]))
        return records

    def search(
        self, query: str, offset: int = 0, limit: int = 10
    ) -> tuple[list[FunctionRecord], int]:
        """Searchable functions that match what a person typed, best first, and how many do.

        All words must be found, each at the beginning of a word of name, description, author or
        source. An empty query finds all, the newest first; if nothing matches, functions whose
        name contains the query are found.
        """
        execute = self._connection.execute
        page = (max(limit, 0), max(offset, 0))
        if not query.strip():
            (total,) = execute("SELECT count(*) FROM function WHERE searchable").fetchone()
            rows = execute(
                "SELECT record FROM function WHERE searchable "
                "ORDER BY created DESC, number DESC LIMIT ? OFFSET ?",
                page,
            )
            return [_decode_record(record) for (record,) in rows], total
        wanted = full_text_query(query)
        if wanted:
            (total,) = execute(
                "SELECT count(*) FROM search WHERE search MATCH ?", (wanted,)
            ).fetchone()
            if total:
                rows = execute(
                    "SELECT function.record FROM search JOIN function "
                    "ON function.number = search.rowid WHERE search MATCH ? "
                    "ORDER BY function.name = ? COLLATE NOCASE DESC, "
                    "bm25(search, 10, 4, 4, 1), created DESC, number DESC "
                    "LIMIT ? OFFSET ?",
                    (wanted, query.strip(), *page),
                )
                return [_decode_record(record) for (record,) in rows], total
        part = query.strip().lower()
        matching = "FROM function WHERE searchable AND instr(lower(name), ?)"
        (total,) = execute(f"SELECT count(*) {matching}", (part,)).fetchone()
        rows = execute(
            f"SELECT record {matching} ORDER BY created DESC, number DESC LIMIT ? OFFSET ?",
            (part, *page),
        )
        return [_decode_record(record) for (record,) in rows], total

    def sizes(self) -> Sizes:
        """What the store takes."""

        def one(query: str) -> int:
            return int(self._connection.execute(query).fetchone()[0] or 0)

        page = one("PRAGMA page_size")
        log = 0
        if self.path != MEMORY:
            try:
                log = os.stat(f"{self.path}-wal").st_size  # to stat it drops no lock
            except FileNotFoundError:
                pass  # nothing was written yet
        in_files = "SELECT sum(size) FROM {} WHERE data IS NULL"
        tables = ("submission_large", "result_large", "body")
        return Sizes(
            database=page * one("PRAGMA page_count") + log,
            files=sum(one(in_files.format(table)) for table in tables),
            submissions=one("SELECT sum(size) FROM submission"),
            results=one("SELECT sum(size) FROM result"),
            bodies=one("SELECT sum(size) FROM body"),
            submission_rows=one("SELECT count(*) FROM submission"),
            result_rows=one("SELECT count(*) FROM result"),
            functions=one("SELECT count(*) FROM function"),
            free=page * one("PRAGMA freelist_count"),
        )
