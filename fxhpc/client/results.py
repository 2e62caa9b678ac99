"""A client's waiting for tasks: until when, what may end it, and what Ctrl-C ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fxhpc import errors
from fxhpc.client import calls, tasks, values
from fxhpc.client.collector import MANY, without_collecting
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.selection import Selection, to_ranges
from fxhpc.client.sending.chunk_sizes import ChunkSizes
from fxhpc.client.submissions import Submissions
from fxhpc.protocol import service, states
from fxhpc.protocol.service import StreamSummary, TaskState

#: Seconds that a chunk's outcome is kept for the next of its calls.
_CHUNK_S = 10.0

#: What a task of `local` waits for while its process's interpreter ends.
_ENDS = "the end of this process, which its workers do not outlive: resume() in another one runs it"


class Results:
    """Waits for tasks in a client's name.

    Args:
        attached: the client's attachment, made if it has to be.
        submissions: what the client knows of its own tasks.
    """

    def __init__(self, attached: Callable[[], Attachment], submissions: Submissions) -> None:
        self._attached = attached
        self._submissions = submissions
        self._asked: dict[bytes, float] = {}  # streams of others: when opened, monotonic
        # The chunk that ended and was asked for last, and when: its calls are asked for one by one.
        self._chunk: tuple[bytes, int, TaskState, float] | None = None

    @property
    def reader(self) -> tasks.Reader:
        """Whoever asks the forwarder."""
        return tasks.Reader(self._attached().connection, self._check_local)

    def state(
        self, selection: Selection, wait_s: float = 0.0, deadline: float | None = None
    ) -> TaskState:
        """The state of the one task of a selection, at once or when it has ended.

        Args:
            deadline: if there is no answer by then (monotonic), nor soon after, it is pending.
        """
        return self._look(selection, wait_s, deadline=deadline)[0]

    def details(
        self, selection: Selection, *, adopt: bool = True
    ) -> tuple[TaskState, StreamSummary | None]:
        """The state of the one task of a selection, now, and what it shares with its stream.

        Args:
            selection: it has one task.
            adopt: run it here, if it was for a `local` that is gone.
        """
        return self._look(selection, 0.0, details=True, adopt=adopt)

    def _look(
        self,
        selection: Selection,
        wait_s: float,
        *,
        details: bool = False,
        adopt: bool = True,
        deadline: float | None = None,
    ) -> tuple[TaskState, StreamSummary | None]:
        stream, index = next(selection.places)
        reader = self.reader
        try:
            found = reader.fetch(
                {stream: [index]},
                wait_s=wait_s,
                need=1 if wait_s > 0 else 0,
                adopt=adopt,
                details=details,
                deadline=deadline,
            )
        except TimeoutError:
            return tasks.unanswered(index), None
        if stream not in self._submissions.known and stream not in self._asked:
            created = reader.created.get(stream)
            age = max(0.0, time.time() - created) if created else 0.0
            self._asked[stream] = time.monotonic() - age
        state = found[stream].get(index) or TaskState(index, states.UNKNOWN)
        return state, reader.summaries.get(stream)

    def await_one(self, selection: Selection, timeout: float | None, wait: float) -> TaskState:
        """The state of one task when it has ended, or when it is time to give up.

        Args:
            selection: it has one task.
            timeout: seconds from now.
            wait: seconds from the task's submission, where there is no timeout.
        """
        stream, index = next(selection.places)
        chunk = self._chunk if selection.has_calls else None
        if chunk is not None and chunk[:2] == (stream, index):
            if time.monotonic() < chunk[3] + _CHUNK_S:
                return chunk[2]
            self._chunk = None
        answered_by = deadline = None if timeout is None else time.monotonic() + timeout
        known = self._submissions.known.get(stream)
        try:
            while True:
                if deadline is None:
                    born = known.submitted(index) if known else self._asked.get(stream)
                    if born is not None:
                        deadline = born + wait
                remaining = 0.0 if deadline is None else deadline - time.monotonic()
                wait_s = max(0.0, min(remaining, tasks.SLICE_S))
                state = self.state(selection, wait_s, answered_by)
                if state.status not in states.PENDING:
                    if selection.has_calls:
                        self._chunk = stream, index, state, time.monotonic()
                    return state
                self._check_local([stream])
                if deadline is not None and deadline <= time.monotonic():
                    return state
        except KeyboardInterrupt:
            self.interrupt(selection)
            raise

    def wait(
        self, selection: Selection, timeout: float | None, return_when: str
    ) -> tuple[list[str], list[str]]:
        """The ids of tasks that have ended and of those that have not."""
        try:
            adopt = self._has_others(selection)
            return tasks.wait(self.reader, selection, timeout, return_when, adopt=adopt)
        except KeyboardInterrupt:
            self.interrupt(selection)
            raise

    def read(
        self,
        selection: Selection,
        timeout: float | None,
        told: Callable[[TaskState, str], dict[str, Any]],
    ) -> dict[str, dict[str, Any]]:
        """What is told of each task, by the names that were given and in their order.

        What comes is told at once, and let go: packed and unpacked side by side, very many
        results would take twice the memory.

        Args:
            timeout: seconds to wait for all to end; None tells how they are now.
            told: makes of a state what is told of it, by this name.
        """
        names = selection.names
        found: dict[str, Any] = dict.fromkeys(names)
        deadline = tasks.deadline_of(timeout)
        try:
            adopt = self._has_others(selection)
            for answer in self.reader.read(selection, deadline, adopt=adopt):
                if len(names) > MANY:
                    without_collecting(self._tell, selection, answer, told, found)
                else:
                    self._tell(selection, answer, told, found)
        except KeyboardInterrupt:
            if timeout is not None:
                self.interrupt(selection)
            raise
        for name in [name for name, known in found.items() if known is None]:
            found[name] = told(TaskState(0, states.UNKNOWN), name)
        return found

    def _tell(
        self,
        selection: Selection,
        answer: list[tuple[list[int], TaskState]],
        told: Callable[[TaskState, str], dict[str, Any]],
        found: dict[str, Any],
    ) -> None:
        """Put what is told of the tasks of one answer, which is empty afterwards."""
        names = selection.names
        while answer:
            positions, state = answer.pop()
            if selection.call(positions[0]) >= 0:
                self._tell_calls(selection, positions, state, found)
                continue
            for position in positions:
                name = names[position]
                found[name] = told(state, name)

    def values(
        self, selection: Selection, timeout: float | None, room: float = math.inf
    ) -> tuple[list[Any], int]:
        """The values of tasks, in the order given, when all have ended or it is time to give up;
        where there is none, what is `Missing`. And about how many bytes they were.

        Args:
            timeout: seconds from now; None waits for ever.
            room: bytes after which no more are read: those that were come then, without a gap,
                and it may be that none does.
        """
        size = 0
        found: list[Any] = [None] * len(selection)
        deadline = tasks.deadline_of(math.inf if timeout is None else timeout)
        told = bytearray(len(selection))
        adopt = self._has_others(selection)
        for answer in self.reader.read(selection, deadline, adopt=adopt):
            for positions, state in answer:
                size += values.size_of(state)
                for position in positions:
                    told[position] = 1
            if len(told) > MANY:
                without_collecting(_put_values, selection, answer, found)
            else:
                _put_values(selection, answer, found)
            if size > room and (end := told.find(0)) >= 0:
                return found[:end], size
        while (position := told.find(0)) >= 0:
            told[position] = 1
            values.put_values(found, selection, [position], TaskState(0, states.UNKNOWN))
        return found, size

    def _tell_calls(
        self,
        selection: Selection,
        positions: list[int],
        state: TaskState,
        found: dict[str, Any],
    ) -> None:
        """Put what is told of the calls of one chunk, which is unpacked once."""
        names = [selection.names[position] for position in positions]
        told = calls.task_dicts(state, selection.calls(positions), names)
        found.update(zip(names, told, strict=True))

    def _has_others(self, selection: Selection) -> bool:
        """Whether some may be older work, of a `local` that is gone."""
        known = self._submissions.known
        wanted = selection.streams
        # What has a key may have been submitted by another process before.
        return not wanted <= known.keys() or any(known[stream].info.key for stream in wanted)

    def as_completed(self, selection: Selection, timeout: float | None) -> Iterator[str]:
        """The ids of tasks as they end."""
        try:
            yield from tasks.as_completed(self.reader, selection, timeout)
        except KeyboardInterrupt:
            self.interrupt(selection)
            raise

    def _check_local(self, streams: Iterable[bytes]) -> None:
        """Tasks of a `local` endpoint that cannot start must not be waited for."""
        local = self._attached().local
        if local.failure is None and not local.is_over:
            return
        if any(map(self._submissions.is_local, streams)):
            raise local.failure or errors.TaskPending(_ENDS)

    def interrupt(self, selection: Selection) -> None:
        """Ctrl-C: end what was waited for, as far as it runs on this process's own endpoint.

        A chunk goes on of which only some calls were waited for: they end with the others alone. So
        does what has a key: others may wait for it, and it is what the same script finds next time.
        """
        sizes = {
            stream: ChunkSizes(stream, known.info.sizes)
            for stream in selection.streams
            if self._submissions.is_local(stream)
            and (known := self._submissions.known.get(stream)) is not None
            and not known.info.key
        }
        named = selection.whole(sizes)
        if ended := to_ranges({stream: named[stream] for stream in sizes}):
            message = service.CancelTasks(0, ended, interrupt=True)
            self._attached().connection.post(message)


def _put_values(
    selection: Selection, answer: list[tuple[list[int], TaskState]], found: list[Any]
) -> None:
    """Put the values of the tasks of one answer, which is empty afterwards."""
    while answer:
        positions, state = answer.pop()
        values.put_values(found, selection, positions, state)
