"""Outcomes on their way into the store: gathered in a turn, committed at its end."""

from __future__ import annotations

from collections.abc import Callable

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.delivery import Row
from fxhpc.forwarder.state import State
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.streams import DELIVERED, RUNNING, SENT, STORING, Stream
from fxhpc.ids import to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Outcome, OutcomeKind

#: A result row is cut at so many tasks or bytes.
ROW_TASKS = 1000
ROW_BYTES = 2**20

#: Seconds between two tries to store outcomes that the store has refused.
RETRY_S = 2.0

#: Interchanges are told what is stored after so many messages or bytes, at the next tick at last.
ACKNOWLEDGE_MESSAGES = 16
ACKNOWLEDGE_BYTES = 2**20

_KINDS = frozenset(map(int, OutcomeKind))

#: A row that was stored: its stream, its number, what is in it, and the indices of its tasks.
StoredRow = tuple[Stream, int, Row, list[int]]


class Gathering:
    """Takes outcomes in, once each, and stores them.

    Attributes:
        on_ended: told of outcomes that go to their client at once, and are not stored.
        on_stored: told of rows that are durable.
        wall: tells the wall clock, for outcomes of which nobody has said when they ended.
    """

    on_ended: Callable[[bytes, list[Outcome]], None]
    on_stored: Callable[[list[StoredRow]], None]
    wall: Callable[[], float]

    def __init__(self, state: State) -> None:
        self._state = state
        self._outcomes: dict[bytes, list[msg.ResultRun]] = {}  # of this turn, by stream
        self._acknowledge: dict[bytes, list[int]] = {}  # of this turn, by interchange
        # Stored, and not told yet, by interchange; and how many bytes of outcomes that is.
        self._unacknowledged: dict[bytes, list[int]] = {}
        self._unacknowledged_bytes = 0
        self._refused: list[tuple[float, _Commit]] = []
        self._retrying = 0

    def results(self, key: bytes, message: msg.Results) -> None:
        """An interchange's outcomes."""
        endpoint = self._state.endpoints.get(key)
        for run in message.runs:
            stream = self._state.streams.get(run.stream)
            # What nobody knows any more, and what other endpoints were sent, is acknowledged: it is
            # not sent again, and has no effect.
            if (
                stream is not None
                and endpoint is not None
                and stream.info.endpoint == endpoint.name
            ):
                self._results(stream, run)
        self._acknowledge.setdefault(key, []).append(message.number)

    def add(
        self, stream: Stream, outcomes: list[Outcome], ended: float = 0.0, host: str = ""
    ) -> None:
        """Gather outcomes; they are stored at the end of the turn."""
        known = stream.states
        out = 0
        for outcome in outcomes:
            out += known[outcome.index] in (SENT, RUNNING)
            known[outcome.index] = STORING
        stream.pending -= len(outcomes)
        endpoint = self._state.endpoint_of(stream)
        if endpoint is not None and out:
            endpoint.came_back(stream, out)
        # Where a task ended without a word (lost, cancelled before it began) no clock was read.
        ended = ended or self.wall()
        name = stream.info.stream
        gathered = self._outcomes.setdefault(name, [])
        if gathered and gathered[-1].host == host:
            gathered[-1].outcomes.extend(outcomes)
            gathered[-1].ended = max(gathered[-1].ended, ended)
        else:
            gathered.append(msg.ResultRun(name, 0, 0, list(outcomes), ended, host))

    def flush(self) -> list[bytes]:
        """Store what was gathered; then tell whoever waits, and the interchanges.

        Returns the keys of the interchanges that outcomes came from: they have room now.
        """
        if not (self._outcomes or self._acknowledge):
            return []
        gathered, self._outcomes = self._outcomes, {}
        numbers, self._acknowledge = self._acknowledge, {}
        operations: list[op.Operation] = []
        rows: list[StoredRow] = []
        for name, runs in gathered.items():
            stream = self._state.streams.get(name)
            if stream is None:
                continue
            if not (self._state.durable or stream.info.keep):
                self._push_at_once(stream, runs)
                continue
            for run in runs:
                for outcomes in _cut(run.outcomes):
                    number, self._state.next_row = self._state.next_row, self._state.next_row + 1
                    indices = [outcome.index for outcome in outcomes]
                    operations.append(
                        op.AddResults(
                            number,
                            name,
                            to_ranges(indices),
                            outcomes,
                            run.ended,
                            run.host,
                            _note_kinds(stream, outcomes),
                        )
                    )
                    row = Row(outcomes, run.ended, run.host)
                    rows.append((stream, number, row, indices))

        commit = _Commit(self, operations, rows, numbers)
        if operations or self._state.durable:
            self._state.store(operations, commit.answered)
        else:
            commit.answered(None)
        return list(numbers)

    @property
    def trouble(self) -> str:
        """Why outcomes cannot be stored at the moment, or nothing."""
        return str(self._refused[0][1].error) if self._refused else ""

    def refused(self, commit: _Commit) -> None:
        """The store does not take these: they are kept, and tried again."""
        self._refused.append((self._state.now + RETRY_S, commit))

    def stored(self, commit: _Commit) -> None:
        """These are durable: tell whoever waits, and when there are enough the interchanges."""
        self.on_stored(commit.rows)
        for key, theirs in commit.numbers.items():
            self._unacknowledged.setdefault(key, []).extend(theirs)
        self._unacknowledged_bytes += sum(row.size for _, _, row, _ in commit.rows)
        self._acknowledge_stored(at_once=False)

    def _acknowledge_stored(self, at_once: bool) -> None:
        """Tell interchanges what is durable, in company: a message each would cost more than the
        outcomes. Not while outcomes wait to be stored once more: what has come in may be one of
        these, sent again."""
        if self._refused or self._retrying:
            return
        is_much = self._unacknowledged_bytes >= ACKNOWLEDGE_BYTES
        for key, theirs in list(self._unacknowledged.items()):
            if at_once or is_much or len(theirs) >= ACKNOWLEDGE_MESSAGES:
                del self._unacknowledged[key]
                self._state.actions.append(ev.ToInterchange(key, msg.ResultsStored(theirs)))
        if not self._unacknowledged:
            self._unacknowledged_bytes = 0

    def _results(self, stream: Stream, run: msg.ResultRun) -> None:
        known = stream.states
        outcomes = run.outcomes
        if any(out.index >= len(known) or known[out.index] >= STORING for out in outcomes):
            outcomes = [
                out for out in outcomes if out.index < len(known) and known[out.index] < STORING
            ]
        if not outcomes:
            return
        self._state.attempts.ended(stream.info.stream, outcomes)
        self.add(stream, outcomes, run.ended, run.host)

    def _push_at_once(self, stream: Stream, runs: list[msg.ResultRun]) -> None:
        """Nothing of this stream is stored: its client gets it, and it is forgotten."""
        client = self._state.clients.get(stream.pusher)
        for run in runs:
            for outcome in run.outcomes:
                stream.states[outcome.index] = DELIVERED
                self._unacknowledged_bytes += len(outcome.data) + len(outcome.output)
            _note_kinds(stream, run.outcomes)
            self.on_ended(stream.info.stream, run.outcomes)
        if client is not None:
            self._state.say(client.peer, service.Push(0, runs))

    def _retry(self, commit: _Commit) -> None:
        """Ask once more for what the store has refused."""
        self._retrying += 1

        def stored(error: Exception | None) -> None:
            self._retrying -= 1
            commit.answered(error)

        self._state.store(commit.operations, stored)

    def tick(self) -> None:
        """Try once more to store what the store has refused, and acknowledge what waits."""
        refused, self._refused = self._refused, []
        for due, commit in refused:
            if self._state.now >= due:
                self._retry(commit)
            else:
                self._refused.append((due, commit))
        self._acknowledge_stored(at_once=True)


