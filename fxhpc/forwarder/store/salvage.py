"""What can be read of a damaged store is carried over into a new one; the rest is counted."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from fxhpc.forwarder.store.checksums import (
    matches,
    result_checksum,
    stream_checksum,
    submission_checksum,
)
from fxhpc.forwarder.store.files import body_file
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.service import ContainerRecord, FunctionRecord

#: Rows that are tried one by one, where damage stops a look from both ends of a table.
_TRIED_ROWS = 20_000

#: A row as the tables have it.
_Row = tuple[Any, ...]

_payloads = msgspec.msgpack.Decoder(list[bytes]).decode
_ranges = msgspec.msgpack.Decoder(list[int]).decode
_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode
_info = msgspec.msgpack.Decoder(StreamInfo).decode
_decode_container = msgspec.msgpack.Decoder(ContainerRecord).decode
_record = msgspec.msgpack.Decoder(FunctionRecord).decode

_Broken = (msgspec.MsgspecError, ValueError, TypeError, OverflowError)


#: A database file begins with this; then the size of a page, and what is the same in all that
#: have a log (https://www.sqlite.org/fileformat2.html, section 1.3).
_MAGIC = b"SQLite format 3\0"
_PAGE_BYTES = 4096
_AFTER_MAGIC = _PAGE_BYTES.to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32])
_PAGES_AT, _CHANGES_AT, _VALID_AT = 28, 24, 92


def mend_header(path: str) -> None:
    """Make the first bytes of a damaged database say what is there: whole pages, so many.

    SQLite reads nothing of a file that is shorter than its header says, or begins otherwise.

    Raises:
        OSError: it cannot be written.
    """
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        header = bytearray(file.read(100))
        if size < _PAGE_BYTES or not (
            header.startswith(_MAGIC) or header.startswith(_AFTER_MAGIC, len(_MAGIC))
        ):
            return  # it is no database at all
        pages = -(-size // _PAGE_BYTES)
        file.truncate(pages * _PAGE_BYTES)
        header[: len(_MAGIC)] = _MAGIC
        header[len(_MAGIC) : len(_MAGIC) + len(_AFTER_MAGIC)] = _AFTER_MAGIC
        header[_PAGES_AT : _PAGES_AT + 4] = pages.to_bytes(4, "big")
        header[_VALID_AT : _VALID_AT + 4] = header[_CHANGES_AT : _CHANGES_AT + 4]
        file.seek(0)
        file.write(header)


class Salvage:
    """Copies what is whole from a damaged database, and its files, into a new one.

    Args:
        source: the damaged database, opened.
        source_files: where the files of its largest payloads are.
        target: the new store's connection, in a transaction.
        target_files: where its files are to be.

    Attributes:
        saved: rows that were carried over, by table.
        lost: rows that were found, and are damaged or belong to nothing any more.
        incomplete: tables that could not be read to the end.
    """

    def __init__(
        self,
        source: sqlite3.Connection,
        source_files: str,
        target: sqlite3.Connection,
        target_files: str,
    ) -> None:
        # A flipped bit in a text is no reason to read nothing after it.
        source.text_factory = lambda text: text.decode(errors="replace")
        self._source = source
        self._source_files = source_files
        self._target = target
        self._target_files = target_files
        self._streams: set[bytes] = set()
        self._dropped: set[bytes] = set()
        self._rows: dict[str, set[int]] = {"submission": set(), "result": set()}
        self.saved: dict[str, int] = {}
        self.lost = 0
        self.incomplete: list[str] = []

    def run(self) -> None:
        """Carry over all that is whole."""
        self._copy("meta", "name, value", self._meta)
        self._copy("body", "digest, size, data", self._body)
        self._copy("function", "id, searchable, created, name, record", self._function)
        self._copy("container", "id, created, record", self._container)
        for (stream,) in self._read("dropped", "stream"):
            self._dropped.add(stream)
        self._copy("stream", "stream, owner, info, crc, looked", self._stream)
        self._copy(
            "submission", "row, stream, first, count, size, shared, payloads, crc", self._submission
        )
        self._copy("submission_large", "row, position, size, data, crc", self._large("submission"))
        self._copy("result", "row, stream, ranges, size, ended, host, outcomes, crc", self._result)
        self._copy("result_large", "row, position, size, data, crc", self._large("result"))
        self._copy("result_kind", "row, kind, ranges", self._kind)
        self._copy("exception", "stream, task, kind, data", self._exception)

    def told(self) -> str:
        """What was carried over and what was not, in words."""
        saved = self.saved
        told = (
            f"Carried over were {saved['function']:,} functions, {saved['stream']:,} batches, "
            f"{saved['submission']:,} rows of tasks and {saved['result']:,} of results"
        )
        if not self.lost and not self.incomplete:
            return f"{told}: all that was in it."
        part = f", and of {', '.join(self.incomplete)} a part" if self.incomplete else ""
        return (
            f"{told}; {self.lost:,} rows were damaged{part}. Tasks whose results were among them "
            f"run again; submit again what is missing (fxhpc task list)."
        )

    # --- reading --------------------------------------------------------------------------------

    def _copy(self, table: str, columns: str, take: Callable[[_Row], bool]) -> None:
        saved = 0
        for row in self._read(table, columns):
            try:
                kept = take(row)
            except (*_Broken, sqlite3.Error, OSError):
                kept = False
            saved += kept
            self.lost += not kept
        self.saved[table] = saved

    def _read(self, table: str, columns: str) -> Iterator[_Row]:
        """Rows from the beginning as far as can be read, then from the end, then in between."""
        known = {name for _, name, *_ in self._pragma(table)}
        if not known:
            if table not in ("dropped", "container"):  # which older ones do not have
                self.incomplete.append(table)
            return
        names = columns.split(", ")
        listed = ", ".join(name if name in known else "NULL" for name in names)
        key = names[0]
        seen: set[_Row] = set()
        keys = 2 if names[1:2] in (["position"], ["task"], ["kind"]) else 1
        if table == "exception":
            keys = 3
        whole = False
        for direction in ("ASC", "DESC"):
            order = ", ".join(f"{name} {direction}" for name in names[:keys])
            try:
                for row in self._source.execute(f"SELECT {listed} FROM {table} ORDER BY {order}"):
                    if row[:keys] not in seen:
                        seen.add(row[:keys])
                        yield row
                whole = True
                break
            except (sqlite3.Error, OverflowError, UnicodeDecodeError):
                continue
        if whole:
            return
        self.incomplete.append(table)
        if key == "row" and seen:
            numbers = sorted(row[0] for row in seen)
            gaps = (n for a, b in itertools.pairwise(numbers) for n in range(a + 1, b))
            for _, number in zip(range(_TRIED_ROWS), gaps, strict=False):
                try:
                    yield from self._source.execute(
                        f"SELECT {listed} FROM {table} WHERE row = ?", (number,)
                    ).fetchall()
                except (sqlite3.Error, OverflowError, UnicodeDecodeError):
                    continue

    def _pragma(self, table: str) -> list[_Row]:
        try:
            return self._source.execute(f"PRAGMA table_info({table})").fetchall()
        except sqlite3.Error:
            return []

    def _insert(self, table: str, row: _Row, columns: str = "") -> bool:
        marks = ", ".join("?" * len(row))
        self._target.execute(f"INSERT INTO {table} {columns} VALUES ({marks})", row)
        return True

    # --- what is whole --------------------------------------------------------------------------

    def _meta(self, row: _Row) -> bool:
        if row[0] not in ("epoch", "identity"):
            return True  # of this opening alone
        if row[0] == "epoch" and (not isinstance(row[1], int) or not 0 < row[1] < 2**53):
            return False
        if row[0] == "identity" and not (isinstance(row[1], str) and len(row[1]) == 32):
            return False
        self._target.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", row)
        return True

    def _body(self, row: _Row) -> bool:
        digest, size, data = row
        if data is None:
            path = os.path.join(self._source_files, body_file(digest))
            with open(path, "rb") as file:
                content = file.read()
            whole = hashlib.sha256(content).digest() == digest
            return whole and self._take_file(body_file(digest)) and self._insert("body", row)
        whole = hashlib.sha256(data).digest() == digest and len(data) == size
        return whole and self._insert("body", row)

    def _function(self, row: _Row) -> bool:
        name, searchable, created, title, encoded = row
        record = _record(encoded)
        if record.function_id != name:
            return False
        number = self._target.execute(
            "INSERT INTO function (id, searchable, created, name, record) VALUES (?, ?, ?, ?, ?)",
            (name, bool(searchable), float(created), str(title), encoded),
        ).lastrowid
        if record.searchable:
            self._target.execute(
                "INSERT INTO search (rowid, name, description, author, source) "
                "VALUES (?, ?, ?, ?, ?)",
                (number, record.name, record.description, record.author, record.source[: 2**16]),
            )
        return True

    def _container(self, row: _Row) -> bool:
        name, created, encoded = row
        if _decode_container(encoded).container_id != name:
            return False
        return self._insert("container", (name, float(created), encoded))

    def _stream(self, row: _Row) -> bool:
        name, owner, encoded, checksum, looked = row
        if checksum not in (None, stream_checksum(name, encoded)) or _info(encoded).stream != name:
            return False
        self._streams.add(name)
        values = (name, owner, encoded, checksum, float(looked or 0))
        return self._insert("stream", values, "(stream, owner, info, crc, looked)")

    def _submission(self, row: _Row) -> bool:
        number, stream, first, count, _, shared, encoded, checksum = row
        if stream in self._dropped:
            return True
        if checksum is not None and checksum != submission_checksum(
            number, stream, first, count, shared, encoded
        ):
            return False
        if stream not in self._streams or len(_payloads(encoded)) != count or first < 0:
            return False
        self._rows["submission"].add(number)
        return self._insert("submission", row)

    def _result(self, row: _Row) -> bool:
        number, stream, ranges, _, _, _, encoded, checksum = row
        if stream in self._dropped:
            return True
        if checksum is not None and checksum != result_checksum(number, stream, ranges, encoded):
            return False
        if stream not in self._streams or len(_outcomes(encoded)) != sum(_ranges(ranges)[1::2]):
            return False
        self._rows["result"].add(number)
        return self._insert("result", row)

    def _large(self, kind: str) -> Callable[[_Row], bool]:
        def take(row: _Row) -> bool:
            number, position, _, data, checksum = row
            if number not in self._rows[kind]:
                return True  # counted with its row
            if data is None:
                # Missing or damaged, it is told when it is asked for.
                self._take_file(f"{kind[0]}{number}-{position}")
            elif not matches(checksum, data):
                self.lost += 1  # and told when it is asked for
            return self._insert(f"{kind}_large", row)

        return take

    def _kind(self, row: _Row) -> bool:
        _ranges(row[2])
        return row[0] not in self._rows["result"] or self._insert("result_kind", row)

    def _exception(self, row: _Row) -> bool:
        stream, task, _, _ = row
        if stream not in self._streams or not 0 <= task < 2**32:
            return False
        return self._insert("exception", row)

    def _take_file(self, name: str) -> bool:
        source = os.path.join(self._source_files, name)
        os.makedirs(self._target_files, 0o700, exist_ok=True)
        target = os.path.join(self._target_files, name)
        try:
            try:
                os.link(source, target)  # the same bytes twice would fill a disk
            except OSError:
                shutil.copyfile(source, target)
                os.chmod(target, 0o600)
        except OSError:
            return False
        return True
