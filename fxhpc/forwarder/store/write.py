"""How each operation changes the store's tables and files."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.store.checksums import (
    result_checksum,
    stream_checksum,
    submission_checksum,
)
from fxhpc.forwarder.store.files import PayloadFiles, body_file
from fxhpc.protocol.outcome import Outcome
from fxhpc.units import LARGE_PAYLOAD

#: As much of a function's source is indexed for search.
_INDEXED_SOURCE = 64 * 1024

_encode = msgspec.msgpack.Encoder().encode


class Changes:
    """Carries out operations within a transaction that the store has begun."""

    def __init__(self, connection: sqlite3.Connection, files: PayloadFiles | None) -> None:
        self._connection = connection
        self._files = files
        #: One for each type of operation.
        self.handlers: dict[type, Callable[[Any], None]] = {
            op.AddBody: self._add_body,
            op.AddFunction: self._add_function,
            op.AddContainer: self._add_container,
            op.AddStream: self._add_stream,
            op.AddSubmission: self._add_submission,
            op.AddResults: self._add_results,
            op.AddException: self._add_exception,
            op.DropExceptions: self._drop_exceptions,
            op.SetStreamOwner: self._set_stream_owner,
            op.DropSubmissions: lambda drop: self._drop_rows("submission", drop.rows),
            op.DropResults: lambda drop: self._drop_rows("result", drop.rows),
            op.DropStream: self._drop_stream,
            op.ForgetStream: self._forget_stream,
            op.SetStreamLooked: self._set_stream_looked,
            op.DropBodies: self._drop_bodies,
        }

    def _add_body(self, add: op.AddBody) -> None:
        data: bytes | None = add.data
        found = self._connection.execute("SELECT 1 FROM body WHERE digest = ?", (add.digest,))
        if found.fetchone():
            return
        if self._files is not None and len(add.data) > self._files.limit:
            self._files.write(body_file(add.digest), add.data)
            data = None
        self._connection.execute(
            "INSERT INTO body VALUES (?, ?, ?)", (add.digest, len(add.data), data)
        )

    def _add_function(self, add: op.AddFunction) -> None:
        record, execute = add.record, self._connection.execute
        values = (record.searchable, record.created, record.name, _encode(record))
        found = execute(
            "SELECT number FROM function WHERE id = ?", (record.function_id,)
        ).fetchone()
        if found:
            number = found[0]
            execute(
                "UPDATE function SET searchable = ?, created = ?, name = ?, record = ? "
                "WHERE number = ?",
                (*values, number),
            )
            execute("DELETE FROM search WHERE rowid = ?", (number,))
        else:
            number = execute(
                "INSERT INTO function (id, searchable, created, name, record) "
                "VALUES (?, ?, ?, ?, ?)",
                (record.function_id, *values),
            ).lastrowid
        if record.searchable:
            execute(
                "INSERT INTO search (rowid, name, description, author, source) "
                "VALUES (?, ?, ?, ?, ?)",
                (
                    number,
                    record.name,
                    record.description,
                    record.author,
                    record.source[:_INDEXED_SOURCE],
                ),
            )

    def _add_container(self, add: op.AddContainer) -> None:
        record = add.record
        self._connection.execute(
            "INSERT OR IGNORE INTO container (id, created, record) VALUES (?, ?, ?)",
            (record.container_id, record.created, _encode(record)),
        )

    def _add_stream(self, add: op.AddStream) -> None:
        name, encoded = add.info.stream, _encode(add.info)
        self._connection.execute(
            "INSERT OR IGNORE INTO stream (stream, owner, info, crc) VALUES (?, ?, ?, ?)",
            (name, add.owner, encoded, stream_checksum(name, encoded)),
        )

    def _add_submission(self, add: op.AddSubmission) -> None:
        payloads = add.payloads
        sizes = list(map(len, payloads))
        if max(sizes, default=0) > LARGE_PAYLOAD:
            payloads = self._take_large("submission", add.row, payloads)
        shared, encoded = b"".join(add.shared) or None, _encode(payloads)
        checksum = submission_checksum(
            add.row, add.stream, add.first, len(payloads), shared, encoded
        )
        self._connection.execute(
            "INSERT INTO submission VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                add.row,
                add.stream,
                add.first,
                len(payloads),
                sum(sizes),
                shared,
                encoded,
                checksum,
            ),
        )

    def _add_results(self, add: op.AddResults) -> None:
        outcomes = add.outcomes
        sizes = [len(outcome.data) for outcome in outcomes]
        if add.kinds:
            self._connection.executemany(
                "INSERT INTO result_kind VALUES (?, ?, ?)",
                [(add.row, kind, _encode(ranges)) for kind, ranges in add.kinds.items()],
            )
        if max(sizes, default=0) > LARGE_PAYLOAD:
            data = self._take_large("result", add.row, [outcome.data for outcome in outcomes])
            outcomes = [
                Outcome(outcome.index, outcome.kind, rest, outcome.ran, outcome.output)
                for outcome, rest in zip(outcomes, data, strict=True)
            ]
        ranges, encoded = _encode(add.indices), _encode(outcomes)
        self._connection.execute(
            "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                add.row,
                add.stream,
                ranges,
                sum(sizes),
                add.ended,
                add.host,
                encoded,
                result_checksum(add.row, add.stream, ranges, encoded),
            ),
        )

    def _take_large(self, kind: str, row: int, payloads: list[bytes]) -> list[bytes]:
        """Store the large payloads on their own; returns the list with nothing in their places."""
        rest = list(payloads)
        for position, payload in enumerate(payloads):
            size = len(payload)
            if size <= LARGE_PAYLOAD:
                continue
            data: bytes | None = payload
            if self._files is not None and size > self._files.limit:
                self._files.write(f"{kind[0]}{row}-{position}", payload)
                data = None
            self._connection.execute(
                f"INSERT INTO {kind}_large VALUES (?, ?, ?, ?, ?)",
                (row, position, size, data, zlib.crc32(payload)),
            )
            rest[position] = b""
        return rest

    def _add_exception(self, add: op.AddException) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO exception VALUES (?, ?, ?, ?)",
            (add.stream, add.index, add.kind, add.data),
        )

    def _drop_exceptions(self, drop: op.DropExceptions) -> None:
        self._connection.executemany(
            "DELETE FROM exception WHERE stream = ? AND task >= ? AND task < ?",
            [
                (drop.stream, first, first + count)
                for first, count in zip(drop.ranges[::2], drop.ranges[1::2], strict=True)
            ],
        )

    def _set_stream_owner(self, change: op.SetStreamOwner) -> None:
        self._connection.execute(
            "UPDATE stream SET owner = ? WHERE stream = ?", (change.owner, change.stream)
        )

    def _drop_rows(self, kind: str, rows: list[int]) -> None:
        keys = [(row,) for row in rows]
        if self._files is not None:
            for name in self._files_of(kind, rows):
                self._files.drop(name)
        self._connection.executemany(f"DELETE FROM {kind}_large WHERE row = ?", keys)
        self._connection.executemany(f"DELETE FROM {kind} WHERE row = ?", keys)
        if kind == "result":
            self._connection.executemany("DELETE FROM result_kind WHERE row = ?", keys)

    def _files_of(self, kind: str, rows: list[int]) -> list[str]:
        """The names of files that these rows refer to."""
        return [
            f"{kind[0]}{row}-{position}"
            for wanted in rows
            for row, position in self._connection.execute(
                f"SELECT row, position FROM {kind}_large WHERE row = ? AND data IS NULL", (wanted,)
            )
        ]

    def _rows_of(self, kind: str, stream: bytes) -> list[int]:
        found = self._connection.execute(f"SELECT row FROM {kind} WHERE stream = ?", (stream,))
        return [row for (row,) in found.fetchall()]

    def remove_files(self, drop: op.Operation) -> None:
        """Remove the files of what is to be forgotten now: on a full disk, before anything else."""
        if self._files is None:
            return
        names: list[str] = []
        if isinstance(drop, op.DropSubmissions):
            names = self._files_of("submission", drop.rows)
        elif isinstance(drop, op.DropResults):
            names = self._files_of("result", drop.rows)
        elif isinstance(drop, op.DropStream | op.ForgetStream):
            for kind in ("submission", "result"):
                names += self._files_of(kind, self._rows_of(kind, drop.stream))
        elif isinstance(drop, op.DropBodies):
            names = list(map(body_file, drop.digests))
        self._files.remove(names)

    def _drop_stream(self, drop: op.DropStream) -> None:
        key = (drop.stream,)
        for kind in ("submission", "result"):
            self._drop_rows(kind, self._rows_of(kind, drop.stream))
        for table in ("exception", "stream", "dropped"):
            self._connection.execute(f"DELETE FROM {table} WHERE stream = ?", key)

    def _forget_stream(self, forget: op.ForgetStream) -> None:
        key = (forget.stream,)
        self._connection.execute("INSERT OR IGNORE INTO dropped VALUES (?)", key)
        for table in ("exception", "stream"):
            self._connection.execute(f"DELETE FROM {table} WHERE stream = ?", key)

    def _set_stream_looked(self, change: op.SetStreamLooked) -> None:
        self._connection.execute(
            "UPDATE stream SET looked = ? WHERE stream = ?", (change.at, change.stream)
        )

    def _drop_bodies(self, drop: op.DropBodies) -> None:
        for digest in drop.digests:
            if self._files is not None:
                self._files.drop(body_file(digest))
            self._connection.execute("DELETE FROM body WHERE digest = ?", (digest,))
