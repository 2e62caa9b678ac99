"""Tasks on their way to interchanges: as many as a window has room for, read back if need be."""

from __future__ import annotations

import math
from typing import Any

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.feeding import MESSAGE_BYTES, Endpoint, to_run
from fxhpc.forwarder.gathering import Gathering
from fxhpc.forwarder.state import Loaded, State
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.streams import RUNNING, SENT, STORING, Segment, Stream
from fxhpc.ids import to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, pack_loss

#: A segment that was taken from its queue, for which endpoint, and how often this had greeted.
Taken = tuple[Segment, Endpoint, int]

#: So many tasks wait for company at the most.
COMPANY = 32

#: A loop is long after so many tasks; then so many times as many wait, as many times as long.
_LONG, _LONGER = 64, 4

#: Bytes of a segment that is joined with others, and tasks that they make.
_JOINED_BYTES, _JOINED_TASKS = 4096, 128


class Sending:
    """Feeds interchanges.

    Attributes:
        payload_bytes: arguments that wait in memory.
        company_s: seconds that tasks which are submitted one after the other wait for company.
    """

    def __init__(self, state: State, gathering: Gathering, company_s: float = 0.0) -> None:
        self._state = state
        self._gathering = gathering
        self.payload_bytes = 0
        self.company_s = company_s
        self._held: dict[bytes, float] = {}  # endpoints whose tasks wait for company: until when
        self._looping_until = 0.0  # somebody submits one task after the other, and may go on
        self._looped = 0  # tasks that were submitted so
        # What was taken from a queue and waits for the store: rows that are read, and segments of
        # which it is being stored that they are sent.
        self._loading_rows: dict[int, list[Taken]] = {}
        self._noting: list[Taken] = []

    def feed_soon(self, endpoint: Endpoint) -> None:
        """Send an interchange what was just stored, unless it may wait for company: whoever submits
        one task after the other, and asks for none of them meanwhile, pays for one message instead
        of many then, at each process on the way, in both directions.
        """
        now = self._state.now
        self._looped = self._looped + 1 if now < self._looping_until else 1
        self._looping_until = now + self.company_s
        longer = _LONGER if self._looped > _LONG else 1
        until = self._held.setdefault(endpoint.key, now + longer * self.company_s)
        if len(endpoint.queue) >= longer * COMPANY or until <= now:
            self.feed(endpoint)

    def feed_again(self, endpoint: Endpoint) -> None:
        """Its window has room: send an interchange what waits, unless that waits for company. If
        each outcome took along what waits, there would never be any.
        """
        if self._held.get(endpoint.key, 0.0) <= self._state.now:
            self.feed(endpoint)

    @property
    def expects_more(self) -> bool:
        """Whether somebody has just submitted a task after another, and goes on in a moment."""
        return self._state.now < self._looping_until

    @property
    def due(self) -> float:
        """When `feed_held` has something to do, monotonic; infinite if nothing waits."""
        return min(self._looping_until, *self._held.values()) if self._held else math.inf

    def feed_held(self, *, at_once: bool = False) -> None:
        """Send what has waited long enough; or all of it, since somebody waits for results."""
        now = self._state.now
        at_once = at_once or self._looping_until <= now  # nobody goes on
        for key in [key for key, until in self._held.items() if at_once or until <= now]:
            del self._held[key]
            self._looping_until = 0.0 if at_once else self._looping_until
            if endpoint := self._state.endpoints.get(key):
                self.feed(endpoint)

    def feed(self, endpoint: Endpoint) -> None:
        """Send an interchange what its window has room for."""
        self._held.pop(endpoint.key, None)
        if endpoint.closing or self._gathering.trouble:
            return  # what cannot be stored when it has ended had better not begin
        ready: list[Segment] = []
        taken = endpoint.take()
        self.payload_bytes -= endpoint.dropped_bytes
        endpoint.dropped_bytes = 0
        for segment in taken:
            if segment.stream.info.retries == 0 and self._state.durable and not segment.noted:
                self._note_sent(endpoint, segment)
            elif segment.payloads is not None:
                self.payload_bytes -= segment.memory
                ready.append(segment)
            elif segment.row in self._loading_rows:
                self._loading_rows[segment.row].append((segment, endpoint, endpoint.greetings))
            else:
                self._loading_rows[segment.row] = [(segment, endpoint, endpoint.greetings)]
                self._state.load("load_submission", (segment.row,), self._row_loaded(segment.row))
        self._send_runs(endpoint, _runs_of(ready))

    def send_body(self, endpoint: Endpoint, digest: bytes) -> None:
        """Send an interchange the bytes that it asks for, or that there are none."""
        if digest in self._state.bodies:
            endpoint.bodies.add(digest)
            self._state.actions.append(
                ev.ToInterchange(endpoint.key, msg.Body(digest, self._state.bodies[digest]))
            )
            return

        def loaded(value: Any, error: Exception | None) -> None:
            if value is None:
                if error is not None:
                    self._refuse_function(endpoint, digest, error)
                self._state.actions.append(ev.ToInterchange(endpoint.key, msg.NoBody([digest])))
            else:
                self._state.bodies.keep(digest, value)
                self._state.actions.append(ev.ToInterchange(endpoint.key, msg.Body(digest, value)))

        self._state.load("load_body", (digest,), loaded)

    def _refuse_function(self, endpoint: Endpoint, digest: bytes, error: Exception) -> None:
        """A function cannot be read, or is another than was registered: its tasks end so."""
        for stream in endpoint.streams.values():
            info = stream.info
            if info.function != digest or not stream.pending:
                continue
            function = info.function_id or f"with the SHA-256 {digest.hex()[:16]}..."
            text = f"function {function} was refused, and not run: {error}"
            data = pack_loss(Loss(LossCause.UNDELIVERED, text))
            left = [index for index, state in enumerate(stream.states) if state < STORING]
            there = [index for index in left if stream.states[index] in (SENT, RUNNING)]
            if there:
                refs = [msg.TaskRefs(info.stream, to_ranges(there))]
                cancel = msg.Cancel(refs, interrupt=True, forget=True)
                self._state.actions.append(ev.ToInterchange(endpoint.key, cancel))
            self._gathering.add(stream, [Outcome(i, OutcomeKind.LOST, data) for i in left])

    def unsent(self, stream: Stream) -> dict[int, bool]:
        """Tasks that were taken from the queue, and wait for the store before they are sent; and
        whether they had been sent before.
        """
        return {
            index: part.sent_before
            for taken in [
                *self._noting,
                *(one for row in self._loading_rows.values() for one in row),
            ]
            if taken[0].stream is stream
            for part in self._still_out(*taken)
            for index in range(part.first, part.first + part.count)
        }

    def tell_if_all_is_there(self, endpoint: Endpoint) -> None:
        """Tell an interchange whose journal is incomplete when all that was sent before has been
        sent again: so that it need not suspect what comes.
        """
        taken = [*self._noting, *(one for row in self._loading_rows.values() for one in row)]
        if endpoint.sends_again or any(
            segment.sent_before and one is endpoint for segment, one, _ in taken
        ):
            return
        endpoint.incomplete = False
        word = msg.Backlog(endpoint.backlog, again=False)
        self._state.actions.append(ev.ToInterchange(endpoint.key, word))

    def _note_sent(self, endpoint: Endpoint, segment: Segment) -> None:
        """Tasks that must never run twice: that they are sent is stored before they are."""
        name = segment.stream.info.stream
        indices = range(segment.first, segment.first + segment.count)
        operations: list[op.Operation] = [
            op.AddException(name, index, op.ExceptionKind.SENT) for index in indices
        ]
        taken = (segment, endpoint, endpoint.greetings)
        self._noting.append(taken)

        def stored(error: Exception | None) -> None:
            self._noting.remove(taken)
            self.payload_bytes -= segment.memory
            for part in self._still_out(*taken):
                part.noted = error is None
                endpoint.came_back(part.stream, part.count)
                part.stream.states[part.first : part.first + part.count] = bytes(part.count)
                self.payload_bytes += part.memory
                endpoint.push_front(part)
            if error is None:
                self.feed(endpoint)

        self._state.store(operations, stored)

    def _still_out(self, segment: Segment, endpoint: Endpoint, greetings: int) -> list[Segment]:
        """What of a segment that was taken is still to be sent, after something had to be waited
        for: its tasks may have been cancelled, or queued again for an interchange that came back.
        """
        if endpoint.greetings != greetings or not endpoint.connected:
            return []
        states = segment.stream.states
        for index in range(segment.first, segment.first + segment.count):
            if states[index] == RUNNING:
                # A manager of before runs it, as its interchange has said meanwhile; which is to
                # have it all the same, to know whose it is.
                states[index] = SENT
        return segment.waiting(SENT)

    def _row_loaded(self, row: int) -> Loaded:
        def loaded(value: Any, error: Exception | None) -> None:
            for taken in self._loading_rows.pop(row):
                for segment in self._still_out(*taken):
                    if error is not None:
                        self._lose_row(segment, error)
                        continue
                    payloads, shared = value
                    if shared:
                        segment.stream.shared[row] = shared
                    start = segment.first - segment.row_first
                    part = payloads[start : start + segment.count]
                    self._send_runs(taken[1], [to_run(segment, part)])

        return loaded

    def _lose_row(self, segment: Segment, error: Exception) -> None:
        """The store cannot give back what it took: the tasks end, and say so."""
        data = pack_loss(Loss(LossCause.UNDELIVERED, f"its arguments could not be read: {error}"))
        self._gathering.add(
            segment.stream,
            [
                Outcome(index, OutcomeKind.LOST, data)
                for index in range(segment.first, segment.first + segment.count)
            ],
        )

    def _send_runs(self, endpoint: Endpoint, runs: list[msg.TaskRun]) -> None:
        batch: list[msg.TaskRun] = []
        size = 0
        for run in runs:
            for digest in (run.function, *run.shared):
                if digest not in endpoint.bodies and digest in self._state.bodies:
                    endpoint.bodies.add(digest)
                    body = msg.Body(digest, self._state.bodies[digest])
                    self._state.actions.append(ev.ToInterchange(endpoint.key, body))
            batch.append(run)
            size += sum(map(len, run.payloads))
            if size >= MESSAGE_BYTES:
                self._state.actions.append(ev.ToInterchange(endpoint.key, msg.Tasks(batch)))
                batch, size = [], 0
        if batch:
            self._state.actions.append(ev.ToInterchange(endpoint.key, msg.Tasks(batch)))


def _runs_of(segments: list[Segment]) -> list[msg.TaskRun]:
    """Segments in memory as they are sent. Small ones that follow each other, such as a loop of
    single calls makes, go as one run: each run costs everybody on the way as much as some tasks.
    """
    runs: list[msg.TaskRun] = []
    last: Segment | None = None
    for segment in segments:
        payloads = segment.payloads or []
        if (
            last is not None
            and last.stream is segment.stream
            and last.first + last.count == segment.first
            and last.sent_before == segment.sent_before
            and segment.memory <= _JOINED_BYTES
            and len(runs[-1].payloads) < _JOINED_TASKS
            and not runs[-1].shared
            and not segment.stream.shared.get(segment.row)
        ):
            runs[-1].payloads = [*runs[-1].payloads, *payloads]
        else:
            runs.append(to_run(segment, payloads))
        last = segment
    return runs
