"""A client's waiting for tasks: until when, what may end it, and what Ctrl-C ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fxhpc.client import tasks
from fxhpc.client.attachments import Attachment
from fxhpc.client.selection import Selection, to_ranges
from fxhpc.client.submissions import Submissions
from fxhpc.protocol import service, states
from fxhpc.protocol.service import StreamSummary, TaskState


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

    @property
    def reader(self) -> tasks.Reader:
        """Whoever asks the forwarder."""
        return tasks.Reader(self._attached().connection, self._check_local)

    def state(self, selection: Selection, wait_s: float = 0.0) -> TaskState:
        """The state of the one task of a selection, at once or when it has ended."""
        return self._look(selection, wait_s)[0]

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
    ) -> tuple[TaskState, StreamSummary | None]:
        stream, index = next(selection.places)
        reader = self.reader
        found = reader.fetch(
            {stream: [index]},
            wait_s=wait_s,
            need=1 if wait_s > 0 else 0,
            adopt=adopt,
            details=details,
        )
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
        deadline = None if timeout is None else time.monotonic() + timeout
        known = self._submissions.known.get(stream)
        try:
            while True:
                if deadline is None:
                    born = known.submitted(index) if known else self._asked.get(stream)
                    if born is not None:
                        deadline = born + wait
                remaining = 0.0 if deadline is None else deadline - time.monotonic()
                state = self.state(selection, max(0.0, min(remaining, tasks.SLICE_S)))
                if state.status not in states.PENDING:
                    return state
                self._check_local([stream])
                if deadline is not None and deadline <= time.monotonic():
                    return state
        except KeyboardInterrupt:
            self._interrupt(selection)
            raise

    def wait(
        self, selection: Selection, timeout: float | None, return_when: str
    ) -> tuple[list[str], list[str]]:
        """The ids of tasks that have ended and of those that have not."""
        try:
            adopt = self._has_others(selection)
            return tasks.wait(self.reader, selection, timeout, return_when, adopt=adopt)
        except KeyboardInterrupt:
            self._interrupt(selection)
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
                while answer:
                    positions, state = answer.pop()
                    for position in positions:
                        name = names[position]
                        found[name] = told(state, name)
        except KeyboardInterrupt:
            if timeout is not None:
                self._interrupt(selection)
            raise
        for name in [name for name, known in found.items() if known is None]:
            found[name] = told(TaskState(0, states.UNKNOWN), name)
        return found

    def _has_others(self, selection: Selection) -> bool:
        """Whether some may be older work, of a `local` that is gone."""
        return not selection.streams <= self._submissions.known.keys()

    def as_completed(self, selection: Selection, timeout: float | None) -> Iterator[str]:
        """The ids of tasks as they end."""
        try:
            yield from tasks.as_completed(self.reader, selection, timeout)
        except KeyboardInterrupt:
            self._interrupt(selection)
            raise

    def _check_local(self, streams: Iterable[bytes]) -> None:
        """Tasks of a `local` endpoint that cannot start must not be waited for."""
        failure = self._attached().local.failure
        if failure is not None and any(map(self._submissions.is_local, streams)):
            raise failure

    def _interrupt(self, selection: Selection) -> None:
        """Ctrl-C: end what was waited for, as far as it runs on this process's own endpoint."""
        local = {
            stream: indices
            for stream, indices in selection.by_stream().items()
            if self._submissions.is_local(stream)
        }
        if local:
            message = service.CancelTasks(0, to_ranges(local), interrupt=True)
            self._attached().connection.post(message)
