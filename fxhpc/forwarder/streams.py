"""What the forwarder remembers of a stream: a few bytes for each task, and where its rows are."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable

from fxhpc.ids import to_ranges
from fxhpc.protocol.messages import StreamInfo

# A task's state, one byte each. The order matters: from STORING on, it has ended.
QUEUED = 0  # stored, and not at an interchange
SENT = 1  # at its interchange
RUNNING = 2  # begun, as far as is known
PARKED = 3  # its `local` is gone, and nobody has asked for it since
STORING = 4  # ended; its outcome is on the way into the store
ENDED = 5  # ended; its outcome is in the row that `rows_of` names
DELIVERED = 6  # ended; its client has the outcome, nobody else may ask for it

#: Times of submissions that lie closer together are not told apart, in seconds.
SAME_TIME_S = 0.25


class Segment:
    """Consecutive tasks of one submission row that wait to be sent."""

    __slots__ = ("count", "first", "noted", "payloads", "row", "row_first", "sent_before", "stream")

    def __init__(
        self,
        stream: Stream,
        row: int,
        row_first: int,
        first: int,
        count: int,
        payloads: list[bytes] | None,
        sent_before: bool = False,
    ) -> None:
        self.stream = stream
        self.row = row
        self.row_first = row_first
        self.first = first
        self.count = count
        self.payloads = payloads  # None: they lie in the store
        self.sent_before = sent_before
        self.noted = False  # that it is sent is in the store already: for `retries=0`

    def split(self, count: int) -> tuple[Segment, Segment]:
        """The first `count` tasks, and the rest."""
        return self.part(0, count), self.part(count, self.count)

    def part(self, start: int, stop: int) -> Segment:
        """The tasks at positions start to stop."""
        payloads = self.payloads if self.payloads is None else self.payloads[start:stop]
        part = Segment(
            self.stream,
            self.row,
            self.row_first,
            self.first + start,
            stop - start,
            payloads,
            self.sent_before,
        )
        part.noted = self.noted
        return part

    @property
    def memory(self) -> int:
        """Bytes of arguments that it keeps in memory."""
        return sum(map(len, self.payloads)) if self.payloads is not None else 0

    def waiting(self, wanted: int = QUEUED) -> list[Segment]:
        """What of it still waits: others of its tasks were cancelled, or ended after all.

        Args:
            wanted: the state in which its tasks wait.
        """
        states = self.stream.states[self.first : self.first + self.count]
        if states.count(wanted) == self.count:
            return [self]
        parts: list[Segment] = []
        start = None
        for position, state in enumerate([*states, STORING]):
            if state == wanted and start is None:
                start = position
            elif state != wanted and start is not None:
                parts.append(self.part(start, position))
                start = None
        return parts


class Stream:
    """A stream's tasks.

    Attributes:
        info: what they share.
        owner: the client instance that submitted it, and that runs it if its endpoint is `local`.
        states: one byte for each task.
        rows: the submission rows: number, first task, count, bytes.
        pending: tasks that have not ended.
        pusher: the connection that its outcomes are pushed to, for streams that are not kept.
        accepted: the index that the next submission must begin with.
    """

    def __init__(self, info: StreamInfo, owner: bytes) -> None:
        self.info = info
        self.owner = owner
        self.states = bytearray()
        self.rows_of = array("I")  # a result row's number for each task, 0 for none
        # The OutcomeKind of each task that has ended otherwise than by a value. Most streams have
        # none: it is made when it is needed.
        self.kinds: bytearray | None = None
        self.rows: list[tuple[int, int, int, int]] = []
        self.shared: dict[int, list[bytes]] = {}  # by submission row
        self.size = 0  # bytes of all arguments
        self.pending = 0
        self.pusher = b""
        self.accepted = 0
        self.refusing = False
        self.uncommitted = 0  # submissions on their way into the store
        self.touched = 0.0  # wall clock: when something ended, or was asked for, last
        self.noted = 0.0  # wall clock: what the store knows of that
        # Tasks that count as SENT, and were not: their interchange was asked who has them.
        self.asked: set[int] = set()
        self.recovered = False  # a forwarder of before had it: some may run, and it is not known
        self._queued = array("d")  # from which index on tasks were queued when: pairs
        self._looked_rows = 0  # of `rows`, for `take_delivered`

    @property
    def count(self) -> int:
        """Tasks that are stored."""
        return len(self.states)

    def state(self, index: int) -> int:
        """A task's state; one that was never submitted counts as DELIVERED."""
        if index < len(self.states):
            return self.states[index]
        return QUEUED if index < self.accepted else DELIVERED

    def note_queued(self, first: int, wall: float) -> None:
        """The tasks from this index on are queued now. A loop of single ones takes 16 bytes in a
        quarter of a second."""
        if not self._queued or wall - self._queued[-1] >= SAME_TIME_S:
            self._queued.extend((first, wall))

    def queued(self, index: int) -> float:
        """When a task was queued, wall clock; 0 if a forwarder of before did that."""
        firsts = self._queued[::2]
        position = bisect_right(firsts, index) - 1
        return self._queued[2 * position + 1] if position >= 0 else 0.0

    @property
    def mean_bytes(self) -> float:
        """The mean size of a task's arguments."""
        return self.size / max(1, len(self.states))

    def extend(self, row: int, first: int, count: int, size: int) -> None:
        """Take in a submission row that is stored."""
        missing = first + count - len(self.states)
        if missing > 0:
            self.states.extend(bytes(missing))
            self.rows_of.extend([0] * missing)
            self.pending += missing
        self.rows.append((row, first, count, size))
        self.size += size
        self.accepted = max(self.accepted, first + count)

    def referred(self) -> set[bytes]:
        """The shared arguments of its tasks that have not ended."""
        if not self.shared:
            return set()
        found: set[bytes] = set()
        states = self.states
        for row, first, count, _ in self.rows:
            if (digests := self.shared.get(row)) is not None:
                if min(states[first : first + count], default=STORING) >= STORING:
                    del self.shared[row]
                else:
                    found.update(digests)
        for row in self.shared.keys() - {entry[0] for entry in self.rows}:  # being stored
            found.update(self.shared[row])
        return found

    def skip_to(self, index: int) -> None:
        """What is before this index was delivered, as far as nothing is known of it."""
        missing = index - len(self.states)
        if missing > 0:
            self.states.extend(bytes([DELIVERED]) * missing)
            self.rows_of.extend([0] * missing)
        self.accepted = max(self.accepted, index)

    def take_delivered(self, limit: int) -> list[int]:
        """Submission rows all of whose tasks were delivered; they are not its rows any more.

        The last row stays.

        Args:
            limit: so many rows are looked at, the others the next time.
        """
        start = self._looked_rows if self._looked_rows < len(self.rows) - 1 else 0
        stop = min(len(self.rows) - 1, start + limit)
        left: list[tuple[int, int, int, int]] = []
        taken: list[int] = []
        for entry in self.rows[start:stop]:
            row, first, count, _ = entry
            if self.states.count(DELIVERED, first, first + count) == count:
                taken.append(row)
                self.shared.pop(row, None)
            else:
                left.append(entry)
        if taken:
            self.rows[start:stop] = left
        self._looked_rows = start + len(left)
        return taken

    def end(self, indices: Iterable[int], row: int) -> None:
        """Note where the outcomes of these tasks lie."""
        states, rows_of = self.states, self.rows_of
        for index in indices:
            if states[index] < STORING:
                self.pending -= 1
            states[index] = ENDED
            rows_of[index] = row

    def note_kinds(self, kinds: dict[int, list[int]]) -> None:
        """Note which tasks have ended otherwise than by a value: ranges, by OutcomeKind."""
        if self.kinds is None:
            self.kinds = bytearray()
        self.kinds.extend(bytes(len(self.states) - len(self.kinds)))
        for kind, ranges in kinds.items():
            for first, count in zip(ranges[::2], ranges[1::2], strict=True):
                self.kinds[first : first + count] = bytes([kind]) * count

    def kind(self, index: int) -> int:
        """The OutcomeKind of a task that has ended."""
        return self.kinds[index] if self.kinds is not None and index < len(self.kinds) else 0

    def park(self) -> list[int]:
        """Its `local` is gone: nothing of it runs. Which tasks had been sent, and may have run."""
        states = self.states
        sent = [index for index, state in enumerate(states) if state in (SENT, RUNNING)]
        for index, state in enumerate(states):
            if state < STORING:
                states[index] = PARKED
        return sent

    def unpark(self, indices: Iterable[int] | None) -> list[Segment]:
        """Queue parked tasks, or those of them that are asked for: their segments."""
        states = self.states
        wanted = range(len(states)) if indices is None else indices
        woken = {index for index in wanted if index < len(states) and states[index] == PARKED}
        for index in woken:
            states[index] = QUEUED
        return self.segments(woken) if woken else []

    def segments(self, indices: set[int], *, sent_before: bool = False) -> list[Segment]:
        """These tasks as segments, whose arguments lie in the store."""
        found: list[Segment] = []
        for row, first, count, _ in self.rows:
            ranges = to_ranges(indices.intersection(range(first, first + count)))
            found += [
                Segment(self, row, first, start, length, None, sent_before)
                for start, length in zip(ranges[::2], ranges[1::2], strict=True)
            ]
        return found
