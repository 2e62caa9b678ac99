"""A store in memory that follows the forwarder's operations: each list whole, or not at all."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

from fxhpc.errors import StoreFull
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.store.read import Recovered, ResultRow, SubmissionRow
from fxhpc.forwarder.store.sizes import Sizes
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.service import ContainerRecord, FunctionRecord


class ModelStore:
    """What is durable, and what waits to be written.

    A crash of the forwarder loses what waits; what was committed stays, acknowledged or not.

    Attributes:
        full: refuse whatever adds something, as a full disk does.
        refuse_next: refuse so many requests to write, whatever they are.
    """

    def __init__(self) -> None:
        self.full = False
        self.refuse_next = 0
        self.epoch = 0
        self.requests: deque[ev.Store | ev.Load] = deque()
        self._tables = _Tables()

    # --- what a writer does ---------------------------------------------------------------------

    def ask(self, request: ev.Store | ev.Load) -> None:
        """Take a request; requests are carried out in their order."""
        self.requests.append(request)

    def work(self) -> ev.Event | None:
        """Carry out the next request: what the forwarder is to be told, or None."""
        if not self.requests:
            return None
        request = self.requests.popleft()
        if isinstance(request, ev.Store):
            return ev.Stored(request.token, self._apply(request.operations))
        try:
            value = getattr(self, request.method)(*request.arguments)
        except KeyError as error:
            return ev.Loaded(request.token, None, error)
        return ev.Loaded(request.token, value)

    def crash(self, committed: int) -> None:
        """End the writer: so many requests are still carried out, though nobody hears of it."""
        for _ in range(min(committed, len(self.requests))):
            self.work()
        self.requests.clear()

    def _apply(self, operations: list[op.Operation]) -> Exception | None:
        if self.refuse_next:
            self.refuse_next -= 1
            return StoreFull("the disk is full")
        if self.full and any(
            type(operation).__name__.startswith("Add") for operation in operations
        ):
            return StoreFull("the disk is full")
        changed = copy.copy(self._tables)
        changed.copy_tables()
        for operation in operations:
            changed.handlers[type(operation)](operation)
        self._tables = changed
        return None

    # --- what a store is asked ------------------------------------------------------------------

    def recover(self) -> Recovered:
        """All that a forwarder needs to go on; raises the epoch."""
        self.epoch += 1
        tables = self._tables
        submissions = [
            SubmissionRow(
                row, add.stream, add.first, len(add.payloads), sum(map(len, add.payloads))
            )
            for row, add in sorted(tables.submissions.items())
        ]
        results = [
            ResultRow(row, add.stream, add.indices, 0, add.ended)
            for row, add in sorted(tables.results.items())
        ]
        return Recovered(
            epoch=self.epoch,
            next_submission=max(tables.submissions, default=0) + 1,
            next_result=max(tables.results, default=0) + 1,
            bodies={digest: len(data) for digest, data in tables.bodies.items()},
            streams=list(tables.streams.values()),
            submissions=submissions,
            results=results,
            exceptions=[
                (stream, index, kind, data)
                for (stream, index, kind), data in tables.exceptions.items()
            ],
            kinds=[
                (add.stream, kind, ranges)
                for _, add in sorted(tables.results.items())
                for kind, ranges in add.kinds.items()
            ],
            dropped=sorted(tables.dropped),
        )

    def load_submission(self, row: int) -> tuple[list[bytes], list[bytes]]:
        """Payloads and shared digests of a row."""
        add = self._tables.submissions[row]
        return add.payloads, add.shared

    def load_results(self, row: int) -> tuple[list[Outcome], float, str]:
        """Outcomes of a row, when they ended, and where."""
        add = self._tables.results[row]
        return add.outcomes, add.ended, add.host

    def load_body(self, digest: bytes) -> bytes | None:
        """The bytes with this SHA-256."""
        return self._tables.bodies.get(digest)

    def containers(self, container_ids: list[str]) -> list[ContainerRecord]:
        """Records of containers that exist, or of all."""
        records = self._tables.containers
        return [records[name] for name in container_ids or records if name in records]

    def functions(self, function_ids: list[str]) -> list[FunctionRecord]:
        """Records of functions that exist."""
        records = self._tables.functions
        return [records[name] for name in function_ids if name in records]

    #: Bytes that count as if they were here, see `Store`.
    beside = 0

    #: Bytes that are free on its disk.
    room = 2**40

    def limited(self) -> tuple[int, int, int]:
        """Bytes of all that is limited, of room that is free in it, and on its disk."""
        used, free = self.usage()
        return used + self.beside, free, self.room

    def usage(self) -> tuple[int, int]:
        """Bytes of payloads, and of room that is free: none."""
        tables = self._tables
        size = sum(sum(map(len, add.payloads)) for add in tables.submissions.values())
        size += sum(len(out.data) for add in tables.results.values() for out in add.outcomes)
        return size + sum(map(len, tables.bodies.values())), 0

    def disk(self) -> int:
        """Bytes of everything."""
        return self.usage()[0]

    def compact(self, pages: int = 1000) -> int:
        """No page is ever free."""
        return 0

    def truncate(self) -> None:
        """There is no log."""

    def unreferenced(self, in_use: list[bytes]) -> list[bytes]:
        """Bodies that nothing refers to."""
        tables = self._tables
        left = set(tables.bodies).difference(in_use)
        left.difference_update(record.digest for record in tables.functions.values())
        for add in tables.submissions.values():
            left.difference_update(add.shared)
        return sorted(left)

    def rows_of(self, stream: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Rows of submissions and of results of a stream, with their bytes."""
        submissions = [
            (row, sum(map(len, add.payloads)))
            for row, add in self._tables.submissions.items()
            if add.stream == stream
        ]
        results = [(row, 0) for row, add in self._tables.results.items() if add.stream == stream]
        return submissions, results

    def sizes_by_stream(self) -> tuple[Sizes, dict[bytes, int]]:
        """What is here, and the bytes of each stream's results."""
        tables, used = self._tables, self.usage()[0]
        results: dict[bytes, int] = {}
        for add in tables.results.values():
            size = sum(len(outcome.data) for outcome in add.outcomes)
            results[add.stream] = results.get(add.stream, 0) + size
        bodies = sum(map(len, tables.bodies.values()))
        sizes = Sizes(
            database=used,
            files=0,
            submissions=used - bodies - sum(results.values()),
            results=sum(results.values()),
            bodies=bodies,
            submission_rows=len(tables.submissions),
            result_rows=len(tables.results),
            functions=len(tables.functions),
            free=0,
            used=used,
        )
        return sizes, results

    def bodies(self) -> set[bytes]:
        """Digests of the bodies that are here."""
        return set(self._tables.bodies)

    def stored_tasks(self, stream: bytes) -> int:
        """Tasks of a stream that lie here."""
        rows = self._tables.submissions.values()
        return sum(len(add.payloads) for add in rows if add.stream == stream)

    def stored_outcomes(self, stream: bytes) -> dict[int, list[Outcome]]:
        """The outcomes of each task of a stream: no task may have two."""
        found: dict[int, list[Outcome]] = {}
        for add in self._tables.results.values():
            if add.stream == stream:
                for outcome in add.outcomes:
                    found.setdefault(outcome.index, []).append(outcome)
        return found

    def streams(self) -> set[bytes]:
        """The streams that are known here."""
        return set(self._tables.streams)


