"""Outcomes on their way to the forwarder: kept until it has stored them, here or in the spool."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from fxhpc.ids import from_ranges, to_ranges
from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import size_of

#: Messages that are read back from the spool before the forwarder has stored them.
READ_AT_ONCE = 64

#: Bytes of outcomes that are kept in memory while the forwarder is slow: what is beyond goes to the
#: spool. Where that is full, managers keep theirs, and stop when they hold too many.
KEPT_BYTES = 64 * 2**20

#: Seconds until what could not be spooled is tried again.
RETRY_S = 5.0


def result_refs(results: msg.Results) -> list[msg.TaskRefs]:
    """The tasks that a message tells the outcomes of."""
    return [
        msg.TaskRefs(run.stream, to_ranges(outcome.index for outcome in run.outcomes))
        for run in results.runs
    ]


def _size(results: msg.Results) -> int:
    return sum(size_of(run.outcomes) for run in results.runs)


class Outbox:
    """Numbers outcomes, and answers managers when these may forget theirs.

    Args:
        first: the first number; above all of earlier processes, or the forwarder's word that it has
            stored one of theirs would be taken for one of these.
    """

    def __init__(self, first: int = 1) -> None:
        self.connected = False
        self._next_number = first
        # By number: the manager's connection, its own number, and the message.
        self._kept: dict[int, tuple[bytes, int, msg.Results]] = {}
        self._sizes: dict[int, int] = {}
        self._kept_bytes = 0
        self._unsent: dict[int, None] = {}  # of those kept: what the forwarder was not sent yet
        self._retry_at = 0.0
        self._spooled: dict[int, list[msg.TaskRefs]] = {}
        self._to_read: deque[int] = deque()
        self._reading: set[int] = set()
        self._left: dict[str, set[int]] = {}  # by a manager's file: what is not stored yet

    def __bool__(self) -> bool:
        """Whether anything is not stored yet."""
        return bool(self._kept or self._spooled)

    def recover(self, spooled: list[tuple[int, list[msg.TaskRefs]]]) -> None:
        """What an earlier process has left in the spool."""
        self._spooled = dict(spooled)
        self._next_number = max(self._next_number, max(self._spooled, default=0) + 1)

    def add(
        self, peer: bytes, number: int, runs: list[msg.ResultRun], actions: list[ev.Action]
    ) -> None:
        """Send outcomes on. `peer` and `number`: whom to tell when they are durable."""
        results = msg.Results(self._next_number, runs)
        self._next_number += 1
        self._keep(peer, number, results)
        self._send_or_spool([results], actions)

    def add_left(
        self, path: str, batch: list[list[msg.ResultRun]], actions: list[ev.Action]
    ) -> None:
        """Send on what a manager has left in a file, which may go when all of it is durable."""
        messages = [
            msg.Results(number, runs) for number, runs in enumerate(batch, self._next_number)
        ]
        self._next_number += len(messages)
        self._left[path] = {results.number for results in messages}
        for results in messages:
            self._keep(b"", 0, results)
        self._send_or_spool(messages, actions)
        self._discard_left((), actions)

    def _keep(self, peer: bytes, number: int, results: msg.Results) -> None:
        self._kept[results.number] = (peer, number, results)
        self._sizes[results.number] = size = _size(results)
        self._kept_bytes += size

    def _send_or_spool(self, messages: list[msg.Results], actions: list[ev.Action]) -> None:
        """To the forwarder, as much as it may be behind; the rest to the spool."""
        under_way = self._kept_bytes - sum(self._sizes[results.number] for results in messages)
        to_spool: list[msg.Results] = []
        for results in messages:
            if self.connected and not self._unsent and under_way <= KEPT_BYTES:
                under_way += self._sizes[results.number]
                actions.append(ev.ToForwarder(results))
            else:
                self._unsent[results.number] = None
                to_spool.append(results)
        if to_spool:
            actions.append(ev.Spool(to_spool))

    def stored(self, numbers: list[int], actions: list[ev.Action]) -> None:
        """The forwarder has stored these."""
        self._tell_managers(numbers, actions)
        for number in numbers:
            self._reading.discard(number)
            if self._spooled.pop(number, None) is not None and not self._spooled:
                actions.append(ev.ClearSpool())
        self._send_unsent(actions)
        self._read_on(actions)

    def _send_unsent(self, actions: list[ev.Action]) -> None:
        """What could not be spooled goes to the forwarder as it stores what was sent before."""
        if not (self.connected and self._unsent):
            return
        under_way = self._kept_bytes - sum(self._sizes[number] for number in self._unsent)
        for number in list(self._unsent):
            if under_way > KEPT_BYTES:
                break
            del self._unsent[number]
            under_way += self._sizes[number]
            actions.append(ev.ToForwarder(self._kept[number][2]))

    def tick(self, now: float, actions: list[ev.Action]) -> None:
        """Time has passed: there may be room for what could not be spooled."""
        if self._unsent and now >= self._retry_at:
            if self._retry_at:
                actions.append(ev.Spool([self._kept[number][2] for number in self._unsent]))
            self._retry_at = now + RETRY_S
        elif not self._unsent:
            self._retry_at = 0.0

    def greeted(self, actions: list[ev.Action]) -> None:
        """The forwarder is there: send all that it may not have."""
        self.connected = True
        self._unsent = dict.fromkeys(self._kept)
        self._send_unsent(actions)
        self._to_read = deque(sorted(self._spooled))
        self._reading.clear()
        self._read_on(actions)

    def forwarder_gone(self, actions: list[ev.Action]) -> None:
        """The forwarder is away: what is kept in memory goes to the spool."""
        if self.connected and self._kept:
            self._unsent = dict.fromkeys(self._kept)
            actions.append(ev.Spool([results for _, _, results in self._kept.values()]))
        self.connected = False

    def spooled(self, event: ev.Spooled, actions: list[ev.Action]) -> None:
        """These are in the spool, and need not be kept by anybody else."""
        for number in event.kept:
            if number in self._kept:
                self._spooled[number] = result_refs(self._kept[number][2])
        self._tell_managers(event.kept, actions)
        if self.connected:
            self._to_read.extend(event.kept)
            self._read_on(actions)

    def unspooled(self, event: ev.Unspooled, actions: list[ev.Action]) -> list[msg.TaskRefs]:
        """These were read back: on to the forwarder. Returns the tasks whose outcomes were there
        and cannot be read.
        """
        lost = [ref for number in event.missing for ref in self._spooled.pop(number, [])]
        if not self.connected:
            return lost
        actions.extend(ev.ToForwarder(results) for results in event.batch)
        read = {results.number for results in event.batch}
        self._to_read.extendleft(sorted(self._reading - read - set(event.missing), reverse=True))
        self._reading &= read
        if event.missing and not self._spooled:
            actions.append(ev.ClearSpool())
        if event.batch or event.missing:
            self._read_on(actions)
        return lost

    def spooled_tasks(self) -> list[msg.TaskRefs]:
        """Tasks that have ended, whose outcomes the forwarder does not have yet."""
        return [ref for refs in self._spooled.values() for ref in refs]

    def tasks_of(self, stream: bytes) -> set[int]:
        """Tasks of a stream that have ended, whose outcomes are kept here or in the spool."""
        refs = self.spooled_tasks()
        for _, _, results in self._kept.values():
            refs += result_refs(results)
        return {index for ref in refs if ref.stream == stream for index in from_ranges(ref.ranges)}

    def _tell_managers(self, numbers: list[int], actions: list[ev.Action]) -> None:
        by_peer: dict[bytes, list[int]] = {}
        for number in numbers:
            kept = self._kept.pop(number, None)
            if kept is not None:
                self._kept_bytes -= self._sizes.pop(number)
                self._unsent.pop(number, None)
            if kept is not None and kept[0]:
                by_peer.setdefault(kept[0], []).append(kept[1])
        actions.extend(
            ev.ToManager(peer, msg.ResultsStored(theirs)) for peer, theirs in by_peer.items()
        )
        if self._left:
            self._discard_left(numbers, actions)

    def _discard_left(self, numbers: Iterable[int], actions: list[ev.Action]) -> None:
        for path, waiting in list(self._left.items()):
            waiting.difference_update(numbers)
            if not waiting:
                del self._left[path]
                actions.append(ev.DiscardLeft(path))

    def _read_on(self, actions: list[ev.Action]) -> None:
        if self._reading or not (self._to_read and self.connected):
            return
        numbers = [self._to_read.popleft() for _ in range(min(READ_AT_ONCE, len(self._to_read)))]
        self._reading.update(numbers)
        actions.append(ev.ReadSpool(numbers))
