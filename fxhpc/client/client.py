"""FuncXClient: register functions, submit tasks, get results, as funcX scripts do it."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import logging
import os
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fxhpc import errors, ids
from fxhpc.client import attachments, outcomes, processes, tasks
from fxhpc.client.attachments import LOCAL_ENDPOINT, Attachment
from fxhpc.client.batch import Batch
from fxhpc.client.connection import Connection, Reply, author
from fxhpc.client.names import endpoint_name, function_name, group_id
from fxhpc.client.search import FunctionSearchResults
from fxhpc.client.status import status_dict
from fxhpc.client.streams import Stream, cut, pack_messages, tasks_of
from fxhpc.protocol import service, states
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import DEFAULT_RETRIES
from fxhpc.protocol.service import FunctionRecord, Submission, TaskState
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

log = logging.getLogger(__name__)

_Id = str | uuid.UUID

#: Seconds from its submission that get_result waits for a task, where nothing else is said.
DEFAULT_WAIT_S = 5.0

_AHEAD = 4  # messages of one batch that are sent ahead of their answers
_KNOWN_STREAMS = 10_000  # whose submission times are remembered


class FuncXClient:
    """A client of one home, or of a forwarder of its own.

    Args:
        home: a directory; FXHPC_HOME or ~/.fxhpc if there is none.
        embedded: have the forwarder in a thread of this process, with nothing left behind.
        path: a file for an embedded forwarder's store; in memory if there is none.
        workers: of the `local` endpoint; None takes what this process may use.
        wait: seconds from a task's submission that get_result waits for it (FXHPC_WAIT).
        max_payload: bytes that the arguments of a task, and its result, may take.
        retries: how often a task that was lost is run again.
        task_group_id: of this client's tasks; a random one if there is none.
        ignored: what funcX and Globus Compute needed to log in and to find their service.

    Raises:
        ForwarderUnreachable: there is no forwarder, and none can be started.
        HomeError: the home cannot be used.
    """

    def __init__(
        self,
        *,
        home: str | os.PathLike[str] | None = None,
        embedded: bool = False,
        path: str = ":memory:",
        workers: int | None = None,
        wait: float | None = None,
        max_payload: int = DEFAULT_PAYLOAD_LIMIT,
        retries: int = DEFAULT_RETRIES,
        task_group_id: _Id | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        **ignored: Any,
    ) -> None:
        from fxhpc.serialize import pack_arguments

        if ignored or asynchronous or loop:
            log.debug("options without a meaning here are ignored: %s", ", ".join(ignored))
        self.wait_s = _default_wait() if wait is None else wait
        self.max_payload = max_payload
        self.retries = retries
        self.session_task_group_id = group_id(task_group_id) or ids.new_id()
        # What scripts read or set, without a meaning here.
        self.func_table: dict[str, Any] = {}
        self.throttling_enabled = False
        self.max_requests = 20
        self.max_request_size = max_payload
        self.asynchronous = asynchronous
        self.loop = loop
        self.fx_serializer: Any = None
        self._pack_arguments = pack_arguments
        self._home = None if embedded else attachments.home_directory(home)
        if self._home is None:
            self._attach = functools.partial(attachments.embed, path, workers)
        else:
            self._attach = functools.partial(attachments.attach_home, self._home, workers)
        self._begin()
        self._is_closed = False
        processes.add_resident(self)
        self._tell_older(self._attached())

    exit_rank = 1

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._attachment: Attachment | None = None
        self._submitter_id = os.urandom(16)
        self._digests: dict[str, bytes] = {}
        self._streams: dict[tuple[str, str], Stream] = {}  # of single calls
        self._known: dict[bytes, Stream] = {}
        self._asked: dict[bytes, float] = {}  # streams of others: first asked for, monotonic

    # --- functions ------------------------------------------------------------------------------

    def register_function(
        self,
        function: Callable[..., Any],
        function_name: str | None = None,
        container_uuid: _Id | None = None,
        description: str | None = None,
        public: bool = False,
        group: str | None = None,
        searchable: bool = True,
    ) -> str:
        """Store a function, and return its id.

        Raises:
            SerializationError: the function cannot be packed.
            ContainerNotFound: a container was given; functions run without them.
        """
        from fxhpc.serialize import pack_function

        if container_uuid is not None:
            raise errors.ContainerNotFound(str(container_uuid))
        packed = pack_function(function)
        record = FunctionRecord(
            function_id=ids.new_id(),
            digest=packed.digest,
            name=function_name or packed.name,
            source=packed.source,
            description=description or "",
            author=author(),
            public=public,
            searchable=searchable,
            group=group or "",
            created=time.time(),
        )
        self._ask(service.RegisterFunction(0, record, packed.body))
        self._digests[record.function_id] = packed.digest
        return record.function_id

    def search_function(
        self, q: str, offset: int = 0, limit: int = 10, advanced: bool = False
    ) -> FunctionSearchResults:
        """Functions whose author, description, name or source match, best first."""
        answer: service.Functions = self._ask(service.Search(0, q, offset, limit))
        return FunctionSearchResults(answer.records, answer.total, offset)

    # --- submitting -----------------------------------------------------------------------------

    def run(
        self,
        *args: Any,
        endpoint_id: _Id | None = None,
        function_id: _Id | None = None,
        **kwargs: Any,
    ) -> str:
        """Submit one task, and return its id when it is stored.

        Raises:
            MissingArgument: endpoint_id or function_id is missing.
            PayloadTooLarge: the packed arguments are larger than `max_payload`.
            FunctionNotFound, EndpointNotFound: nobody knows it.
        """
        endpoint, function = endpoint_name(endpoint_id), function_name(function_id)
        payload = self._pack_arguments(args, kwargs, self.max_payload)
        stream = self._stream_of_calls(endpoint, function)
        with stream.lock:
            index = stream.take(1, time.monotonic())
            submission = Submission(stream.info, index, [payload])
            reply = self._connection.call(service.Submit(0, [submission]))
        try:
            reply.wait()
        except errors.FxhpcError:
            self._streams.pop((endpoint, function), None)  # its numbers have a gap now
            raise
        return ids.task_id(stream.info.stream, index)

    def create_batch(self, task_group_id: _Id | None = None, **ignored: Any) -> Batch:
        """An empty batch."""
        return Batch(task_group_id or self.session_task_group_id, max_payload=self.max_payload)

    def batch_run(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a batch: `batch_run(batch)` or `batch_run(endpoint_id, batch)`.

        Returns, when all is stored, the ids in the order in which the tasks were added; in the
        second form a dictionary whose "tasks" has the ids by function.

        A batch is sent in messages of about 8 MB, each stored as a whole or not at all. If one is
        refused, the tasks of those before it are cancelled.

        Raises:
            NotABatch, EmptyBatch: there is nothing to submit.
            FunctionNotFound, EndpointNotFound: nobody knows it.
        """
        endpoint, batch = _batch_arguments(*args, **kwargs)
        if not isinstance(batch, Batch):
            raise errors.NotABatch(type(batch).__name__)
        if not batch:
            raise errors.EmptyBatch()
        parts = batch.parts()
        if endpoint is not None:
            parts = [(endpoint, function, payloads) for _, function, payloads in parts]
        elif not all(part[0] for part in parts):
            raise errors.MissingArgument("endpoint_id")
        found = self._submit(parts, batch.task_group_id)
        if endpoint is None:
            return batch.in_order(found)
        by_function: dict[str, list[str]] = {}
        for (_, function, _), task_ids in zip(parts, found, strict=True):
            by_function.setdefault(function, []).extend(task_ids)
        return {
            "tasks": by_function,
            "request_id": ids.new_id(),
            "task_group_id": batch.task_group_id,
            "endpoint_id": endpoint,
        }

    def map_run(
        self,
        iterable: Iterable[Any],
        /,
        *,
        endpoint_id: _Id | None = None,
        function_id: _Id | None = None,
        asynchronous: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Submit one task for each element, and return their ids when all are stored.

        An element is its task's one positional argument; keyword arguments are shared.
        """
        endpoint, function = endpoint_name(endpoint_id), function_name(function_id)
        pack, limit = self._pack_arguments, self.max_payload
        payloads = [pack((item,), kwargs, limit) for item in iterable]
        if not payloads:
            return []
        return self._submit([(endpoint, function, payloads)], self.session_task_group_id)[0]

    # --- results --------------------------------------------------------------------------------

    def get_task(self, task_id: _Id) -> dict[str, Any]:
        """What is known of a task: `pending` (a bool), `status`, and how it ended.

        Raises:
            TaskNotFound: nobody knows it.
            SerializationError: its result cannot be unpacked here.
        """
        selection = tasks.Selection([task_id])
        state = self._state(selection)
        if state.status == states.UNKNOWN:
            raise errors.TaskNotFound(selection.names[0])
        return outcomes.task_dict(state, selection.names[0])

    def get_result(
        self, task_id: _Id, timeout: float | None = None, wait: float | None = None
    ) -> Any:
        """The value that a task returned.

        Args:
            task_id: which task.
            timeout: seconds from now to wait for it; `float("inf")` waits until it ends.
            wait: seconds from its submission to wait for it; the client's `wait` if neither is
                given. So a loop over many pending tasks waits that long in all.

        Raises:
            TaskPending: it has not ended by then; `reason` says what it waits for.
            TaskNotFound: nobody knows it.
            TaskLost, TaskCancelled: it ended without a value.
            Exception: what the function raised.
        """
        selection = tasks.Selection([task_id])
        name = selection.names[0]
        state = self._await(selection, timeout, wait)
        if state.status == states.UNKNOWN:
            raise errors.TaskNotFound(name)
        if state.outcome is None:
            raise errors.TaskPending(outcomes.pending_reason(state))
        if state.status == states.SUCCESS:
            return outcomes.value_of(state.outcome)
        outcomes.failure_of(state.outcome, name).reraise()
        raise AssertionError("unreachable")

    def get_batch_result(
        self, task_id_list: Iterable[_Id], timeout: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """What is known of many tasks: for every id that was given, what `get_task` returns.

        An unknown task has the status "unknown" and an `exception`.

        Args:
            task_id_list: a list of ids, or another iterable of them.
            timeout: seconds to wait for all to end; without it, the answer is the state of now.

        Raises:
            NotAList: it is one id, or no iterable.
        """
        if isinstance(task_id_list, str | bytes | uuid.UUID | dict) or not isinstance(
            task_id_list, Iterable
        ):
            raise errors.NotAList(type(task_id_list).__name__)
        selection = tasks.Selection(task_id_list)
        if timeout is not None:
            self._wait(selection, timeout, cf.ALL_COMPLETED)
        found = self._reader.fetch(selection.by_stream())
        nothing = TaskState(0, states.UNKNOWN)
        return {
            name: outcomes.task_dict_in_batch(found[stream].get(index, nothing), name)
            for name, (stream, index) in zip(selection.names, selection.places, strict=True)
        }

    def wait(
        self,
        task_ids: Iterable[_Id],
        timeout: float | None = None,
        return_when: str = cf.ALL_COMPLETED,
    ) -> tuple[list[str], list[str]]:
        """Wait for tasks; return the ids of those that have ended and of those that have not."""
        return self._wait(tasks.Selection(task_ids), timeout, return_when)

    def as_completed(self, task_ids: Iterable[_Id], timeout: float | None = None) -> Iterator[str]:
        """The ids of tasks as they end.

        Raises:
            TimeoutError: not all have ended within so many seconds.
        """
        selection = tasks.Selection(task_ids)
        try:
            yield from tasks.as_completed(self._reader, selection, timeout)
        except KeyboardInterrupt:
            self._interrupt(selection)
            raise

    def cancel(
        self, task_id: _Id | Iterable[_Id], interrupt: bool = False
    ) -> bool | dict[str, bool]:
        """Cancel tasks that have not begun; with `interrupt`, end those that run.

        Returns whether the task is cancelled; for many, a dictionary of that by id.
        """
        is_single = isinstance(task_id, str | uuid.UUID)
        given: Any = [task_id] if is_single else task_id
        selection = tasks.Selection(given)
        answer: service.Cancelled = self._ask(service.CancelTasks(0, selection.ranges(), interrupt))
        cancelled = {
            (part.stream, index) for part in answer.tasks for index in ids.from_ranges(part.ranges)
        }
        told = {
            name: place in cancelled
            for name, place in zip(selection.names, selection.places, strict=True)
        }
        return told[selection.names[0]] if is_single else told

    def resume(self) -> None:
        """Run the older work of `local` endpoints that are gone on this process's own."""
        self._ask(service.Resume(0))

    # --- endpoints ------------------------------------------------------------------------------

    def get_endpoint_status(self, endpoint_uuid: _Id) -> dict[str, Any]:
        """How an endpoint is: `status` is "online" or "offline", `logs[0]` has the numbers.

        Raises:
            EndpointNotFound: nobody knows it.
        """
        answer = self._ask(service.GetStatus(0, endpoint_name(endpoint_uuid)))
        return status_dict(answer, time.time())

    # --- the client's own life ------------------------------------------------------------------

    def close(self) -> None:
        """Give back what is held; `local` ends with the last client of this process."""
        with self._lock:
            self._is_closed = True
            attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachments.release(attachment)

    def logout(self) -> None:
        """Nothing to do: nobody has logged in."""

    def version_check(self, endpoint_version: str | None = None) -> None:
        """Nothing to do: versions are compared when peers meet."""

    def __enter__(self) -> FuncXClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def leave(self, deadline: float) -> None:
        """The interpreter ends: the connection and `local` leave by themselves."""

    def abandon(self) -> None:
        """This is a forked child: it attaches anew at its next use, under streams of its own."""
        processes.bury(self._attachment, self._streams, self._lock)
        digests = self._digests
        self._begin()
        self._digests = digests

    # --- inside ---------------------------------------------------------------------------------

    def _attached(self) -> Attachment:
        attachment = self._attachment
        if attachment is not None and attachment.usable:
            return attachment
        with self._lock:
            if self._is_closed:
                raise errors.ForwarderError("this client was closed; make another")
            if self._attachment is None or not self._attachment.usable:
                self._attachment = self._attach()
            return self._attachment

    def _share(self) -> Attachment:
        """The attachment, held once more: for an executor."""
        return attachments.hold(self._attached())

    @property
    def _connection(self) -> Connection:
        return self._attached().connection

    @property
    def _reader(self) -> tasks.Reader:
        return tasks.Reader(self._connection)

    def _ask(self, message: Any) -> Any:
        return self._connection.ask(message)

    def _digest(self, function_id: str) -> bytes:
        digest = self._digests.get(function_id)
        if digest is None:
            answer: service.Functions = self._ask(service.GetFunctions(0, [function_id]))
            if not answer.records:
                raise errors.FunctionNotFound(function_id)
            digest = self._digests[function_id] = answer.records[0].digest
        return digest

    def _open(self, endpoint: str, function_id: str, group: str, submitter: bytes) -> Stream:
        stream = Stream(
            StreamInfo(
                stream=ids.new_stream(),
                endpoint=endpoint,
                function=self._digest(function_id),
                function_id=function_id,
                submitter=submitter,
                keep=True,
                group=group,
                retries=self.retries,
                result_limit=self.max_payload,
                created=time.time(),
            )
        )
        if endpoint == LOCAL_ENDPOINT:
            self._attached().local.want()
        with self._lock:
            if len(self._known) >= _KNOWN_STREAMS:
                del self._known[next(iter(self._known))]
            self._known[stream.info.stream] = stream
        return stream

    def _stream_of_calls(self, endpoint: str, function_id: str) -> Stream:
        stream = self._streams.get((endpoint, function_id))
        if stream is None:
            group = self.session_task_group_id
            stream = self._open(endpoint, function_id, group, self._submitter_id)
            stream = self._streams.setdefault((endpoint, function_id), stream)
        return stream

    def _submit(self, parts: list[tuple[str, str, list[bytes]]], group: str) -> list[list[str]]:
        """Submit tasks, a stream for each part, and return their ids by part."""
        now = time.monotonic()
        submitter = os.urandom(16)  # a batch has a turn of its own: single calls do not wait for it
        submissions: list[Submission] = []
        found = []
        for endpoint, function, payloads in parts:
            stream = self._open(endpoint, function, group, submitter)
            with stream.lock:
                first = stream.take(len(payloads), now)
            submissions += cut(stream.info, first, payloads)
            found.append(ids.task_ids(stream.info.stream, range(first, first + len(payloads))))
        connection = self._connection
        waiting: deque[Reply] = deque()
        sent: list[Submission] = []
        try:
            for message in pack_messages(submissions):
                waiting.append(connection.call(service.Submit(0, message)))
                sent += message
                if len(waiting) > _AHEAD:
                    waiting.popleft().wait()
            while waiting:
                waiting.popleft().wait()
        except BaseException:
            if connection.usable:
                connection.post(service.CancelTasks(0, tasks_of(sent)))
            raise
        return found

    def _state(self, selection: tasks.Selection, wait_s: float = 0.0) -> TaskState:
        """The state of the one task of a selection."""
        stream, index = selection.places[0]
        reader = self._reader
        found = reader.fetch({stream: [index]}, wait_s=wait_s, need=1 if wait_s > 0 else 0)
        if stream not in self._known and stream not in self._asked:
            created = reader.created.get(stream)
            age = max(0.0, time.time() - created) if created else 0.0
            self._asked[stream] = time.monotonic() - age
        return found[stream].get(index) or TaskState(index, states.UNKNOWN)

    def _await(
        self, selection: tasks.Selection, timeout: float | None, wait: float | None
    ) -> TaskState:
        """The state of one task when it has ended, or at the time that was given for that."""
        stream, index = selection.places[0]
        now = time.monotonic()
        deadline = None if timeout is None else now + timeout
        known = self._known.get(stream)
        try:
            while True:
                if deadline is None:
                    born = known.submitted(index) if known else self._asked.get(stream, -1.0)
                    if born >= 0:
                        deadline = born + (self.wait_s if wait is None else wait)
                remaining = 0.0 if deadline is None else deadline - time.monotonic()
                state = self._state(selection, max(0.0, min(remaining, tasks.SLICE_S)))
                if state.status not in states.PENDING:
                    return state
                self._check_local(stream)
                if deadline is not None and deadline <= time.monotonic():
                    return state
        except KeyboardInterrupt:
            self._interrupt(selection)
            raise

    def _wait(
        self, selection: tasks.Selection, timeout: float | None, return_when: str
    ) -> tuple[list[str], list[str]]:
        try:
            return tasks.wait(self._reader, selection, timeout, return_when)
        except KeyboardInterrupt:
            self._interrupt(selection)
            raise

    def _check_local(self, stream: bytes) -> None:
        """Tasks of a `local` endpoint that cannot start must not be waited for."""
        attachment, known = self._attachment, self._known.get(stream)
        if attachment is None or known is None or known.info.endpoint != LOCAL_ENDPOINT:
            return
        if attachment.local.failure is not None:
            raise attachment.local.failure

    def _interrupt(self, selection: tasks.Selection) -> None:
        """Ctrl-C: end what was waited for, as far as it runs in this process's name."""
        local = {
            stream: indices
            for stream, indices in selection.by_stream().items()
            if stream in self._known and self._known[stream].info.endpoint == LOCAL_ENDPOINT
        }
        if local:
            self._connection.post(service.CancelTasks(0, tasks.to_ranges(local), interrupt=True))

    def _tell_older(self, attachment: Attachment) -> None:
        attached = attachment.connection.attached
        if attached is None or not attached.older or attachment.told_older:
            return
        attachment.told_older = True
        print(
            f"fxhpc: {attached.older:,} older tasks of `local` endpoints that are gone wait in "
            f"{self._home}; resume() runs them here.",
            file=sys.stderr,
        )


Client = FuncXClient  # Globus Compute's name


def _batch_arguments(
    *args: Any, endpoint_id: _Id | None = None, batch: Any = None
) -> tuple[str | None, Any]:
    """Endpoint and batch of either form of batch_run."""
    given = list(args)
    if len(given) == 2:
        endpoint_id = given.pop(0)
    if len(given) == 1 and batch is None:
        batch = given.pop()
    if given:
        raise TypeError("batch_run() takes a batch, or an endpoint and a batch")
    return (endpoint_name(endpoint_id) if endpoint_id is not None else None), batch


def _default_wait() -> float:
    text = os.environ.get("FXHPC_WAIT")
    if not text:
        return DEFAULT_WAIT_S
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"FXHPC_WAIT is {text!r}; it is a number of seconds") from None