class _Commit:
    """Outcomes that the store was asked to take. No closure: one that names itself would keep the
    outcomes in memory until the garbage collector finds it."""

    def __init__(
        self,
        gathering: Gathering,
        operations: list[op.Operation],
        rows: list[StoredRow],
        numbers: dict[bytes, list[int]],
    ) -> None:
        self.operations = operations
        self.rows = rows
        self.numbers = numbers  # of the messages that they came in, by interchange
        self.error: Exception | None = None  # why the store refused it
        self._gathering = gathering

    def answered(self, error: Exception | None) -> None:
        """The store has taken them, or not."""
        self.error = error
        if error is not None:
            self._gathering.refused(self)
        else:
            self._gathering.stored(self)


def _note_kinds(stream: Stream, outcomes: list[Outcome]) -> dict[int, list[int]]:
    """Note in the stream which of these are no values; ranges of their indices, by kind."""
    kinds_of = [outcome.kind for outcome in outcomes]
    if not any(kinds_of):  # of a list: a generator costs thrice as much
        return {}
    found: dict[int, list[int]] = {}
    for outcome in outcomes:
        if outcome.kind:
            kind = outcome.kind if outcome.kind in _KINDS else OutcomeKind.LOST
            found.setdefault(kind, []).append(outcome.index)
    kinds = {kind: to_ranges(indices) for kind, indices in found.items()}
    stream.note_kinds(kinds)
    return kinds


def _cut(outcomes: list[Outcome]) -> list[list[Outcome]]:
    """Outcomes in rows of a bounded size."""
    rows: list[list[Outcome]] = []
    row: list[Outcome] = []
    size = 0
    for outcome in outcomes:
        length = len(outcome.data) + len(outcome.output)
        if row and (len(row) >= ROW_TASKS or size + length > ROW_BYTES):
            rows.append(row)
            row, size = [], 0
        row.append(outcome)
        size += length
    if row:
        rows.append(row)
    return rows
