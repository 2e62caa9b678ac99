"""What a client has submitted: its streams, when, and how tasks are sent and known to be stored."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from fxhpc import errors, ids
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.connection.connection import Reply
from fxhpc.client.declared.keys import Keyed, Under, function_told, keyed
from fxhpc.client.declared.resources import Declared, Default, default_of
from fxhpc.client.sending import shared
from fxhpc.client.sending.chunk_sizes import pack_sizes
from fxhpc.client.sending.sendable import check_stream
from fxhpc.client.sending.streams import Stream, cut, pack_messages, tasks_of
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import service
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.service import Submission

if TYPE_CHECKING:
    from fxhpc.serialize.sharing import SharedBody

T = TypeVar("T")

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

    @property
    def result_terms(self) -> tuple[int, bool]:
        """How large results may be, and whether larger ones go to files."""


class Submissions:
    """Numbers and sends a client's tasks.

    Args:
        attached: the client's attachment, made if it has to be.
        options: looked at whenever a stream is opened.
    """

    def __init__(self, attached: Callable[[], Attachment], options: Options) -> None:
        self.known: dict[bytes, Stream] = {}  # the streams opened here
        # By the function's id: its body's digest, and what it says of its tasks, if it does.
        self.functions: dict[str, tuple[bytes, Default | None]] = {}
        self._functions_told: dict[str, bytes] = {}  # likewise what it is, for what has a key
        self._attached = attached
        self._options = options
        self._submitter_id = os.urandom(16)
        self._lock = threading.RLock()  # a signal's handler may submit, too
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
            PayloadTooLarge: it is larger than the endpoint's own limit.
            WalltimeTooLong: no block of the endpoint lasts as long as was declared.
        """
        declared = self._options.declared
        (payload,) = self._fitting(endpoint, [payload])
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
        self,
        parts: list[Part],
        group: str,
        declared: Declared | None = None,
        under: Under | None = None,
    ) -> list[list[str]]:
        """Submit tasks, a stream for each part; return their ids, by part, when they are stored.

        If a message of several is refused, the tasks of those before it are cancelled; under a key
        they stay, and go on when the same is submitted again.

        Raises:
            PayloadTooLarge: one is larger than its endpoint's own limit; nothing was sent.
            IdempotencyConflict: the key stands for other tasks; nothing was submitted.
        """
        parts = [
            (endpoint, function, self._fitting(endpoint, payloads))
            for endpoint, function, payloads in parts
        ]
        declared = declared or self._options.declared
        key = under and self._keyed(under, [(place, function, 0) for place, function, _ in parts])
        streams = [
            (self._open(endpoint, function, group, declared, key=key, part=part), payloads)
            for part, (endpoint, function, payloads) in enumerate(parts)
        ]
        return self._submit(
            streams,
            lambda: [ids.task_ids(s.info.stream, range(len(payloads))) for s, payloads in streams],
        )

    def submit_chunks(
        self,
        endpoint: str,
        function: str,
        chunks: list[tuple[bytes, int]],
        group: str,
        under: Under | None = None,
    ) -> list[str]:
        """Submit chunks as one stream; return the ids of their calls when they are stored.

        Args:
            chunks: payloads, each with how many calls it has.
        """
        sizes = [size for _, size in chunks]
        calls = max(sizes)
        declared = self._options.declared
        key = under and self._keyed(under, [(endpoint, function, calls)])
        stream = self._open(endpoint, function, group, declared, calls, pack_sizes(sizes), key)
        return self._submit(
            [(stream, [payload for payload, _ in chunks])],
            lambda: ids.task_ids(
                stream.info.stream,
                itertools.chain.from_iterable(
                    range(index * calls, index * calls + size) for index, size in enumerate(sizes)
                ),
            ),
        )

    def _submit(self, streams: list[tuple[Stream, list[bytes]]], named: Callable[[], T]) -> T:
        """Submit the payloads of new streams; what `named` returns, when they are stored."""
        now = time.monotonic()
        submissions: list[Submission] = []
        for stream, payloads in streams:
            with stream.lock:
                first = stream.take(len(payloads), now)
            submissions += cut(stream.info, first, payloads, self._put)
        connection = self._attached().connection
        waiting: deque[Reply] = deque()
        sent: list[Submission] = []
        is_keyed = any(stream.info.key for stream, _ in streams)
        try:
            for message in pack_messages(submissions):
                # What the first one is refused for, others may not be: they wait for its answer.
                ahead = 0 if is_keyed and not sent else _AHEAD
                sent += message  # before: Ctrl-C may come when it is sent
                waiting.append(connection.call(service.Submit(0, message)))
                if len(waiting) > ahead:
                    waiting.popleft().wait()
            found = named()  # while they are being stored
            while waiting:
                waiting.popleft().wait()
        except BaseException:
            if not is_keyed:  # those may be somebody else's, too
                connection.post(service.CancelTasks(0, tasks_of(sent)))
            raise
        return found

    def _keyed(self, under: Under, parts: list[tuple[str, str, int]]) -> Keyed:
        """A submission under a key: of each part the endpoint, the function's id, calls.

        Raises:
            FunctionNotFound: nobody knows it.
        """
        connection, told = self._attached().connection, self._functions_told
        if unknown := sorted({function for _, function, _ in parts} - told.keys()):
            answer: service.Functions = connection.ask(service.GetFunctions(0, unknown))
            told |= {record.function_id: function_told(record) for record in answer.records}
            for function in unknown:
                if function not in told:
                    raise errors.FunctionNotFound(function)
        home = "" if connection.attached is None else connection.attached.home
        return keyed(under, home, [(place, told[name], calls) for place, name, calls in parts])

    def _fitting(self, endpoint: str, payloads: list[bytes]) -> list[bytes]:
        if endpoint == LOCAL_ENDPOINT:
            return payloads
        spills = self._options.on_exceed == "spill"
        return self._attached().connection.limits.fit(endpoint, payloads, spills)

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
            self._want_local()  # it may have been given up since
        return stream

    def _open(
        self,
        endpoint: str,
        function_id: str,
        group: str,
        declared: Declared,
        calls: int = 0,
        sizes: tuple[int, ...] = (),
        key: Keyed | None = None,
        part: int = 0,
    ) -> Stream:
        digest, default = self._function(function_id)
        declared = declared.settled(default)
        result_limit, spill = self._options.result_terms
        stream = Stream(
            StreamInfo(
                stream=ids.new_stream(calls) if key is None else key.stream(part, calls),
                endpoint=endpoint,
                function=digest,
                function_id=function_id,
                submitter=self._submitter_id,
                keep=True,
                group=group,
                retries=self._options.retries,
                result_limit=result_limit,
                created=time.time(),
                **declared.of_stream(calls),
                spill=spill,
                sizes=sizes,
                key="" if key is None else key.key,
                content=b"" if key is None else key.content,
            )
        )
        check_stream(stream.info)
        if endpoint == LOCAL_ENDPOINT:
            self._want_local()
        with self._lock:
            if len(self.known) >= _KNOWN_STREAMS:
                del self.known[next(iter(self.known))]
            self.known[stream.info.stream] = stream
        return stream

    def _want_local(self) -> None:
        if not self._attached().local.want():
            raise errors.UsageError(
                "the task was not submitted: the interpreter has begun to end, and with it the "
                "workers of `local`, so nobody would run it. Submit before that (handlers of "
                "atexit, and threads that go on after the main one, are too late), or to a named "
                "endpoint."
            )

    def _function(self, function_id: str) -> tuple[bytes, Default | None]:
        if function_id not in self.functions:
            connection = self._attached().connection
            answer: service.Functions = connection.ask(service.GetFunctions(0, [function_id]))
            if not answer.records:
                raise errors.FunctionNotFound(function_id)
            self.remember(answer.records[0])
        return self.functions[function_id]

    def remember(self, record: service.FunctionRecord) -> None:
        """What is known of a function need not be asked for."""
        self.functions[record.function_id] = record.digest, default_of(record)
