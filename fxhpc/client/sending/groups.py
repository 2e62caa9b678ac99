"""The tasks of an executor that share a stream: their futures, and what is not sent."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures._base import CANCELLED_AND_NOTIFIED
from typing import TYPE_CHECKING, Any

from fxhpc import ids
from fxhpc.client.declared.resources import Declared, Default
from fxhpc.client.futures.adopting import adopt_chunks, adopt_files
from fxhpc.client.futures.ending import complete, fail, set_running
from fxhpc.client.futures.futures import TaskFuture
from fxhpc.client.sending.sendable import check_stream
from fxhpc.errors import TaskNotFound
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import service
from fxhpc.protocol.messages import ResultRun, StreamInfo
from fxhpc.protocol.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    from fxhpc.client.sending.submitter import Submitter

#: An endpoint, a function's digest, a generation of options, what a call is declared to be, and the
#: most calls that a chunk has (0: the tasks are calls).
Key = tuple[str, bytes, int, Declared, int]


def new_stream(
    key: Key, submitter: bytes, options: dict[str, Any], default: Default | None = None
) -> StreamInfo:
    """A stream for what has this key.

    Args:
        options: beside what the key says.
        default: what the function says of its tasks.

    Raises:
        UsageError: it cannot be sent, or does not fit together.
    """
    endpoint, digest, _, declared, calls = key
    declared = declared.settled(default)
    info = StreamInfo(
        stream=ids.new_stream(calls),
        endpoint=endpoint,
        function=digest,
        submitter=submitter,
        created=time.time(),
        **declared.of_stream(calls),
        **options,
    )
    check_stream(info)
    return info


class Group:
    """The tasks of one function at one endpoint: a stream, its futures, and what is not sent."""

    def __init__(self, submitter: Submitter, info: StreamInfo, key: Key) -> None:
        self.submitter = submitter
        self.key = key
        self.info = info
        self.stream = info.stream
        self.lock = submitter.lock
        self.condition = submitter.condition
        self.callbacks = submitter.callbacks
        self.pid = submitter.pid
        self.futures: dict[int, TaskFuture] = {}
        self.pending: list[bytes] = []  # the payloads that are not sent
        self.first = 0  # the index of the first of them
        self.next = 0
        self.tried: list[int] = []  # ends of attempts to send the first of them
        self.stored = 0
        self.unasked: list[int] = []  # if it is kept: stored, and not asked for; and up to where
        self._noted = 0  # that is known
        self.is_reloaded = False  # others submitted it
        self.cancels: list[int] = []
        self._cancelled = submitter.cancelled

    def take_off(self, end: int) -> None:
        """The tasks before this index were sent. The condition is held."""
        if end > self.first:
            # No call among these, so that Ctrl-C does not part them.
            rest = self.pending[end - self.first :]
            self.first = end
            self.pending = rest
        if self.tried:
            self.tried = [other for other in self.tried if other > end]

    def pieces(self) -> list[tuple[int, list[bytes]]]:
        """What is not sent, as runs of tasks, each with the index of its first. Where an attempt
        ended that was interrupted, a run ends too: the forwarder takes what it has not, or what it
        has, but not both in one."""
        pending, first = self.pending, self.first
        ends = sorted(end - first for end in set(self.tried) if 0 < end - first < len(pending))
        if not ends:
            return [(first, pending)]
        return [
            (first + begin, pending[begin:end])
            for begin, end in zip([0, *ends], [*ends, len(pending)], strict=True)
        ]

    def take_unasked(self, most: int) -> list[int]:
        """Tasks that have not ended and are asked for next. The condition is held."""
        if self._noted < self.stored:
            noted, self._noted = self._noted, self.stored
            self.unasked += [index for index in range(noted, self.stored) if index in self.futures]
        asked = self.unasked[:most]
        del self.unasked[:most]
        return asked

    def reload(self, future: TaskFuture) -> None:
        """Take in the future of a task that was submitted before. The condition is held."""
        self.futures[future._index] = future
        self.submitter.open += 1
        self.unasked.append(future._index)

    def be_reloaded(self) -> None:
        """Nothing of this stream is sent from here."""
        self.is_reloaded = True
        self.first = self.next = self.stored = self._noted = ids.STREAM_TASKS

    # --- for its futures ------------------------------------------------------------------------

    def cancel_future(self, future: TaskFuture) -> bool:
        """Cancel a pending task here, and note that it is to be cancelled there. The condition is
        held."""
        index = future._index
        if future._extra is not None:
            future._extra.untold = [*future._extra.waiters]
        if index not in self.futures:
            return False
        # Ctrl-C comes after calls and turns of loops only: all of this is done, or nothing.
        del self.futures[index]
        future._state = CANCELLED_AND_NOTIFIED
        self.submitter.open -= 1
        self._cancelled[self] = None
        self.cancels += [index]
        if index >= self.first:
            # Its number must be sent all the same, for the stream to have no gap. Without
            # arguments it cannot run, whatever comes first.
            self.pending[index - self.first] = b""
        return True

    def tell_cancelled(self, future: TaskFuture) -> None:
        """Have it cancelled there, and tell those who wait here. Never waits."""
        with self.lock:
            self.submitter.tell_cancelled()
        if future._extra is not None:
            self.callbacks.call(future.tell_cancelled)

    def interrupt(self, indices: list[int]) -> None:
        """Ctrl-C: have tasks end that were sent, those that run too. Never waits.

        Work that stays without its submitter stays.
        """
        attachment = self.submitter.attached
        sent = [index for index in indices if index < self.first]
        stays = self.info.keep and self.info.endpoint != LOCAL_ENDPOINT
        if sent and attachment is not None and attachment.usable and not stays:
            tasks = [service.StreamRanges(self.stream, ids.to_ranges(sent))]
            attachment.connection.post(service.CancelTasks(0, tasks, interrupt=True))

    def is_stored(self, index: int) -> bool:
        """Whether the forwarder has stored this task."""
        return index < self.stored

    def pending_reason(self, index: int) -> str:
        """Why this task has not begun, as the forwarder tells it; empty if it has."""
        attachment = self.submitter.attached
        if attachment is None or index >= self.stored:
            return "it is on its way to the forwarder"
        tasks = [service.StreamRanges(self.stream, [index, 1])]
        fetch = service.Fetch(0, tasks, outcomes=False, adopt=False)
        answer: service.States = attachment.connection.ask(fetch)
        found = [state for part in answer.streams for state in part.states]
        return found[0].reason if found else ""

    # --- for the connection's thread ------------------------------------------------------------

    def take_results(self, run: ResultRun) -> None:
        """Tasks of this stream have ended."""
        self.end(run.outcomes, run.host)

    def take_started(self, indices: list[int]) -> None:
        """Tasks of this stream run."""
        futures = [self.futures.get(index) for index in indices]
        set_running((future for future in futures if future is not None), self)

    def take_loss(self, error: BaseException, stored_only: bool = False) -> None:
        """Nobody knows of these tasks any more; what was not stored is on its way again."""
        self.fail_all(error, self.stored if stored_only else None)

    def end(self, outcomes: Iterable[Outcome], host: str = "") -> None:
        """End futures by the outcomes of their tasks, which ran there."""
        if not self.info.keep and (self.info.spill or self.info.endpoint != LOCAL_ENDPOINT):
            # Nobody else will ask for them, or remove them.
            outcomes = adopt_chunks(outcomes) if self.info.calls else adopt_files(outcomes)
        self.submitter.ended(self, complete(self.futures, self, outcomes, host))

    def end_cancelled(self) -> None:
        """End all futures as cancelled."""
        self.end([Outcome(index, OutcomeKind.CANCELLED) for index in list(self.futures)])

    def fail_all(self, error: BaseException, before: int | None = None) -> None:
        """End all futures by an error, or those of the tasks before this index."""
        with self.lock:
            if before is None:
                futures, self.futures = list(self.futures.values()), {}
                self.first += len(self.pending)
                self.pending = []
            else:
                indices = [index for index in self.futures if index < before]
                futures = [self.futures.pop(index) for index in indices]
            fail(futures, self, error)
        self.submitter.ended(self, len(futures))

    def lose(self, indices: list[int]) -> None:
        """Nobody knows of these tasks any more."""
        with self.lock:
            lost = [self.futures.pop(index) for index in indices if index in self.futures]
        for future in lost:
            fail([future], self, TaskNotFound(future.task_id))
        self.submitter.ended(self, len(lost))

    def fail_from(self, first: int, error: BaseException) -> None:
        """End the futures of this task and of all later ones: they were refused. Earlier ones are
        stored, and go on."""
        with self.lock:
            indices = [index for index in self.futures if index >= first]
            futures = [self.futures.pop(index) for index in indices]
            self.first += len(self.pending)
            self.pending = []
            fail(futures, self, error)
        self.submitter.ended(self, len(futures))
