"""What an executor has to send: tasks, and those that are cancelled, in as few messages as serve.

A submission is sent at once while little is under way; otherwise it waits for the answer to an
earlier one, and goes with all that has come meanwhile. So a lone task has no delay, and a
hundred thousand go in a few hundred messages, without a timer and without a thread of its own.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any

from fxhpc import ids
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.connection.connection import Connection
from fxhpc.client.sending import shared
from fxhpc.client.sending.groups import Group
from fxhpc.client.sending.room import Room
from fxhpc.client.sending.streams import MESSAGE_BYTES, cut
from fxhpc.protocol import service

#: Submit messages, and as many with what is cancelled, that are sent ahead of their answers.
_IN_FLIGHT = 2


class _Message:
    """One that is sent. One that Ctrl-C interrupted is not counted, though its answer may come."""

    __slots__ = ("is_answered", "is_counted", "size")

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.is_counted = False
        self.is_answered = False


class Outbox:
    """Sends what groups have pending. All but the answers: with the lock held.

    Args:
        lock: the executor's condition's.
        attachment: its attachment, once there is one.
        on_stored: takes what was sent and its answer, or an error, in the connection's thread; it
            is to call `flush`.
        on_body: takes the answer to what stores an argument that tasks of a group share.
        is_over: whether nothing more is to be submitted.

    Attributes:
        room: for more tasks. Whoever adds some has asked it, and tells it how many bytes they are.
        cancelled: groups with cancels to send; `flush` is to come after.
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
        self.cancelled: dict[Group, None] = {}
        self._in_flight = 0
        self._cancels_in_flight = 0

    # --- tasks ----------------------------------------------------------------------------------

    def add(self, group: Group) -> None:
        """A group is about to have tasks that are not sent; `flush_if_idle` is to come after."""
        self._dirty[group] = None  # one that is there already keeps its turn

    def flush_if_idle(self) -> None:
        """Send what waits if little is under way."""
        if self._in_flight < _IN_FLIGHT:
            self.flush()

    def drop_tasks(self, group: Group) -> None:
        """Send no more tasks of a group, unless it is added again."""
        self._dirty.pop(group, None)

    def flush(self, *, everything: bool = False) -> None:
        """Send what waits, as far as little is under way, or all of it.

        It is taken off, and counted as under way, when it has been sent: what Ctrl-C interrupts is
        sent again, with the same numbers, of which the forwarder stores each once.
        """
        attachment = self._attachment()
        if attachment is None:
            return
        while self._dirty and (everything or self._in_flight < _IN_FLIGHT):
            submissions, taken = self._collect(attachment.connection)
            if submissions:
                size = 0
                for group, first, count in taken:
                    group.tried.append(first + count)
                    size += sum(map(len, group.pending[:count]))
                message = _Message(size)
                then = functools.partial(self._on_answer, message, submissions)
                try:
                    attachment.connection.call(service.Submit(0, submissions), then)
                except Exception as error:  # nothing of it was sent, and nobody will answer
                    then(error)
                if not message.is_answered:
                    message.is_counted = True  # no call among these: Ctrl-C comes after one
                    self._in_flight += 1
                    self.room.under_way += size
            for group, first, count in taken:
                group.take_off(first + count)
                if not group.pending:
                    self._dirty.pop(group, None)
        for group in [group for group in self.cancelled if not group.pending]:
            if everything or self._cancels_in_flight < _IN_FLIGHT:
                self.send_cancels(group)

    def _on_answer(self, message: _Message, sent: list[service.Submission], answer: Any) -> None:
        with self._lock:
            message.is_answered = True
            if message.is_counted:
                self._in_flight -= 1
                self.room.answered(message.size)
        self._on_stored(sent, answer)

    def _waiting(self) -> int:
        """Bytes that are not sent."""
        return sum(len(payload) for group in self._dirty for payload in group.pending)

    def _collect(
        self, connection: Connection
    ) -> tuple[list[service.Submission], list[tuple[Group, int, int]]]:
        """What one message takes, function by function; and of each the first task and how many."""
        submissions: list[service.Submission] = []
        taken: list[tuple[Group, int, int]] = []
        size = 0
        for group in list(self._dirty):
            first, count = group.first, 0
            on_body = functools.partial(self._on_body, group)
            put = functools.partial(shared.put, connection, then=on_body)
            for submission in itertools.chain.from_iterable(
                cut(group.info, start, payloads, put) for start, payloads in group.pieces()
            ):
                submissions.append(submission)
                count += len(submission.payloads)
                size += sum(map(len, submission.payloads))
                if size >= MESSAGE_BYTES:
                    break
            taken.append((group, first, count))
            if size >= MESSAGE_BYTES:
                break
        return submissions, taken

    # --- cancels --------------------------------------------------------------------------------

    def send_cancels(self, group: Group) -> None:
        """Send a group's cancels, however much is under way."""
        attachment = self._attachment()
        indices = group.cancels
        if indices and attachment is not None:
            tasks = [service.StreamRanges(group.stream, ids.to_ranges(indices))]
            message = _Message()
            then = functools.partial(self._on_cancels, message)
            attachment.connection.call(service.CancelTasks(0, tasks), then)
            if not message.is_answered:
                message.is_counted = True  # no call among these: see `flush`
                self._cancels_in_flight += 1
        group.cancels = []
        self.cancelled.pop(group, None)

    def send_all_cancels(self) -> None:
        """Send all cancels, however much is under way."""
        for group in list(self.cancelled):
            self.send_cancels(group)

    def _on_cancels(self, message: _Message, answer: Any) -> None:
        """Those that have gathered meanwhile go in one message: very many are cancelled one by one
        if whoever reads a map's values stops."""
        with self._lock:
            message.is_answered = True
            if message.is_counted:
                self._cancels_in_flight -= 1
            if not isinstance(answer, BaseException):
                self.flush()
