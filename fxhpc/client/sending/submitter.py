"""What an Executor does behind its face: numbers tasks, hands them to `outbox`, ends futures."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.connection.attachments import Attachment, release
from fxhpc.client.declared.resources import NOTHING_DECLARED, Declared, Default, default_of
from fxhpc.client.futures.callbacks import Callbacks
from fxhpc.client.futures.conditions import Condition
from fxhpc.client.futures.elements import ChunkFuture
from fxhpc.client.futures.following import Following
from fxhpc.client.futures.futures import TaskFuture
from fxhpc.client.sending.group_table import GroupTable
from fxhpc.client.sending.groups import Group
from fxhpc.client.sending.outbox import Outbox
from fxhpc.client.started import processes
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.serialize import PackedFunction


class Submitter:
    """Owns the streams of one executor.

    Args:
        attach: makes the attachment, at once and again in a forked child.
        options: what the StreamInfo of each stream is made with, beside its own.
    """

    exit_rank = 0

    def __init__(
        self, attach: Callable[[], Attachment], endpoint: str, options: dict[str, Any]
    ) -> None:
        self._attach = attach
        self.endpoint = endpoint
        self.options = options
        self._private = ""  # the endpoint that comes with the attachment, once there is one
        self._begin()
        processes.add_resident(self)

    def _begin(self) -> None:
        self.pid = os.getpid()
        # An RLock: see `concurrent.futures.wait`. Taken by itself, not by the condition: that costs
        # five times as much, and Ctrl-C inside it may leave the lock taken for good.
        self.lock = threading.RLock()
        self.condition = Condition(self.lock)
        self.callbacks = Callbacks()
        self.is_shut = False
        self._attachment: Attachment | None = None
        self.groups = GroupTable(self, self._on_body)
        self._recent: tuple[PackedFunction, Declared, str, Group] | None = None  # of `submit`
        over, attached = lambda: self.is_shut, lambda: self._attachment
        self._following = Following(
            self.condition, lambda: self.groups.by_stream.values(), attached, self._forget
        )
        self._outbox = Outbox(self.lock, attached, self._on_stored, self._on_body, over)
        self._room = self._outbox.room
        self.open = 0  # tasks that have not ended
        self._closing = False
        self._closed = False

    # --- submitting -----------------------------------------------------------------------------

    def submit(
        self, function: PackedFunction, payload: bytes, declared: Declared = NOTHING_DECLARED
    ) -> TaskFuture:
        """Submit one task. Waits while too much is not accepted, though never in a callback."""
        room = self._room
        if room.bytes > room.limit:
            room.wait()
        with self.lock:
            recent = self._recent
            if (
                recent is not None
                and recent[0] is function
                and recent[1] is declared
                and recent[2] is self.endpoint
                and not self.is_shut
            ):
                group = recent[3]
            else:
                group = self.groups.take(function, declared)
                self._recent = function, declared, self.endpoint, group
            outbox = self._outbox
            outbox.add(group)
            future, size = TaskFuture(group, 0), len(payload)
            # Ctrl-C comes after calls and turns of loops only: a task is numbered whole or not.
            future._index = index = group.next
            group.futures[index] = future
            room.bytes += size
            self.open += 1
            group.next = index + 1
            group.pending.append(payload)
            outbox.flush_if_idle()
        return future

    def submit_many(
        self,
        function: PackedFunction,
        payloads: list[bytes],
        declared: Declared = NOTHING_DECLARED,
        calls: int = 0,
        most: int = 0,
    ) -> list[TaskFuture]:
        """Submit many tasks of one function. Waits as `submit` does.

        Args:
            declared: what a call is declared to be.
            calls: how many each of these makes, if they are chunks; 0: each is a call.
            most: with how large chunks they may share a stream, if there are many streams.
        """
        room = self._room
        if room.bytes > room.limit:
            room.wait()
        with self.lock:
            group = self.groups.take(function, declared, calls, len(payloads), most)
            self._outbox.add(group)
            kind = ChunkFuture if calls else TaskFuture
            futures = [kind(group, 0) for _ in payloads]
            room.bytes += sum(map(len, payloads))
            for future, payload in zip(futures, payloads, strict=True):
                # Ctrl-C in between submits those before it: see `submit`.
                future._index = index = group.next
                group.futures[index] = future
                self.open += 1
                group.next = index + 1
                group.pending.append(payload)
            self._outbox.flush_if_idle()
        return futures

    def registered(self, function_id: str) -> tuple[PackedFunction, Default | None]:
        """A registered function, by its id, and what it says of its tasks; its body is stored.

        Raises:
            FunctionNotFound: nobody knows it.
        """
        connection = self.attachment().connection
        answer: service.Functions = connection.ask(service.GetFunctions(0, [function_id]))
        if not answer.records:
            raise errors.FunctionNotFound(function_id)
        record = answer.records[0]
        with self.lock:
            self.groups.sent_bodies.add(record.digest)
        packed = PackedFunction(
            b"", record.digest, record.name, "", record.walltime_s, record.wants_ranks
        )
        return packed, default_of(record)

    def follow(self) -> None:
        """Ask for what becomes of kept tasks, if that is not asked for yet."""
        with self.lock:
            self._following.ask()

    def fail_open(self, error: BaseException) -> None:
        """End all futures by an error."""
        with self.lock:
            groups = list(self.groups.by_stream.values())
        for group in groups:
            group.fail_all(error)

    def set_option(self, **options: Any) -> None:
        """Change options for what is submitted from now on."""
        with self.lock:
            self._recent = None
            self.options = {**self.options, **options}
            self.groups.begin_generation()

    def attachment(self) -> Attachment:
        """The attachment, made at the first use."""
        with self.lock:
            if self._attachment is None:
                attachment = self._attach()
                if attachment.private is not None:
                    endpoint = attachment.private.endpoint
                    if self.endpoint == self._private:  # else somebody has chosen another
                        self.endpoint = endpoint
                    self._private = endpoint
                self._attachment = attachment  # last: Ctrl-C before it has another one made
                attachment.listeners.append(self._on_failure)
            return self._attachment

    # --- for groups and their futures -----------------------------------------------------------

    @property
    def cancelled(self) -> dict[Group, None]:
        """Groups with tasks that are to be cancelled there, once they have been sent."""
        return self._outbox.cancelled

    def tell_cancelled(self) -> None:
        """Tasks were cancelled here: have them cancelled there. The condition is held."""
        if self.open == 0:
            self.count_ended(0)
        self._outbox.flush()

    @property
    def is_private(self) -> bool:
        """Whether tasks go to the endpoint that came with the attachment."""
        return self.endpoint == self._private

    @property
    def attached(self) -> Attachment | None:
        """The attachment, if it was made."""
        return self._attachment

    # --- answers (in the connection's thread) ---------------------------------------------------

    def _on_body(self, group: Group, answer: Any) -> None:
        if isinstance(answer, BaseException):
            with self.lock:
                self.groups.sent_bodies.discard(group.info.function)
                self._forget(group)
            group.fail_all(answer)

    def _on_stored(self, sent: list[service.Submission], answer: Any) -> None:
        failed: dict[Group, int] = {}  # and from which task on
        with self.lock:
            for submission in sent:
                group = self.groups.by_stream.get(submission.info.stream)
                if group is None:
                    continue
                if isinstance(answer, BaseException):
                    failed[group] = min(submission.first, failed.get(group, submission.first))
                else:
                    group.stored = max(group.stored, submission.first + len(submission.payloads))
            for group in failed:
                self._recent = None
                # Its numbers have a gap now: no more tasks, but the results of the earlier ones.
                self._outbox.drop_tasks(group)
                self.groups.retire(group)
            self._outbox.flush()
            if self.options["keep"]:
                self._following.ask()
        for group, first in failed.items():
            group.fail_from(first, answer)

    def _forget(self, group: Group) -> None:
        """Number no more tasks in this stream."""
        self._recent = None
        self._outbox.drop_tasks(group)
        self._outbox.send_cancels(group)
        self.groups.forget(group)

    def _on_failure(self, error: errors.FxhpcError, endpoint: str) -> None:
        """An endpoint of this process cannot run anything."""
        with self.lock:
            groups = [g for g in self.groups.by_stream.values() if g.info.endpoint == endpoint]
            for group in groups:
                group.cancels += group.futures
                self._forget(group)
        for group in groups:
            group.fail_all(error)

    def ended(self, group: Group, count: int) -> None:
        """Tasks of a group have ended."""
        with self.lock:
            self.count_ended(count)
            if not group.futures and not group.pending and self.groups.is_spare(group):
                self._forget(group)

    def count_ended(self, count: int) -> None:
        """Count tasks that have ended. The condition is held."""
        self.open -= count
        if self.open == 0:
            self.condition.notify_all()
            if self._closing:
                self._close_aside()

    # --- ending ---------------------------------------------------------------------------------

    def shut(self, *, cancel: bool) -> None:
        """Take no more submissions; `cancel` ends what has not begun."""
        with self.lock:
            self.is_shut = True
            if cancel:
                self._cancel_unbegun()
            self._outbox.flush()  # what Ctrl-C may have left

    def _cancel_unbegun(self, *, spare_kept: bool = False) -> None:
        for group in list(self.groups.by_stream.values()):
            if spare_kept and group.info.keep:
                continue
            unsent = range(group.first, group.first + len(group.pending))
            group.pending = []  # nothing comes after these, so there is no gap
            self._outbox.drop_tasks(group)
            # What was sent may run: it ends here when it is known there.
            group.cancels += [index for index in group.futures if index < group.first]
            if group.cancels and self._attachment is not None:
                tasks = [service.StreamRanges(group.stream, ids.to_ranges(group.cancels))]
                group.cancels = []
                self._attachment.connection.call(service.CancelTasks(0, tasks), self._on_cancelled)
            group.end([Outcome(index, OutcomeKind.CANCELLED) for index in unsent])

    def _on_cancelled(self, answer: Any) -> None:
        if isinstance(answer, service.Cancelled):
            for part in answer.tasks:
                group = self.groups.by_stream.get(part.stream)
                if group is not None:
                    indices = ids.from_ranges(part.ranges)
                    group.end([Outcome(index, OutcomeKind.CANCELLED) for index in indices])

    def wait(self) -> None:
        """Return when all futures have ended and their callbacks have returned."""
        with self.lock:
            self.condition.wait_for(lambda: self.open == 0)
        self.callbacks.wait_until_idle(None)

    def close(self) -> None:
        """Give back what is held; futures that have not ended are cancelled."""
        with self.lock:
            self.is_shut = True
            if self._closed:
                return
            self._closed = True
            self._outbox.send_all_cancels()
            attachment, self._attachment = self._attachment, None
            groups, self._recent = self.groups.clear(), None
        for group in groups:
            group.end_cancelled()
            if attachment is not None:
                attachment.connection.remove_sink(group.stream)
        if attachment is not None:
            attachment.listeners.remove(self._on_failure)
            release(attachment)

    def close_when_idle(self) -> None:
        """As `close`, in another thread, when all futures have ended. Never waits."""
        self.is_shut = True
        self._closing = True
        if self.open == 0:
            self._close_aside()

    def _close_aside(self) -> None:
        # Neither the connection's thread nor a garbage collection may wait for processes to end.
        try:
            threading.Thread(target=self.close, name="fxhpc-close").start()
        except RuntimeError:
            pass  # the interpreter ends, and with it everything

    def abort(self) -> None:
        """End everything now, running tasks too, without waiting for it: Ctrl-C."""
        with self.lock:
            self.is_shut = True
            attachment = self._attachment
            groups = list(self.groups.by_stream.values())
            tasks = [
                service.StreamRanges(group.stream, ids.to_ranges(sent))
                for group in groups
                if not group.is_reloaded
                and (sent := [index for index in group.futures if index < group.first])
            ]
            for group in groups:
                self._outbox.drop_tasks(group)
        for group in groups:
            group.pending = []
            group.end_cancelled()
        if attachment is not None:
            if tasks:
                attachment.connection.post(service.CancelTasks(0, tasks, interrupt=True))
            if attachment.holders == 1:
                attachment.stop_soon()
        self.close_when_idle()

    def leave(self, deadline: float) -> None:
        """The interpreter ends: what has not begun is cancelled, but for the tasks of a group."""
        with self.lock:
            self.is_shut = True
            self._cancel_unbegun(spare_kept=True)
            self._outbox.flush(everything=True)
            groups = list(self.groups.by_stream.values())
        for group in groups:
            group.end_cancelled()

    def abandon(self) -> None:
        """This is a forked child: futures and streams are the parent's."""
        processes.bury(self._attachment, self.groups, self.condition, self.callbacks)
        was_shut = self.is_shut
        self.condition.renew()  # which futures of the parent that have ended have, too
        for group in self.groups.by_stream.values():
            group.callbacks = Callbacks()
        self._begin()
        self.is_shut = was_shut