class _Tables:
    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes] = {}
        self.functions: dict[str, FunctionRecord] = {}
        self.containers: dict[str, ContainerRecord] = {}
        self.streams: dict[bytes, tuple[StreamInfo, bytes]] = {}
        self.submissions: dict[int, op.AddSubmission] = {}
        self.results: dict[int, op.AddResults] = {}
        self.exceptions: dict[tuple[bytes, int, int], bytes] = {}
        self.dropped: set[bytes] = set()
        self.copy_tables()

    def copy_tables(self) -> None:
        """Let changes leave alone the tables that this was copied from."""
        self.bodies = dict(self.bodies)
        self.functions = dict(self.functions)
        self.containers = dict(self.containers)
        self.streams = dict(self.streams)
        self.submissions = dict(self.submissions)
        self.results = dict(self.results)
        self.exceptions = dict(self.exceptions)
        self.dropped = set(self.dropped)
        self.handlers: dict[type, Callable[[Any], object]] = {
            op.AddBody: lambda add: self.bodies.setdefault(add.digest, add.data),
            op.AddContainer: lambda add: self.containers.setdefault(
                add.record.container_id, add.record
            ),
            op.AddFunction: lambda add: self.functions.update({add.record.function_id: add.record}),
            op.AddStream: lambda add: self.streams.setdefault(
                add.info.stream, (add.info, add.owner)
            ),
            op.AddSubmission: lambda add: self._add(self.submissions, add),
            op.AddResults: lambda add: self._add(self.results, add),
            op.AddException: self._add_exception,
            op.DropExceptions: self._drop_exceptions,
            op.SetStreamOwner: self._set_owner,
            op.DropSubmissions: lambda drop: self._drop(self.submissions, drop.rows),
            op.DropResults: lambda drop: self._drop(self.results, drop.rows),
            op.DropStream: self._drop_stream,
            op.ForgetStream: self._forget_stream,
            op.SetStreamLooked: lambda change: None,
            op.DropBodies: lambda drop: self._drop(self.bodies, drop.digests),
        }

    @staticmethod
    def _add(table: dict[int, Any], add: Any) -> None:
        assert add.row not in table, f"row {add.row} was written twice"
        table[add.row] = add

    @staticmethod
    def _drop(table: dict[Any, Any], keys: list[Any]) -> None:
        for key in keys:
            table.pop(key, None)

    def _add_exception(self, add: op.AddException) -> None:
        self.exceptions[add.stream, add.index, add.kind] = add.data

    def _drop_exceptions(self, drop: op.DropExceptions) -> None:
        pairs = list(zip(drop.ranges[::2], drop.ranges[1::2], strict=True))
        for key in list(self.exceptions):
            if key[0] == drop.stream and any(f <= key[1] < f + count for f, count in pairs):
                del self.exceptions[key]

    def _set_owner(self, change: op.SetStreamOwner) -> None:
        if change.stream in self.streams:
            self.streams[change.stream] = (self.streams[change.stream][0], change.owner)

    def _forget_stream(self, forget: op.ForgetStream) -> None:
        self.streams.pop(forget.stream, None)
        self.dropped.add(forget.stream)
        for key in [key for key in self.exceptions if key[0] == forget.stream]:
            del self.exceptions[key]

    def _drop_stream(self, drop: op.DropStream) -> None:
        self.streams.pop(drop.stream, None)
        self.dropped.discard(drop.stream)
        for table in (self.submissions, self.results):
            rows = [row for row, add in table.items() if add.stream == drop.stream]
            self._drop(table, rows)
        for key in [key for key in self.exceptions if key[0] == drop.stream]:
            del self.exceptions[key]
