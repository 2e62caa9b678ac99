"""Who waits for which outcomes, and how they get them without filling anybody's memory. No I/O."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import NamedTuple

from fxhpc.forwarder import causes
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.attempts import Attempts
from fxhpc.forwarder.streams import DELIVERED, ENDED, PARKED, RUNNING, STORING, Stream
from fxhpc.ids import from_ranges
from fxhpc.protocol import service, states
from fxhpc.protocol.messages import ResultRun
from fxhpc.protocol.outcome import CANCELLED, VALUE, Outcome, size_of

#: Outcomes that are kept in memory after they were stored, in bytes: most are asked for at once.
CACHE_BYTES = 64 * 2**20

#: Where an answer is cut: the client asks again for the rest.
ANSWER_TASKS = 4096
ANSWER_BYTES = 8 * 2**20

#: Pushes to a client that it has not acknowledged; what comes after them waits in the store. Beyond
#: so many bytes there is one at a time, however large.
PUSHES_OUT = 64
PUSHES_OUT_BYTES = 32 * 2**20


class Row:
    """A result row in memory."""

    __slots__ = ("by_index", "ended", "host", "size")

    def __init__(self, outcomes: list[Outcome], ended: float, host: str) -> None:
        self.by_index = {outcome.index: outcome for outcome in outcomes}
        self.ended = ended
        self.host = host
        self.size = size_of(outcomes) + 100 * len(outcomes)


class RowCache:
    """The rows that were stored or asked for last."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._rows: OrderedDict[int, Row] = OrderedDict()
        self._size = 0

    def add(self, number: int, row: Row) -> None:
        """Keep a row, and let the oldest go."""
        self.drop(number)
        self._rows[number] = row
        self._size += row.size
        while self._size > self._limit and len(self._rows) > 1:
            _, old = self._rows.popitem(last=False)
            self._size -= old.size

    def get(self, number: int) -> Row | None:
        """The row, if it is still here."""
        row = self._rows.get(number)
        if row is not None:
            self._rows.move_to_end(number)
        return row

    def drop(self, number: int) -> None:
        """The row is not needed any more."""
        if old := self._rows.pop(number, None):
            self._size -= old.size


#: Of tasks that have ended, and whose outcomes are on their way into the store.
_RUNS = causes.Cause(states.RUNNING, "")


class Doubt(NamedTuple):
    """Tasks of a stream that may run although nobody has said so yet, and what to say of them."""

    indices: set[int]
    reason: str


_NO_DOUBT = Doubt(set(), "")


class Waiter:
    """A Fetch that waits: for tasks to end, then for rows to be read."""

    def __init__(self, peer: bytes, fetch: service.Fetch, deadline: float) -> None:
        self.peer = peer
        self.call = fetch.call
        self.outcomes = fetch.outcomes
        self.details = fetch.details
        self.ended = fetch.ended
        self.begun = fetch.begun
        self.deadline = deadline
        self.need = fetch.need
        self.wanted = [(part.stream, from_ranges(part.ranges)) for part in fetch.tasks]
        self.total = sum(len(indices) for _, indices in self.wanted)
        self.pending: dict[bytes, set[int]] = {}
        self.loading: set[int] = set()

    def look(self, streams: dict[bytes, Stream]) -> None:
        """Find out which of its tasks are pending."""
        for name, indices in self.wanted:
            stream = streams.get(name)
            if stream is None:
                continue
            waits = {index for index in indices if stream.state(index) <= STORING}
            if waits:
                self.pending.setdefault(name, set()).update(waits)

    @property
    def satisfied(self) -> bool:
        """Whether as many have ended as it needs."""
        waits = sum(map(len, self.pending.values()))
        return not waits or (self.need > 0 and self.total - waits >= self.need)


class Client:
    """One attached client."""

    def __init__(self, peer: bytes, attach: service.Attach) -> None:
        self.peer = peer
        self.name = attach.client
        self.instance = attach.local
        self.bodies: set[bytes] = set()  # shared arguments that it will not send again
        self.to_push: deque[tuple[bytes, int]] = deque()  # stream and row
        self.pushed: dict[int, tuple[bytes, list[int]]] = {}  # number: stream and its indices
        self.next_push = 1
        self.submitted_at = -math.inf  # monotonic: its last submission, if it asked nothing since
        self._sizes: dict[int, int] = {}  # of pushes, in bytes

    @property
    def may_be_pushed(self) -> bool:
        """Whether it has acknowledged enough of what it was sent."""
        self._sizes = {n: size for n, size in self._sizes.items() if n in self.pushed}
        return len(self.pushed) < PUSHES_OUT and sum(self._sizes.values()) < PUSHES_OUT_BYTES

    def note_push(self, number: int, size: int) -> None:
        """A push is on its way; its size in bytes."""
        self._sizes[number] = size


