"""Which streams an executor has: one for what is alike, opened when needed, gone when idle."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fxhpc import ids
from fxhpc.client.declared.resources import NOTHING_DECLARED, Declared, default_in
from fxhpc.client.sending.groups import Group, Key, new_stream
from fxhpc.client.started import processes
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import service
from fxhpc.protocol.messages import StreamInfo
from fxhpc.serialize import PackedFunction

if TYPE_CHECKING:
    from fxhpc.client.sending.submitter import Submitter

#: Streams kept open for functions that are not in use at the moment.
_IDLE_GROUPS = 64


class GroupTable:
    """The groups of a submitter, whose lock is held in all of this.

    Args:
        on_body: takes the answer to what stores the function of a group, in the connection's
            thread.

    Attributes:
        by_stream: all groups; some take no more tasks, and go when their last one has ended.
        sent_bodies: functions that the forwarder has, by their digests.
    """

    def __init__(self, submitter: Submitter, on_body: Callable[[Group, Any], None]) -> None:
        self.by_stream: dict[bytes, Group] = {}
        self.sent_bodies: set[bytes] = set()
        self._submitter = submitter
        self._on_body = on_body
        self._submitter_id = os.urandom(16)
        self._generation = 0  # of the options: groups of earlier ones get no more tasks
        self._by_key: dict[Key, Group] = {}  # those that get more

    def take(
        self,
        function: PackedFunction,
        declared: Declared,
        calls: int = 0,
        count: int = 1,
        most: int = 0,
    ) -> Group:
        """The group that more tasks of a function go to, which is opened if there is none.

        Args:
            count: tasks that it is to have room for.
            calls, most: see `Submitter.submit_many`.
        """
        submitter = self._submitter
        if submitter.is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        key = (submitter.endpoint, function.digest, self._generation, declared, calls)
        group = self._by_key.get(key)
        if group is None and calls < most and len(self._by_key) >= _IDLE_GROUPS:
            return self.take(function, declared, most, count)
        if group is not None and calls and (group.next + count) * calls > ids.STREAM_TASKS:
            del self._by_key[key]  # it cannot number more calls, and goes when it is idle
            group = None
        return group or self._open(function, key)

    def _open(self, function: PackedFunction, key: Key) -> Group:
        if processes.is_exiting():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        submitter = self._submitter
        attachment = submitter.attachment()
        private = attachment.private
        if private is not None and private.failure is not None and submitter.is_private:
            raise private.failure
        # That endpoint's name may have come with the attachment.
        key = (submitter.endpoint, *key[1:])
        info = new_stream(key, self._submitter_id, submitter.options, default_in(function))
        group = Group(submitter, info, key)
        if function.digest not in self.sent_bodies:
            attachment.connection.call(
                service.PutBody(0, function.digest, function.body),
                functools.partial(self._on_body, group),
            )
            self.sent_bodies.add(function.digest)  # now: Ctrl-C may have come before the call
        attachment.connection.add_sink(group.stream, group)
        if submitter.endpoint == LOCAL_ENDPOINT:
            attachment.local.want()
            if (failure := attachment.local.given_up) is not None:
                attachment.connection.remove_sink(group.stream)
                raise failure
        self._by_key[key] = group
        self.by_stream[group.stream] = group
        return group

    def reload(self, info: StreamInfo) -> Group:
        """The group of a stream that is stored already."""
        group = self.by_stream.get(info.stream)
        if group is None:
            group = Group(self._submitter, info, ("", b"", -1, NOTHING_DECLARED, 0))
            group.be_reloaded()
            self.by_stream[info.stream] = group
            self._submitter.attachment().connection.add_sink(info.stream, group)
        return group

    def begin_generation(self) -> None:
        """Options have changed: what is submitted next goes to other groups."""
        self._generation += 1

    def is_spare(self, group: Group) -> bool:
        """Whether it is to go when it is idle."""
        return len(self._by_key) > _IDLE_GROUPS or self._by_key.get(group.key) is not group

    def retire(self, group: Group) -> None:
        """It gets no more tasks."""
        if self._by_key.get(group.key) is group:
            del self._by_key[group.key]

    def forget(self, group: Group) -> None:
        """It gets no more tasks, and nobody wants its results."""
        self.retire(group)
        self.by_stream.pop(group.stream, None)
        if (attachment := self._submitter.attached) is not None:
            attachment.connection.remove_sink(group.stream)

    def clear(self) -> list[Group]:
        """Have no groups any more; return those that there were."""
        groups = list(self.by_stream.values())
        self._by_key, self.by_stream = {}, {}
        return groups
