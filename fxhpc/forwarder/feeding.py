"""What waits for one endpoint, and how much of it its interchange gets at a time. No I/O."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

from fxhpc.forwarder.streams import QUEUED, RUNNING, SENT, Segment, Stream
from fxhpc.ids import from_ranges, to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import DEFAULT_PRIORITY, needs_of, priority_of
from fxhpc.protocol.sizes import SizeLimits
from fxhpc.protocol.turns import QUANTUM, UrgentTurns

#: Bytes of arguments in one message to an interchange.
MESSAGE_BYTES = 8 * 2**20

#: Seconds until a queue in which all was cancelled is counted again.
RECOUNT_S = 0.5

#: Streams whose tasks are counted one by one for whoever asks why one of them waits.
COUNTED_STREAMS = 100


class Endpoint:
    """An endpoint as the forwarder sees it: a queue, a window, and what is out there.

    Args:
        key: a `local` instance's 16 bytes, or a named endpoint's UUID as bytes.
        name: its UUID.
        title: what people call it.
    """

    def __init__(self, key: bytes, name: str, is_local: bool, title: str = "") -> None:
        self.key = key
        self.name = name
        self.title = title or name
        self.is_local = is_local
        self.deleted = False  # its directory is gone
        self.away = ""  # why its interchange is, a sentence with what to do about it
        self.longest_s = 0.0  # of its blocks, as its directory says; 0: no limit
        self.limits = SizeLimits()  # likewise
        self.connected = False  # the interchange has answered Hello
        self.closing = False
        self.greetings = 0  # how often the interchange has said what it holds
        self.epoch = 0  # of that interchange
        self.epochs = 0  # how many of them there were
        self.settles_at = 0.0  # when its managers have told it what they run, after a restart
        self.doubtful = False  # managers of before may have what waits to be sent again
        self.incomplete = False  # it waits for the word that all of that was sent again
        self.left_at = 0.0  # since when it is not connected, if it is not
        self.queue: UrgentTurns[Segment] = UrgentTurns(
            lambda segment: segment.count, Segment.split, _priority
        )
        self.window_tasks = 0
        self.window_bytes = 0
        self.out_tasks = 0  # at the interchange, or being loaded for it
        self.out_bytes = 0.0
        self._out: dict[Hashable, int] = {}  # of these tasks: how many of each submitter's
        self._newcomers: dict[Hashable, None] = {}  # submitters that wait, and have none there
        # The same of streams, to those of their submitters that have others there.
        self._streams_out: dict[bytes, int] = {}
        self._new_streams: dict[bytes, Hashable] = {}
        self.dropped_bytes = 0  # of segments in memory that left the queue without being taken
        self.bodies: set[bytes] = set()  # what its interchange was sent
        self.status: msg.Status | None = None
        self.details: dict[str, Any] = {}  # of its configuration, as it told them last
        self.seen = 0.0  # wall clock: when it was alive last; 0: never, as far as is known
        self.streams: dict[bytes, Stream] = {}  # all whose tasks run here
        self.backlog = 0  # as its interchange was told last
        self._recount_at = 0.0  # not before: all in the queue was cancelled

    @property
    def outstanding(self) -> int:
        """Tasks that have not ended, wherever they are: counted, so not for every message."""
        return sum(stream.pending for stream in self.streams.values())

    @property
    def waiting(self) -> int:
        """Those of them that are not known to have begun; of very many streams, about so many."""
        running = self.status.running if self.status is not None else 0
        if len(self.streams) > COUNTED_STREAMS:
            return max(0, self.out_tasks + len(self.queue) - running)
        begun = sum(stream.states.count(RUNNING) for stream in self.streams.values())
        return max(0, self.outstanding - max(running, begun))

    def forget_begun(self) -> None:
        """Nothing of it runs any more: what had begun was sent, and that is all."""
        for stream in self.streams.values():
            stream.states[:] = stream.states.replace(bytes([RUNNING]), bytes([SENT]))

    @property
    def longest_block_s(self) -> float:
        """What no task may be declared to take longer than; 0: there is no limit."""
        report = self.status.report if self.status is not None else None
        told = report.details.get("walltime_s") if report is not None else None
        return float(told) if isinstance(told, int | float) and told > 0 else self.longest_s

    def count_backlog(self, now: float, *, at_once: bool) -> int | None:
        """How many tasks wait here, if its interchange is to be told.

        Args:
            now: monotonic.
            at_once: tell only that there are some now, or none any more; else any other number.
        """
        if not self.connected or self.is_local:
            return None
        waits = len(self.queue) > 0
        if at_once and (waits == (self.backlog > 0) or (waits and now < self._recount_at)):
            return None
        # The queue may hold what was cancelled since.
        count = max(0, self.outstanding - self.out_tasks) if waits else 0
        if waits and not count:
            self._recount_at = now + RECOUNT_S
        if count == self.backlog:
            return None
        self.backlog = count
        return count

    def push(self, segment: Segment) -> None:
        """Queue tasks that were just stored."""
        info = segment.stream.info
        self.queue.push(info.submitter, info.stream, segment)
        self._waits(info)

    def push_front(self, segment: Segment) -> None:
        """Queue tasks again that were at an interchange which is gone."""
        info = segment.stream.info
        self.queue.push_front(info.submitter, info.stream, segment)
        self._waits(info)

    def _waits(self, info: msg.StreamInfo) -> None:
        """Something of a stream is in the queue: is that all that there is of it here?"""
        if info.submitter not in self._out:
            self._newcomers[info.submitter] = None
        elif info.stream not in self._streams_out:
            self._new_streams[info.stream] = info.submitter

    def take(self) -> list[Segment]:
        """What the interchange may have now; it counts as being there from here on."""
        if not (self.connected and len(self.queue)):
            return []
        taken: list[Segment] = []
        if not (self.out_tasks and self.out_bytes >= self.window_bytes):
            # What was cancelled meanwhile, or has ended after all, takes no room: on to what waits.
            while len(self.queue) and (room := self.window_tasks - self.out_tasks) > 0:
                room_bytes = self.window_bytes - self.out_bytes
                if not self._take(self.queue.take(room), taken, room_bytes, not self.out_tasks):
                    break
        if self._newcomers and self.window_tasks > 0:
            self._take_newcomers(taken)
        if self._new_streams and self.window_tasks > 0:
            self._take_new_streams(taken)
        return taken

    def _take_newcomers(self, taken: list[Segment]) -> None:
        """Take some of each submitter that has none there, though there is no room.

        The window was filled when nobody else was waiting; and since then its tasks may have turned
        out to take hours.
        """
        submitters = len(self._out) + len(self._newcomers)
        share = max(1, min(QUANTUM, self.window_tasks // submitters))
        share_bytes = self.window_bytes / submitters
        for submitter in list(self._newcomers):
            while submitter not in self._out and (
                segments := self.queue.take_from(submitter, share)
            ):
                self._take(segments, taken, share_bytes, True)
        self._newcomers.clear()

    def _take_new_streams(self, taken: list[Segment]) -> None:
        """Likewise of each stream, so that a call goes before the long tasks of its own submitter.

        All of these together get no more than a second window: those beyond wait for their turn.
        """
        streams = len(self._streams_out) + len(self._new_streams)
        share = max(1, min(QUANTUM, self.window_tasks // streams))
        share_bytes = self.window_bytes / streams
        for stream, submitter in list(self._new_streams.items()):
            if len(self._streams_out) >= self.window_tasks:
                break
            if stream not in self._streams_out:
                segments = self.queue.take_from(submitter, share, stream)
                self._take(segments, taken, share_bytes, True)
        self._new_streams.clear()

    def _take(
        self, segments: list[Segment], taken: list[Segment], room_bytes: float, alone: bool
    ) -> bool:
        """Take what waits of these, as far as there is room for its bytes; whether there was.

        Args:
            alone: a task that is larger than that may go, if it is the first.
        """
        left: list[Segment] = []
        for segment in segments:
            parts = segment.waiting()
            if parts != [segment]:
                self.dropped_bytes += segment.memory - sum(part.memory for part in parts)
            for part in parts:
                stream = part.stream
                fits = int(room_bytes / max(1.0, stream.mean_bytes))
                if alone:
                    fits = max(1, fits)
                if fits < part.count:
                    if fits <= 0:
                        left.append(part)
                        continue
                    part, rest = part.split(fits)
                    left.append(rest)
                stream.states[part.first : part.first + part.count] = bytes([SENT]) * part.count
                room_bytes -= self._goes_out(stream, part.count)
                alone = False
                taken.append(part)
        for part in reversed(left):  # in their order
            self.push_front(part)
        return not left

    def _goes_out(self, stream: Stream, count: int) -> float:
        """So many tasks of a stream are at the interchange; returns their bytes."""
        size = stream.mean_bytes * count
        submitter = stream.info.submitter
        self.out_tasks += count
        self.out_bytes += size
        self._out[submitter] = self._out.get(submitter, 0) + count
        self._newcomers.pop(submitter, None)
        name = stream.info.stream
        self._streams_out[name] = self._streams_out.get(name, 0) + count
        return size

    def came_back(self, stream: Stream, count: int) -> None:
        """So many tasks of a stream are not at the interchange any more."""
        submitter = stream.info.submitter
        self.out_tasks -= count
        self.out_bytes = max(0.0, self.out_bytes - stream.mean_bytes * count)
        left = self._out.get(submitter, 0) - count
        if left > 0:
            self._out[submitter] = left
        else:
            self._out.pop(submitter, None)
            if submitter in self.queue.owners:
                self._newcomers[submitter] = None
        name = stream.info.stream
        left = self._streams_out.get(name, 0) - count
        if left > 0:
            self._streams_out[name] = left
        else:
            self._streams_out.pop(name, None)
            if submitter in self._out and self.queue.has(submitter, name):
                self._new_streams[name] = submitter
        if self.out_tasks <= 0:
            self._nothing_is_out()

    def _nothing_is_out(self) -> None:
        self.out_tasks, self.out_bytes = 0, 0.0
        self._out.clear()
        self._streams_out.clear()
        self._new_streams.clear()
        self._newcomers = dict.fromkeys(self.queue.owners)

    def reconnect(self, streams: list[Stream], held: list[msg.TaskRefs]) -> None:
        """The interchange has said what it holds: queue again what it should hold, and does not."""
        self.connected = True
        self.greetings += 1
        self.backlog = 0  # it may be another interchange
        self.bodies.clear()
        self._nothing_is_out()
        there = {stream.info.stream: bytearray(stream.count) for stream in streams}
        for ref in held:
            marks = there.get(ref.stream)
            if marks is None:
                continue
            for first, count in zip(ref.ranges[::2], ref.ranges[1::2], strict=True):
                marks[first : first + count] = b"\1" * count
        for stream in streams:
            if stream.pending:
                self._compare(stream, there[stream.info.stream])
        for stream in streams:
            if self.queue.has(stream.info.submitter, stream.info.stream):
                self._waits(stream.info)

    def _compare(self, stream: Stream, marks: bytearray) -> None:
        """What waits in the queue stays there; what was at the interchange is, or is not."""
        states = stream.states
        missing: set[int] = set()
        for index, state in enumerate(states):
            if state not in (QUEUED, SENT, RUNNING):
                continue
            if marks[index]:
                # Of a queued one `waiting` will pass over it in the queue. One that was running is
                # known to run when the interchange says so, which it does at once if it knows.
                states[index] = SENT
                self._goes_out(stream, 1)
            elif state != QUEUED:
                states[index] = QUEUED
                missing.add(index)
        for segment in reversed(stream.segments(missing, sent_before=True)):
            self.push_front(segment)

    def leave(self, now: float, nothing_runs: bool) -> None:
        """Its interchange is not there any more, and if nothing runs nobody comes back."""
        self.connected = False
        self.left_at = -math.inf if nothing_runs else now
        self.status = None
        self.away = ""

    def sent_before(self, stream: Stream) -> list[tuple[int, int]]:
        """Tasks that wait to be sent again, as a manager of before may run them: first and count
        of each segment.
        """
        return [
            (segment.first, segment.count)
            for segment in self.queue
            if segment.sent_before and segment.stream is stream
        ]

    @property
    def sends_again(self) -> bool:
        """Whether anything in the queue was sent before, or its interchange is asked about it."""
        return any(segment.sent_before and segment.waiting() for segment in self.queue) or any(
            stream.asked for stream in self.streams.values()
        )

    def ask(self, stream: Stream, indices: list[int]) -> None:
        """Its interchange is asked about these, which wait to be sent again: they do not leave the
        queue until it has answered.
        """
        for index in indices:
            stream.states[index] = SENT
        stream.asked.update(indices)
        self._goes_out(stream, len(indices))

    def give_back(self, stream: Stream, indices: set[int]) -> None:
        """Queue again what its interchange was asked about."""
        back = {index for index in indices if stream.states[index] in (SENT, RUNNING)}
        stream.asked -= indices
        for index in back:
            stream.states[index] = QUEUED
        self.came_back(stream, len(back))
        for segment in reversed(stream.segments(back, sent_before=True)):
            self.push_front(segment)

    def forget_queue(self) -> None:
        """It is over. What was sent before a restart, and is to be sent again, counts as sent."""
        for segment in self.queue:
            for part in segment.waiting() if segment.sent_before else ():
                part.stream.states[part.first : part.first + part.count] = (
                    bytes([SENT]) * part.count
                )

    def fill(self, streams: list[Stream]) -> None:
        """Queue what was stored while there was no such endpoint."""
        for stream in streams:
            waits = {index for index, state in enumerate(stream.states) if state == QUEUED}
            for segment in stream.segments(waits):
                self.push(segment)

    def unheld(self, streams: list[Stream], held: list[msg.TaskRefs]) -> list[msg.TaskRefs]:
        """What the interchange holds although it has ended here, or its client has gone."""
        known = {stream.info.stream: stream for stream in streams}
        ended: list[msg.TaskRefs] = []
        for ref in held:
            stream = known.get(ref.stream)
            indices = [
                index
                for index in from_ranges(ref.ranges)
                if stream is None
                or index >= stream.count
                or stream.states[index] not in (QUEUED, SENT, RUNNING)
            ]
            if indices:
                ended.append(msg.TaskRefs(ref.stream, to_ranges(indices)))
        return ended


def _priority(segment: Segment) -> int:
    needs = segment.stream.info.needs
    return priority_of(needs_of(needs)) if needs else DEFAULT_PRIORITY


def to_run(segment: Segment, payloads: list[bytes]) -> msg.TaskRun:
    """A segment as the interchange gets it."""
    info = segment.stream.info
    return msg.TaskRun(
        info.stream,
        segment.first,
        info.function,
        payloads,
        shared=segment.stream.shared.get(segment.row, []),
        retries=info.retries,
        result_limit=info.result_limit,
        sent_before=segment.sent_before,
        walltime_s=info.walltime_s,
        capture=info.capture,
        spill=info.spill,
        calls=info.calls,
        needs=info.needs,
    )
