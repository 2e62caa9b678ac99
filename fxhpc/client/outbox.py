"""What an executor has to send: tasks, and those that are cancelled, in as few messages as serve.

A submission is sent at once while little is under way; otherwise it waits for the answer to an
earlier one, and goes with all that has come meanwhile. So a lone task has no delay, and a
hundred thousand go in a few hundred messages, without a timer and without a thread of its own.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from fxhpc import ids
from fxhpc.client import shared
from fxhpc.client.attachments import Attachment
from fxhpc.client.connection import Connection
from fxhpc.client.groups import Group
from fxhpc.client.room import Room
from fxhpc.client.streams import MESSAGE_BYTES, cut
from fxhpc.protocol import service

#: Submit messages, and as many with what is cancelled, that are sent ahead of their answers.
_IN_FLIGHT = 2


class Outbox:
    """Sends what groups have pending. All but the answers: with the lock held.

    Args:
        lock: the executor's condition's.
        attachment: its attachment, once there is one.
        on_stored: takes what was sent and its answer, or an error, in the connection's thread; it
            is to call `answered`.
        on_body: takes the answer to what stores an argument that tasks of a group share.
        is_over: whether nothing more is to be submitted.

    Attributes:
        room: for more tasks. Whoever adds some has asked it, and tells it how many bytes they are.
    """

    def __init__(
        self,
        lock: threading.RLock,
        attachment: Callable[[], Attachment | None],
        on_stored: Callable[[list[service.Submission], Any], None],
        on_body: Callable[[Group, Any], None],
        is_over: Callable[[], bool],
    ) -> None:
        self.room = Room(lock, self._waiting, is_over)
        self._lock = lock
        self._attachment = attachment
        self._on_stored = on_stored
        self._on_body = on_body
        self._dirty: dict[Group, None] = {}  # groups with something to send, in turn
        self._cancelled: dict[Group, None] = {}  # groups with cancels to send
        self._in_flight = 0
        self._cancels_in_flight = 0

    # --- tasks ----------------------------------------------------------------------------------

    def add(self, group: Group) -> None:
        """A group has tasks that are not sent."""
        self._dirty[group] = None  # one that is there already keeps its turn
        if self._in_flight < _IN_FLIGHT:
            self.flush()

    def drop_tasks(self, group: Group) -> None:
        """Send no more tasks of a group, unless it is added again."""
        self._dirty.pop(group, None)

    def answered(self) -> None:
        """The answer to a Submit has come: there is room for another."""
        self._in_flight -= 1
        self.flush()

    def flush(self, *, everything: bool = False) -> None:
        """Send what waits, as far as little is under way, or all of it."""
        attachment = self._attachment()
        if attachment is None:
            return
        while self._dirty and (everything or self._in_flight < _IN_FLIGHT):
            submissions, size = self._collect(attachment.connection)
            if submissions:
                self._in_flight += 1
                self.room.sent(size)
                then = functools.partial(self._on_answer, submissions, size)
                try:
                    attachment.connection.call(service.Submit(0, submissions), then)
                except Exception as error:  # nothing of it was sent, and nobody will answer
                    then(error)
        for group in [group for group in self._cancelled if not group.pending]:
            if everything or self._cancels_in_flight < _IN_FLIGHT:
                self.send_cancels(group)

    def _on_answer(self, sent: list[service.Submission], size: int, answer: Any) -> None:
        with self._lock:
            self.room.answered(size)
        self._on_stored(sent, answer)

    def _waiting(self) -> int:
        """Bytes that are not sent."""
        return sum(len(payload) for group in self._dirty for payload in group.pending)

    def _collect(self, connection: Connection) -> tuple[list[service.Submission], int]:
        """What one message takes, function by function; and how many bytes of what waited."""
        submissions: list[service.Submission] = []
        size = whole = 0
        while self._dirty and size < MESSAGE_BYTES:
            group = next(iter(self._dirty))
            taken = 0
            on_body = functools.partial(self._on_body, group)
            put = functools.partial(shared.put, connection, then=on_body)
            for submission in cut(group.info, group.first, group.pending, put):
                submissions.append(submission)
                taken += len(submission.payloads)
                size += sum(map(len, submission.payloads))
                if size >= MESSAGE_BYTES:
                    break
            if taken < len(group.pending):
                whole += sum(map(len, group.pending[:taken]))
                group.pending = group.pending[taken:]
            else:
                whole += sum(map(len, group.pending))
                group.pending = []
                del self._dirty[group]
            group.first += taken
        return submissions, whole

    # --- cancels --------------------------------------------------------------------------------

    def cancel(self, group: Group, index: int) -> None:
        """Have a task cancelled there, once it has been sent."""
        group.cancels.append(index)
        self._cancelled[group] = None
        self.flush()

    def send_cancels(self, group: Group) -> None:
        """Send a group's cancels, however much is under way."""
        self._cancelled.pop(group, None)
        attachment = self._attachment()
        indices, group.cancels = group.cancels, []
        if indices and attachment is not None:
            tasks = [service.StreamRanges(group.stream, ids.to_ranges(indices))]
            self._cancels_in_flight += 1
            attachment.connection.call(service.CancelTasks(0, tasks), self._on_cancels)

    def send_all_cancels(self) -> None:
        """Send all cancels, however much is under way."""
        for group in list(self._cancelled):
            self.send_cancels(group)

    def _on_cancels(self, answer: Any) -> None:
        """Those that have gathered meanwhile go in one message: very many are cancelled one by one
        if whoever reads a map's values stops."""
        with self._lock:
            self._cancels_in_flight -= 1
            if not isinstance(answer, BaseException):
                self.flush()
