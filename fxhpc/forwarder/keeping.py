"""How much the store may hold and for how long: limits, retention, purges. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.dropping import STEP_PAGES, Dropping, Gone
from fxhpc.forwarder.state import State, error_words, ignore, is_local
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.streams import Stream
from fxhpc.ids import to_ranges
from fxhpc.protocol import service
from fxhpc.protocol.keeping import MAX_BYTES, RETENTION_S
from fxhpc.units import format_bytes

#: As much room within the database is kept for what comes next, without being asked to give it.
KEPT_FREE_BYTES = 64 * 2**20

#: Seconds between two looks for what is too old; and until a look at outcomes is noted once more.
LOOK_S = 60.0
NOTE_S = 3600.0

#: The part of its limit from which a store is nearly full, the room on its disk below which that
#: is, in bytes, and seconds until it is told again.
NEARLY_FULL = 0.8
LITTLE_ROOM = 256 * 2**20
TOLD_S = 24 * 3600.0

#: Submission rows of a stream that one tick looks at.
_TICK_ROWS = 5000


class Keeping:
    """Keeps the store within its limits, and tells what it holds.

    Attributes:
        dropping: what drops that which is to go.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.dropping = Dropping(state)
        self._max_bytes = MAX_BYTES
        self._retention_s = RETENTION_S
        self._groups: Mapping[str, float] = {}
        self._tell_at = 0.0  # when it is told next that the store is nearly full
        self._used = 0  # bytes that the store takes, as it said last, and what was added since
        self._free = 0  # bytes within the database that can be used again
        self._room = MAX_BYTES  # bytes that are free on its disk
        self._measuring = False
        self._has_changed = True  # since it was measured
        self._begun: tuple[float, float] | None = None  # wall clock and monotonic, at first
        self._look_at = 0.0
        # Rows of results that their client has, by stream: with the ranges of their tasks.
        self._delivered: dict[Stream, list[tuple[int, list[int]]]] = {}

    # --- limits ---------------------------------------------------------------------------------

    def set_limits(
        self, max_bytes: int, retention_s: float, groups: Mapping[str, float] = {}
    ) -> None:
        """Somebody has changed the store's limits; `groups` has task groups' own retention."""
        self._max_bytes, self._retention_s, self._groups = max_bytes, retention_s, groups
        self._look_at = 0.0
        if self._state.durable:
            self._measure()

    def refusal(self, size: int) -> str:
        """Why so many bytes more cannot be stored, or nothing; they are counted."""
        self._has_changed = True  # also if it is refused: what is beside the store goes by itself
        if not self._state.durable or self._used + size <= self._max_bytes:
            self._used += size
            return ""
        return (
            f"The store of this home holds {format_bytes(self._used)}, and may hold "
            f"{format_bytes(self._max_bytes)} (max_bytes); nothing of this submission was stored, "
            f"running work goes on. See what takes the room: fxhpc store du; make some: "
            f"fxhpc store purge --older-than 1d; or allow more: fxhpc store set --max-bytes 20GB"
        )

    # --- time -----------------------------------------------------------------------------------

    @property
    def wall(self) -> float:
        """The wall clock, as it was set when this forwarder began: no step of it ends anything."""
        if self._begun is None:
            return 0.0
        return self._begun[0] + self._state.now - self._begun[1]

    def begin(self, wall: float) -> None:
        """What the wall clock says: at the beginning, so that the first call finds old things old.
        Later ones change nothing.
        """
        if self._begun is None and wall:
            self._begun = wall, self._state.now
            for stream in self._state.streams.values():
                stream.touched = stream.touched or wall

    def tick(self, wall: float) -> None:
        """Time has passed."""
        self.begin(wall)
        self.dropping.drop_shared()
        if not self._state.durable:
            return
        if self.dropping.tick():
            self._has_changed = True
        self._drop_delivered()
        self._measure()
        self._warn()
        if self._begun is None or self._state.now < self._look_at:
            return
        self._look_at = self._state.now + LOOK_S
        wall = self.wall
        old = [s for s in self._ended() if s.touched and s.touched < wall - self._kept_s(s)]
        if old:
            self.forget(old)

    def _kept_s(self, stream: Stream) -> float:
        """How long a stream's results are kept."""
        return self._groups.get(stream.info.group, self._retention_s)

    def _warn(self) -> None:
        """Tell who is there that the store, or its disk, is nearly full: once a day."""
        state = self._state
        is_full = self._used >= NEARLY_FULL * self._max_bytes
        if not (is_full or self._room < LITTLE_ROOM) or state.now < self._tell_at:
            return
        if not state.clients:
            return
        self._tell_at = state.now + TOLD_S
        what, more = (
            (
                f"the store of this home is nearly full: {format_bytes(self._used)} of "
                f"{format_bytes(self._max_bytes)} (max_bytes)",
                "or allow more: fxhpc store set --max-bytes 20GB",
            )
            if is_full
            else (
                f"the file system of this home's store is nearly full: "
                f"{format_bytes(self._room)} are free",
                "or use another one: fxhpc store move DIRECTORY",
            )
        )
        words = (
            f"{what}; when it is, nothing more is taken in. See what takes the room: fxhpc store "
            f"du; keep what you need: fxhpc store export; then make some: fxhpc store purge "
            f"--older-than 1d; {more}"
        )
        for client in state.clients.values():
            state.say(client.peer, service.Notice(words))

    def looked(self, stream: Stream) -> None:
        """Somebody has asked for outcomes of this stream: its retention begins anew."""
        wall = self.wall
        if wall > stream.touched:
            stream.touched = wall
        if stream.info.keep and not stream.pending and wall > stream.noted + NOTE_S:
            stream.noted = wall
            self._state.store([op.SetStreamLooked(stream.info.stream, wall)], ignore)

    def ended(self, stream: Stream) -> None:
        """Outcomes of this stream were stored."""
        stream.touched = max(stream.touched, self.wall)
        self._has_changed = True

    def _measure(self) -> None:
        if self._measuring or not self._has_changed:
            return
        self._measuring, self._has_changed = True, False

        def measured(value: Any, error: Exception | None) -> None:
            self._measuring = False
            if error is None:
                self._used, self._free, self._room = value
                self._compact_by_itself()

        self._state.load("limited", (), measured)

    def _ended(self) -> Iterator[Stream]:
        """Streams that may go: all has ended, and nobody has more of it on the way."""
        for stream in self._state.streams.values():
            is_open = stream.pending or stream.uncommitted or stream.accepted > stream.count
            if stream.info.keep and not is_open:
                yield stream

    # --- what a client has ----------------------------------------------------------------------

    def delivered(self, stream: Stream, indices: list[int]) -> None:
        """A client has these outcomes, of one row, of a stream that is not kept."""
        if indices and self._state.durable and not stream.info.keep:
            row = (stream.rows_of[indices[0]], to_ranges(indices))
            self._delivered.setdefault(stream, []).append(row)

    def _drop_delivered(self) -> None:
        """Drop rows of which every task was delivered.

        Results after the arguments of their tasks: without them a task would seem to be queued. A
        stream's last row of arguments stays: it tells the number of its next task.
        """
        operations: list[op.Operation] = []
        for stream, waiting in list(self._delivered.items()):
            if self._state.streams.get(stream.info.stream) is not stream:
                del self._delivered[stream]
                continue
            submissions = stream.take_delivered(_TICK_ROWS)
            firsts = [first for _, first, _, _ in stream.rows]
            results: list[int] = []
            left: list[tuple[int, list[int]]] = []
            for row, ranges in waiting:
                if any(
                    _overlaps(stream, firsts, first, count)
                    for first, count in zip(ranges[::2], ranges[1::2], strict=True)
                ):
                    left.append((row, ranges))
                else:
                    results.append(row)
                    operations.append(op.DropExceptions(stream.info.stream, ranges))
            if left:
                self._delivered[stream] = left
            else:
                del self._delivered[stream]
            if submissions:
                operations.append(op.DropSubmissions(submissions))
            if results:
                operations.append(op.DropResults(results))
        if operations:
            self._has_changed = True
            self._state.store(operations, ignore)

    # --- what goes ------------------------------------------------------------------------------

    def forget(self, streams: Iterable[Stream], then: Gone | None = None) -> None:
        """Forget streams, and drop their rows bit by bit.

        Args:
            then: called when all of them are dropped, or cannot be for now.
        """
        streams = list(streams)
        for stream in streams:
            self._delivered.pop(stream, None)
        if self.dropping.forget(streams, then):
            self._has_changed = True

    def _compact_by_itself(self) -> None:
        """Room within the database is given back, if it is much, a step with each tick."""
        if self._free > max(KEPT_FREE_BYTES, self._used // 2):
            self._has_changed = True
            self._state.load("compact", (STEP_PAGES,), lambda value, error: None)

    # --- calls ----------------------------------------------------------------------------------

    def purge(
        self,
        client: Client,
        message: service.PurgeTasks,
        end_streams: Callable[[list[Stream]], None],
    ) -> None:
        """Answer PurgeTasks when all is gone, and the file system has its room back."""
        if message.dry_run:
            self._state.say(client.peer, self._purged(message)[0])
            return
        before, trouble, answer = 0, None, service.Purged(message.call, 0, 0, 0)

        def measured(value: Any, error: Exception | None) -> None:
            nonlocal before, answer
            before = value or 0
            # Chosen now, and forgotten at once: what somebody submits meanwhile is not meant.
            answer, chosen = self._purged(message)
            end_streams([stream for stream in chosen if stream.pending])
            known = self._state.streams
            self.forget([s for s in chosen if known.get(s.info.stream) is s], then=gone)

        def gone(error: Exception | None) -> None:
            nonlocal trouble
            trouble = error
            self.dropping.sweep()
            # After what the sweep asks for has been answered.
            self._state.load("disk", (), lambda value, error: self.dropping.compact(compacted))

        def compacted(error: Exception | None) -> None:
            nonlocal trouble
            trouble = trouble or error
            self._state.load("disk", (), done)

        def done(value: Any, error: Exception | None) -> None:
            if failed := trouble or error:
                self._state.fail(client, message.call, *error_words(failed))
                return
            answer.freed_bytes = max(0, before - value)
            self._state.say(client.peer, answer)

        self._state.load("disk", (), measured)

    def _purged(self, message: service.PurgeTasks) -> tuple[service.Purged, list[Stream]]:
        """The streams that are meant, and what there is to tell of them."""
        chosen = [stream for stream in self._state.streams.values() if self._meant(stream, message)]
        tasks, pending = (
            sum(stream.count for stream in chosen),
            sum(stream.pending for stream in chosen),
        )
        return service.Purged(message.call, len(chosen), tasks, pending), chosen

    def _meant(self, stream: Stream, message: service.PurgeTasks) -> bool:
        info = stream.info
        if message.group and info.group != message.group:
            return False
        if message.endpoint and info.endpoint != message.endpoint:
            return False
        if not info.keep or stream.uncommitted or stream.accepted > stream.count:
            return False  # an Executor's goes with it
        if stream.pending and not message.pending:
            return False
        if not message.older_s:
            return True
        # Somebody wants a group's results for longer: an age alone does not mean them.
        own_s = 0.0 if message.group else self._groups.get(info.group, 0.0)
        return stream.touched <= self.wall - max(message.older_s, own_s)

    def usage(self, client: Client, message: service.GetStoreUsage) -> None:
        """Answer GetStoreUsage."""

        def measured(value: Any, error: Exception | None) -> None:
            if error is not None:
                self._state.fail(client, message.call, *error_words(error))
                return
            sizes, results = value
            entries: dict[tuple[str, str, bool, bool], service.StoreEntry] = {}
            for stream in self._state.streams.values():
                info = stream.info
                key = (info.endpoint, info.function_id, stream.pending > 0, info.keep)
                entry = entries.get(key)
                if entry is None:
                    named = self._state.named_endpoint(info.endpoint)
                    title = "local" if is_local(stream) else named.title if named else info.endpoint
                    entry = entries[key] = service.StoreEntry(
                        info.endpoint, title, info.function_id, stream.pending > 0, info.keep
                    )
                entry.batches += 1
                entry.tasks += stream.count
                entry.pending += stream.pending
                entry.argument_bytes += sum(size for _, _, _, size in stream.rows)
                entry.result_bytes += results.get(info.stream, 0)
                entry.oldest = min(entry.oldest or info.created, info.created)
            self._state.say(
                client.peer,
                service.StoreUsage(
                    message.call,
                    sizes.database - sizes.log,
                    sizes.files,
                    sizes.log,
                    sizes.reserve,
                    sizes.free,
                    sizes.bodies,
                    sizes.functions,
                    sizes.used,
                    self._max_bytes,
                    self._retention_s,
                    list(entries.values()),
                    sizes.aside,
                ),
            )

        self._state.load("sizes_by_stream", (), measured)


def _overlaps(stream: Stream, firsts: list[int], first: int, count: int) -> bool:
    """Whether a row of arguments that is stored has one of these tasks."""
    at = bisect_right(firsts, first + count - 1) - 1
    return at >= 0 and stream.rows[at][1] + stream.rows[at][2] > first