def answer(
    waiter: Waiter,
    streams: dict[bytes, Stream],
    cache: RowCache,
    reasons: dict[bytes, causes.Cause],
    doubts: dict[bytes, Doubt],
    trouble: str = "",
    summaries: dict[bytes, service.StreamSummary] | None = None,
    attempts: Attempts | None = None,
) -> tuple[service.States | None, set[int]]:
    """The answer to a Fetch, or the rows that have to be read for it first.

    Args:
        reasons: for each stream, why its pending tasks wait.
        doubts: for some, of which tasks it is not known whether they run.
        trouble: why outcomes cannot be stored at the moment.
        summaries: of the streams, if details were asked for.
        attempts: what became of earlier attempts at pending tasks.
    """
    parts: list[service.StreamStates] = []
    missing: set[int] = set()
    tasks = size = 0
    more = False
    row: Row | None = None
    row_number = -1  # of that row: neighbours mostly lie in one
    for name, indices in waiter.wanted:
        stream = streams.get(name)
        doubt = doubts.get(name, _NO_DOUBT)
        found: list[service.TaskState] = []
        states_of = b"" if stream is None else stream.states
        for index in indices:
            if tasks >= ANSWER_TASKS or size >= ANSWER_BYTES:
                more = True
                break
            if stream is None:
                state = DELIVERED
            else:
                state = states_of[index] if index < len(states_of) else stream.state(index)
            if waiter.ended and state <= STORING:
                continue
            tasks += 1
            if stream is None or state == DELIVERED:
                found.append(service.TaskState(index, states.UNKNOWN))
                continue
            if state != ENDED:
                status, reason, begun = reasons.get(name, _RUNS)
                if state == STORING and trouble:
                    status, reason = states.RUNNING, f"it has ended, and waits for room: {trouble}"
                elif state == RUNNING and begun:
                    reason = begun
                elif state in (RUNNING, STORING):
                    status, reason = states.RUNNING, ""
                elif state == PARKED:
                    status, reason = states.WAITING_FOR_ENDPOINT, causes.PARKED
                elif index in doubt.indices:
                    reason = doubt.reason
                if attempts is not None:
                    reason = attempts.tell(name, index, reason, status == states.RUNNING)
                told = service.TaskState(index, status, reason)
                if waiter.details and state == RUNNING and attempts is not None:
                    told.host, told.manager, told.started = attempts.running(name, index)
                found.append(told)
                continue
            number = stream.rows_of[index]
            if number != row_number:
                row, row_number = cache.get(number), number
            if row is None:
                missing.add(number)
                # A cut where the cache would be overrun, or it would be read again and again.
                size += ANSWER_BYTES // 16
                continue
            outcome = row.by_index[index]
            size += len(outcome.data) + len(outcome.output)
            state_of = _ended(index, outcome, row.ended, waiter.outcomes)
            if waiter.details:
                state_of.host = row.host
            found.append(state_of)
        if found:
            created = stream.info.created if stream is not None else 0.0
            summary = summaries.get(name) if summaries else None
            parts.append(service.StreamStates(name, found, created, summary))
        if more:
            break
    if missing:
        return None, missing
    return service.States(waiter.call, parts, more), missing


def _ended(index: int, outcome: Outcome, ended: float, with_data: bool) -> service.TaskState:
    if outcome.kind == VALUE:
        status = states.SUCCESS
    elif outcome.kind == CANCELLED:
        status = states.CANCELLED
    else:
        status = states.FAILED
    return service.TaskState(index, status, "", outcome if with_data else None, ended)


def push_rows(
    client: Client, streams: dict[bytes, Stream], cache: RowCache
) -> tuple[list[ev.Action], int | None]:
    """The pushes that may go out now, and the row that has to be read before the next one."""
    actions: list[ev.Action] = []
    while client.to_push and client.may_be_pushed:
        name, number = client.to_push[0]
        stream = streams.get(name)
        if stream is None:
            client.to_push.popleft()
            continue
        row = cache.get(number)
        if row is None:
            return actions, number
        client.to_push.popleft()
        outcomes = [
            outcome
            for outcome in row.by_index.values()
            if stream.states[outcome.index] == ENDED and stream.rows_of[outcome.index] == number
        ]
        if outcomes:
            run = ResultRun(name, 0, 0, outcomes, row.ended, row.host)
            client.note_push(client.next_push, row.size)
            actions.append(push(client, [run]))
    return actions, None


def push(client: Client, runs: list[ResultRun]) -> ev.ToClient:
    """One push, noted as not yet acknowledged."""
    number = client.next_push
    client.next_push += 1
    client.pushed[number] = (runs[0].stream, [outcome.index for outcome in runs[0].outcomes])
    return ev.ToClient(client.peer, service.Push(number, runs))
