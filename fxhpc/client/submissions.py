"""What a client has submitted: its streams, when, and how tasks are sent and known to be stored."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from fxhpc import errors, ids
from fxhpc.client import shared
from fxhpc.client.attachments import Attachment
from fxhpc.client.connection import Reply
from fxhpc.client.resources import Declared
from fxhpc.client.sendable import check_stream
from fxhpc.client.streams import Stream, cut, pack_messages, tasks_of
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import service
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.service import Submission

if TYPE_CHECKING:
    from fxhpc.serialize.sharing import SharedBody

#: Endpoint, function and packed arguments of tasks that make one stream.
Part = tuple[str, str, list[bytes]]

_AHEAD = 4  # messages of one batch that are sent ahead of their answers
_KNOWN_STREAMS = 10_000  # whose submission times are remembered


class Options(Protocol):
    """What a client sets for its tasks, and may change."""

    max_payload: int
    on_exceed: str
    retries: int
    session_task_group_id: str

    @property
    def declared(self) -> Declared:
        """What tasks are declared to be, where nothing else is said."""


class Submissions:
    """Numbers and sends a client's tasks.

    Args:
        attached: the client's attachment, made if it has to be.
        options: looked at whenever a stream is opened.
    """

    def __init__(self, attached: Callable[[], Attachment], options: Options) -> None:
        self.known: dict[bytes, Stream] = {}  # the streams opened here
        self.digests: dict[str, bytes] = {}  # by the function's id
        self._attached = attached
        self._options = options
        self._submitter_id = os.urandom(16)
        self._lock = threading.Lock()
        # Single calls share a stream, by endpoint, function and what they are declared to be.
        self._of_calls: dict[tuple[str, str, Declared], Stream] = {}

    def is_local(self, stream: bytes) -> bool:
        """Whether a stream was opened here, for this process's own endpoint."""
        known = self.known.get(stream)
        return known is not None and known.info.endpoint == LOCAL_ENDPOINT

    def submit_one(self, endpoint: str, function: str, payload: bytes) -> str:
        """Submit one task, and return its id when it is stored.

        Raises:
            FunctionNotFound, EndpointNotFound: nobody knows it.
            WalltimeTooLong: no block of the endpoint lasts as long as was declared.
        """
        declared = self._options.declared
        while True:
            stream = self._stream_of_calls(endpoint, function, declared)
            with stream.lock:
                if stream.is_broken:  # since a moment ago
                    continue
                # Ctrl-C (or an error) at any place in here is the end of the stream: whether its
                # number has been used is not known, and nobody may use it for something else.
                stream.is_broken = True
                index = stream.take(1, time.monotonic())
                (submission,) = cut(stream.info, index, [payload], self._put)
                reply = self._attached().connection.call(service.Submit(0, [submission]))
                stream.is_broken = False
                break
        try:
            reply.wait()
        except errors.FxhpcError:
            stream.is_broken = True  # its numbers have a gap now
            raise
        return ids.task_id(stream.info.stream, index)

    def submit_parts(
        self, parts: list[Part], group: str, declared: Declared | None = None
    ) -> list[list[str]]:
        """Submit tasks, a stream for each part; return their ids, by part, when they are stored.

        If a message of several is refused, the tasks of those before it are cancelled.
        """
        now = time.monotonic()
        submissions: list[Submission] = []
        numbered: list[tuple[bytes, range]] = []
        for endpoint, function, payloads in parts:
            stream = self._open(endpoint, function, group, declared or self._options.declared)
            with stream.lock:
                first = stream.take(len(payloads), now)
            submissions += cut(stream.info, first, payloads, self._put)
            numbered.append((stream.info.stream, range(first, first + len(payloads))))
        connection = self._attached().connection
        waiting: deque[Reply] = deque()
        sent: list[Submission] = []
        try:
            for message in pack_messages(submissions):
                sent += message  # before: Ctrl-C may come when it is sent
                waiting.append(connection.call(service.Submit(0, message)))
                if len(waiting) > _AHEAD:
                    waiting.popleft().wait()
            found = [ids.task_ids(*part) for part in numbered]  # while they are being stored
            while waiting:
                waiting.popleft().wait()
        except BaseException:
            connection.post(service.CancelTasks(0, tasks_of(sent)))
            raise
        return found

    def _put(self, body: SharedBody) -> None:
        """Have an argument stored that tasks share.

        Raises:
            StoreFull: it cannot be.
        """
        if (reply := shared.put(self._attached().connection, body)) is not None:
            reply.wait()

    def _stream_of_calls(self, endpoint: str, function_id: str, declared: Declared) -> Stream:
        key = (endpoint, function_id, declared)
        stream = known = self._of_calls.get(key)
        if stream is None or stream.is_broken:
            group = self._options.session_task_group_id
            stream = self._open(endpoint, function_id, group, declared)
            with self._lock:
                if self._of_calls.get(key) is known:
                    self._of_calls[key] = stream
                else:  # another thread was faster
                    stream = self._of_calls.get(key, stream)
        elif endpoint == LOCAL_ENDPOINT:
            self._attached().local.want()  # it may have been given up since
        return stream

    def _open(self, endpoint: str, function_id: str, group: str, declared: Declared) -> Stream:
        stream = Stream(
            StreamInfo(
                stream=ids.new_stream(),
                endpoint=endpoint,
                function=self._digest(function_id),
                function_id=function_id,
                submitter=self._submitter_id,
                keep=True,
                group=group,
                retries=self._options.retries,
                result_limit=self._options.max_payload,
                created=time.time(),
                walltime_s=declared.walltime_s,
                capture=declared.capture,
                spill=self._options.on_exceed == "spill",
            )
        )
        check_stream(stream.info)
        if endpoint == LOCAL_ENDPOINT:
            self._attached().local.want()
        with self._lock:
            if len(self.known) >= _KNOWN_STREAMS:
                del self.known[next(iter(self.known))]
            self.known[stream.info.stream] = stream
        return stream

    def _digest(self, function_id: str) -> bytes:
        digest = self.digests.get(function_id)
        if digest is None:
            connection = self._attached().connection
            answer: service.Functions = connection.ask(service.GetFunctions(0, [function_id]))
            if not answer.records:
                raise errors.FunctionNotFound(function_id)
            digest = self.digests[function_id] = answer.records[0].digest
        return digest
