"""What the store is asked: all that a restart needs, payloads, outcomes, functions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from fxhpc.errors import ForwarderError
from fxhpc.forwarder.store.checksums import (
    matches,
    result_checksum,
    stream_checksum,
    submission_checksum,
)
from fxhpc.forwarder.store.files import body_file
from fxhpc.forwarder.store.search import full_text_query
from fxhpc.forwarder.store.sizes import Measured
from fxhpc.ids import from_ranges
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, pack_loss
from fxhpc.protocol.service import ContainerRecord, FunctionRecord

_decode_payloads = msgspec.msgpack.Decoder(list[bytes]).decode
_decode_ranges = msgspec.msgpack.Decoder(list[int]).decode
_decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode
_decode_info = msgspec.msgpack.Decoder(StreamInfo).decode
_decode_container = msgspec.msgpack.Decoder(ContainerRecord).decode
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
    looked: dict[bytes, float] = {}  # by stream, wall clock: when somebody last asked for it
    dropped: list[bytes] = []  # streams that are forgotten, and whose rows are not all dropped


class Reader(Measured):
    """Reads an open store."""

    @property
    def identity(self) -> str:
        """What tells this store from all others: it comes into being with it, and stays."""
        found = self._connection.execute("SELECT value FROM meta WHERE name = 'identity'")
        return str((found.fetchone() or ("",))[0])

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
                (_stream_info(*row), owner)
                for owner, *row in execute(
                    "SELECT owner, stream, info, crc FROM stream ORDER BY number"
                )
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
            looked=dict(execute("SELECT stream, looked FROM stream WHERE looked").fetchall()),
            dropped=[stream for (stream,) in execute("SELECT stream FROM dropped")],
        )

    def load_submission(self, row: int) -> tuple[list[bytes], list[bytes]]:
        """The payloads of a row, and the digests of the large arguments that they share.

        Raises:
            KeyError: there is no such row.
            ForwarderError: the row, or a payload's file, is damaged.
        """
        found = self._connection.execute(
            "SELECT stream, first, count, size, shared, payloads, crc FROM submission "
            "WHERE row = ?",
            (row,),
        ).fetchone()
        if found is None:
            raise KeyError(row)
        stream, first, count, size, shared, encoded, checksum = found
        if checksum not in (None, submission_checksum(row, stream, first, count, shared, encoded)):
            raise ForwarderError(f"Row {row} of {self.path} is damaged: its checksum is wrong.")
        payloads = _decode_payloads(encoded)
        for position, data in self._large("submission", row):
            payloads[position] = data
        if sum(map(len, payloads)) != size:
            raise ForwarderError(
                f"Row {row} of {self.path} is damaged: large payloads are missing."
            )
        digests = [shared[at : at + 32] for at in range(0, len(shared), 32)] if shared else []
        return payloads, digests

    def load_results(self, row: int) -> tuple[list[Outcome], float, str]:
        """The outcomes of a row, when they ended (wall clock) and on which host.

        Damaged outcomes are told as losses: whoever waits for them is not to wait for ever.

        Raises:
            KeyError: there is no such row.
        """
        found = self._connection.execute(
            "SELECT stream, ranges, size, outcomes, ended, host, crc FROM result WHERE row = ?",
            (row,),
        ).fetchone()
        if found is None:
            raise KeyError(row)
        stream, ranges, size, encoded, ended, host, checksum = found
        if checksum not in (None, result_checksum(row, stream, ranges, encoded)):
            damage = f"row {row} of {self.path} has a wrong checksum"
            lost = [_lost(index, damage) for index in from_ranges(_decode_ranges(ranges))]
            return lost, ended, host
        outcomes = _decode_outcomes(encoded)
        whole = True
        for position, name, length, data, check in self._large_rows("result", row):
            outcome = outcomes[position]
            try:
                outcome.data = self._whole(name, length, data, check)
            except ForwarderError as error:
                whole = False
                outcomes[position] = _lost(outcome.index, str(error).partition(". ")[0])
        if whole and sum(len(outcome.data) for outcome in outcomes) != size:
            damage = f"large outcomes of row {row} of {self.path} are missing"
            outcomes = [out if out.data else _lost(out.index, damage) for out in outcomes]
        return outcomes, ended, host

    def _large(self, kind: str, row: int) -> list[tuple[int, bytes]]:
        return [
            (position, self._whole(name, size, data, checksum))
            for position, name, size, data, checksum in self._large_rows(kind, row)
        ]

    def _large_rows(
        self, kind: str, row: int
    ) -> list[tuple[int, str, int, bytes | None, int | None]]:
        found = self._connection.execute(
            f"SELECT position, size, data, crc FROM {kind}_large WHERE row = ?", (row,)
        )
        return [
            (position, f"{kind[0]}{row}-{position}", size, data, checksum)
            for position, size, data, checksum in found
        ]

    def _whole(
        self, name: str, size: int, data: bytes | None, checksum: int | None = None
    ) -> bytes:
        """A large payload: the bytes of its row, or those of its file.

        Raises:
            ForwarderError: they are not what was stored.
        """
        if data is None:
            assert self._files is not None
            return self._files.read(name, size, checksum)
        if not matches(checksum, data):
            raise ForwarderError(
                f"Payload {name} of {self.path} is damaged: its checksum is wrong."
            )
        return data

    def load_body(self, digest: bytes) -> bytes | None:
        """The bytes with this SHA-256, or None.

        Raises:
            ForwarderError: their file is damaged.
        """
        found = self._connection.execute(
            "SELECT size, data FROM body WHERE digest = ?", (digest,)
        ).fetchone()
        if found is None:
            return None
        body = self._whole(body_file(digest), *found)
        if hashlib.sha256(body).digest() != digest:
            raise ForwarderError(
                f"The function or shared argument {digest.hex()[:16]} in {self.path} is damaged, "
                f"or was changed there: its SHA-256 is another. Register it, or submit, again."
            )
        return body

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

    def containers(self, container_ids: list[str]) -> list[ContainerRecord]:
        """The records of those of these containers that exist; of all, if none is named."""
        asked = "SELECT record FROM container"
        if container_ids:
            asked += f" WHERE id IN ({', '.join('?' * len(container_ids))})"
        rows = self._connection.execute(f"{asked} ORDER BY created, id", container_ids)
        return [_decode_container(record) for (record,) in rows]

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

    def unreferenced(self, in_use: list[bytes]) -> list[bytes]:
        """Digests of bodies that no function and no row refers to, nor these streams' digests."""
        execute = self._connection.execute
        left = {digest for (digest,) in execute("SELECT digest FROM body")}.difference(in_use)
        if left:
            for (record,) in execute("SELECT record FROM function"):
                left.discard(_decode_record(record).digest)
        if left:
            for (shared,) in execute(
                "SELECT DISTINCT shared FROM submission WHERE shared IS NOT NULL"
            ):
                left.difference_update(shared[at : at + 32] for at in range(0, len(shared), 32))
        return sorted(left)

    def rows_of(self, stream: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The rows of submissions and of results of a stream, each with its bytes."""
        found = [
            self._connection.execute(
                f"SELECT row, size FROM {kind} WHERE stream = ? ORDER BY row", (stream,)
            ).fetchall()
            for kind in ("submission", "result")
        ]
        return found[0], found[1]


def _stream_info(stream: bytes, encoded: bytes, checksum: int | None) -> StreamInfo:
    info = _decode_info(encoded)
    if info.stream != stream or checksum not in (None, stream_checksum(stream, encoded)):
        raise ValueError("what the tasks of a batch share has a wrong checksum")
    return info


def _lost(index: int, damage: str) -> Outcome:
    text = f"its result was stored, and cannot be read any more: {damage}"
    return Outcome(index, OutcomeKind.LOST, pack_loss(Loss(LossCause.UNDELIVERED, text)))
