"""Lists of tasks: streams with counts by state, and single tasks, the newest first. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from fxhpc.forwarder import causes
from fxhpc.forwarder.gathering import Gathering
from fxhpc.forwarder.state import State, is_local
from fxhpc.forwarder.streams import (
    DELIVERED,
    ENDED,
    PARKED,
    QUEUED,
    RUNNING,
    SENT,
    STORING,
    Stream,
)
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import OutcomeKind

#: Entries of one answer at most. Who wants more tasks asks again for those after the last one.
LIMIT = 10_000

_OVER = (ENDED, DELIVERED)
_STATUS: dict[int, str] = {
    OutcomeKind.VALUE: states.SUCCESS,
    OutcomeKind.ERROR: states.FAILED,
    OutcomeKind.LOST: states.FAILED,
    OutcomeKind.CANCELLED: states.CANCELLED,
}


class Listing:
    """Answers ListTasks from what is in memory: nothing is read from the store."""

    def __init__(self, state: State, gathering: Gathering) -> None:
        self._state = state
        self._gathering = gathering

    def answer(self, message: service.ListTasks) -> service.TaskList:
        """The tasks that are asked for."""
        limit = max(0, min(message.limit, LIMIT))
        wanted = frozenset(message.states)
        found: list[service.StreamSummary] = []
        total = 0
        tasks: list[service.ListedTask] = []
        known = causes.Causes(self._gathering.trouble)
        for stream in self._newest(message):
            summary = self.summary(stream, known)
            if not summary.counts or (wanted and wanted.isdisjoint(summary.counts)):
                continue
            total += 1
            if len(tasks if message.each else found) >= limit:
                continue
            found.append(summary)
            if message.each:
                cause = self.cause(stream, known)
                end = stream.count
                if message.after is not None and message.after[1] == stream.info.stream:
                    end = min(end, message.after[2])
                for index, status in _newest_tasks(stream, cause, wanted, end):
                    if len(tasks) >= limit:
                        break
                    tasks.append(service.ListedTask(stream.info.stream, index, status))
        return service.TaskList(message.call, found, tasks, total)

    def summary(
        self, stream: Stream, known: causes.Causes, *, count: bool = True
    ) -> service.StreamSummary:
        """What a stream's tasks share, and if that is wanted how many are in which state."""
        cause = self.cause(stream, known)
        info = stream.info
        return service.StreamSummary(
            info.stream,
            info.endpoint,
            self._title(stream),
            info.function_id,
            info.created,
            counts_of(stream.states, stream.kinds or b"", cause) if count else {},
            info.group,
            info.keep,
            cause.reason if stream.pending else "",
            info.walltime_s,
            info.calls,
            info.sizes,
            info.needs,
            info.labels,
            info.metadata,
            info.key,
        )

    def _newest(self, message: service.ListTasks) -> list[Stream]:
        streams = [
            stream
            for stream in self._state.streams.values()
            if (not message.endpoint or stream.info.endpoint == message.endpoint)
            and (not message.group or stream.info.group == message.group)
            and (not message.label or message.label in stream.info.labels)
            and stream.info.stream.startswith(message.prefix)
            and (message.after is None or _place(stream) <= message.after[:2])
        ]
        return sorted(streams, key=_place, reverse=True)

    def cause(self, stream: Stream, known: causes.Causes) -> causes.Cause:
        """Why a stream's tasks wait that have not begun."""
        endpoint = self._state.endpoint_of(stream)
        if endpoint is None and is_local(stream):
            return causes.Cause(states.WAITING_FOR_ENDPOINT, causes.PARKED)
        return known.of_stream(stream, endpoint)

    def _title(self, stream: Stream) -> str:
        if stream.info.endpoint == LOCAL_ENDPOINT:
            return "local"
        endpoint = self._state.named_endpoint(stream.info.endpoint)
        return stream.info.endpoint if endpoint is None else endpoint.title


def _place(stream: Stream) -> tuple[float, bytes]:
    """What lists go by."""
    return stream.info.created, stream.info.stream


def counts_of(
    codes: bytes | bytearray, kinds: bytes | bytearray, cause: causes.Cause
) -> dict[str, int]:
    """How many tasks are in which state.

    Args:
        codes: their states, as a stream has them.
        kinds: their outcomes; less, if the last of them have none but values.
        cause: why they wait.
    """
    ended = codes.count(ENDED) + codes.count(DELIVERED)
    other = {kind: kinds.count(kind) for kind in OutcomeKind if kind} if kinds else {}
    counts = dict.fromkeys((cause.status, states.WAITING_FOR_ENDPOINT, states.RUNNING), 0)
    counts[cause.status] += codes.count(QUEUED) + codes.count(SENT)
    counts[states.WAITING_FOR_ENDPOINT] += codes.count(PARKED)
    counts[cause.status if cause.begun else states.RUNNING] += codes.count(RUNNING)
    counts[states.RUNNING] += codes.count(STORING)
    # What is on its way into the store has its kind already, and counts as running for a moment.
    counts[states.SUCCESS] = max(0, ended - sum(other.values()))
    for kind, count in other.items():
        status = _STATUS.get(kind, states.FAILED)
        counts[status] = counts.get(status, 0) + count
    return {status: count for status, count in counts.items() if count}


def _newest_tasks(
    stream: Stream, cause: causes.Cause, wanted: frozenset[str], end: int
) -> Iterator[tuple[int, str]]:
    """Indices below this one, and states, the highest index first."""
    by_code = {QUEUED: cause.status, SENT: cause.status, PARKED: states.WAITING_FOR_ENDPOINT}
    by_code |= {RUNNING: cause.status if cause.begun else states.RUNNING, STORING: states.RUNNING}
    by_code |= {ENDED: states.SUCCESS, DELIVERED: states.SUCCESS}
    # A few among a million are found without a look at each: those whose state is wanted, and
    # those that ended in a way that is.
    codes = stream.states.translate(_marks(by_code, wanted))
    kinds = (stream.kinds or bytearray()).translate(_marks(_STATUS, wanted, but=OutcomeKind.VALUE))
    index = end
    while (index := max(codes.rfind(1, 0, index), kinds.rfind(1, 0, index))) >= 0:
        status = by_code[stream.states[index]]
        if stream.states[index] in _OVER:
            status = _STATUS.get(stream.kind(index), states.FAILED)
        if not wanted or status in wanted:
            yield index, status


def _marks(statuses: dict[int, str], wanted: frozenset[str], but: int = -1) -> bytes:
    """A table for `translate`: 1 for each code whose status is wanted, but for one code."""
    marked = {code for code, status in statuses.items() if not wanted or status in wanted} - {but}
    return bytes(code in marked for code in range(256))
