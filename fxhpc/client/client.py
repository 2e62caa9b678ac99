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
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fxhpc import errors, ids
from fxhpc.client import attachments, cancelling, listing, outcomes, processes, tasks
from fxhpc.client.attachments import Attachment
from fxhpc.client.batch import Batch
from fxhpc.client.connection import author
from fxhpc.client.names import (
    endpoint_given,
    endpoint_name,
    function_name,
    group_id,
    group_name,
)
from fxhpc.client.resources import Declaring
from fxhpc.client.results import Results
from fxhpc.client.search import FunctionSearchResults
from fxhpc.client.status import status_dict
from fxhpc.client.submissions import Submissions
from fxhpc.client.workers import check_number, local_share
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import DEFAULT_RETRIES
from fxhpc.protocol.service import FunctionRecord, TaskState
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

log = logging.getLogger(__name__)

_Id = str | uuid.UUID

#: Seconds from its submission that get_result waits for a task, where nothing else is said.
DEFAULT_WAIT_S = 5.0


class FuncXClient(Declaring):
    """A client of one home, or of a forwarder of its own.

    Args:
        home: a directory; FXHPC_HOME or ~/.fxhpc if there is none.
        embedded: have the forwarder in a thread of this process, with nothing left behind.
        path: a file for an embedded forwarder's store; in memory if there is none.
        workers: of the `local` endpoint; None takes what this process may use.
        wait: seconds from a task's submission that get_result waits for it (FXHPC_WAIT).
        max_payload: bytes that the arguments of a task, and its result, may take.
        retries: how often a task is run again whose worker or manager was lost while it ran, and
            that may be to blame; other losses do not count (docs/guide.md). 0: at most one run.
        task_group_id: of this client's tasks; a random one if there is none.
        resource_specification: `{"walltime": "90m"}` declares how long a task of `run`, `map_run`
            or of a batch takes at most: it is not started in a block that ends sooner, and ends as
            TaskWalltimeExceeded if it takes longer. An attribute, too.
        capture_output: keep the last 64 KB (True), or so many bytes, that each task writes to
            stdout and to stderr: `get_task(...)["details"]`. An attribute, too.
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
        resource_specification: Mapping[str, Any] | None = None,
        capture_output: bool | int = False,
        asynchronous: bool = False,
        loop: Any = None,
        **ignored: Any,
    ) -> None:
        from fxhpc.serialize import pack_arguments

        if ignored or asynchronous or loop:
            log.debug("options without a meaning here are ignored: %s", ", ".join(ignored))
        check_number("workers", workers, int, 1, "processes")
        check_number("wait", wait, (int, float), 0, "seconds")
        check_number("max_payload", max_payload, int, 1, "bytes")
        check_number("retries", retries, int, 0, "further attempts at lost tasks")
        local_share(os.environ, workers)  # a wrong FXHPC_WORKERS is told here, not by a thread
        self.wait_s = _default_wait() if wait is None else wait
        self.max_payload = max_payload
        self.retries = retries
        self.resource_specification = resource_specification
        self.capture_output = capture_output
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
        self._submissions = Submissions(self._attached, self)
        self._results = Results(self._attached, self._submissions)

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
        self._submissions.digests[record.function_id] = packed.digest
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
            WalltimeTooLong: no block of the endpoint lasts as long as was declared.
        """
        endpoint, function = self._endpoint(endpoint_id), function_name(function_id)
        payload = self._pack_arguments(args, kwargs, self.max_payload)
        return self._submissions.submit_one(endpoint, function, payload)

    def create_batch(
        self,
        task_group_id: _Id | None = None,
        resource_specification: Mapping[str, Any] | None = None,
        capture_output: bool | int | None = None,
        **ignored: Any,
    ) -> Batch:
        """An empty batch; what is not said of it here is as the client's attributes are now.

        Raises:
            UsageError: the specification, or capture_output, cannot be meant so.
        """
        if resource_specification is None:
            resource_specification = self.resource_specification
        return Batch(
            task_group_id or self.session_task_group_id,
            max_payload=self.max_payload,
            resource_specification=resource_specification,
            capture_output=self.capture_output if capture_output is None else capture_output,
            resolve=self._endpoint if self._home is not None else endpoint_given,
        )

    def batch_run(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a batch: `batch_run(batch)` or `batch_run(endpoint_id, batch)`.

        Returns, when all is stored, the ids in the order in which the tasks were added; in the
        second form a dictionary whose "tasks" has the ids by function.

        A batch is sent in messages of about 8 MB, each stored as a whole or not at all. If one is
        refused, the tasks of those before it are cancelled.

        Raises:
            NotABatch, EmptyBatch: there is nothing to submit.
            FunctionNotFound, EndpointNotFound: nobody knows it.
            WalltimeTooLong: no block of the endpoint lasts as long as was declared.
        """
        endpoint_id, batch = _batch_arguments(*args, **kwargs)
        endpoint = None if endpoint_id is None else self._endpoint(endpoint_id)
        if not isinstance(batch, Batch):
            raise errors.NotABatch(type(batch).__name__)
        if not batch:
            raise errors.EmptyBatch()
        parts = batch.parts()
        if endpoint is not None:
            parts = [(endpoint, function, payloads) for _, function, payloads in parts]
        elif not all(part[0] for part in parts):
            raise errors.MissingArgument("endpoint_id")
        else:
            parts = [(self._endpoint(given), function, sent) for given, function, sent in parts]
        group = group_name(batch.task_group_id)
        found = self._submissions.submit_parts(parts, group, batch.declared)
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
        endpoint, function = self._endpoint(endpoint_id), function_name(function_id)
        pack, limit = self._pack_arguments, self.max_payload
        payloads = [pack((item,), kwargs, limit) for item in iterable]
        if not payloads:
            return []
        parts = [(endpoint, function, payloads)]
        return self._submissions.submit_parts(parts, self.session_task_group_id)[0]

    # --- results --------------------------------------------------------------------------------

    def get_task(self, task_id: _Id) -> dict[str, Any]:
        """What is known of a task: `pending` (a bool), `status`, why it waits or how it ended.

        `details` has where it was sent, and what it printed if that is kept.

        Raises:
            TaskNotFound: nobody knows it.
            SerializationError: its result cannot be unpacked here.
        """
        selection = tasks.Selection([task_id])
        state, summary = self._results.details(selection)
        if state.status == states.UNKNOWN:
            raise errors.TaskNotFound(selection.names[0])
        return outcomes.task_dict(state, selection.names[0], summary)

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
        seconds = self.wait_s if wait is None else wait
        state = self._results.await_one(selection, timeout, seconds)
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
        selection = tasks.Selection(task_id_list)
        if timeout is not None:
            self._results.wait(selection, timeout, cf.ALL_COMPLETED)
        found = self._results.reader.fetch(selection.by_stream())
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
        return self._results.wait(tasks.Selection(task_ids), timeout, return_when)

    def as_completed(self, task_ids: Iterable[_Id], timeout: float | None = None) -> Iterator[str]:
        """The ids of tasks as they end.

        Raises:
            TimeoutError: not all have ended within so many seconds.
        """
        return self._results.as_completed(tasks.Selection(task_ids), timeout)

    def cancel(
        self,
        task_id: _Id | Iterable[_Id] | None = None,
        interrupt: bool = False,
        *,
        task_group_id: _Id | None = None,
    ) -> bool | dict[str, bool]:
        """Cancel tasks that have not begun; with `interrupt`, end those that run.

        Returns whether the task is cancelled, now or earlier; for many, or a group, a dictionary
        of that by id. False: it had ended and keeps its outcome, runs, or is not known; or its
        endpoint did not answer within 10 seconds, and ends it when it can be reached.

        Args:
            task_id: a task, or several.
            interrupt: end those that run, and all that they have started.
            task_group_id: all tasks of this group that are there by now, whoever submitted them;
                beside `task_id` both are cancelled, the tasks that are named and the group's.

        Raises:
            UsageError: neither tasks nor a group are named.
            InvalidUUID: what is named as a task is no UUID; nothing was cancelled.
            TaskGroupNotFound: the home has no task of this group; nothing was cancelled.
        """
        return cancelling.cancel(
            self._ask,
            lambda: self._results.reader,
            self.session_task_group_id,
            task_id,
            interrupt,
            task_group_id,
        )

    def resume(self) -> None:
        """Run the older work of `local` endpoints that are gone on this process's own."""
        self._ask(service.Resume(0))

    def tasks(
        self,
        endpoint: _Id | None = None,
        state: str | Iterable[str] | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """The tasks that the home knows, the newest first: each a dictionary.

        It has `task_id`, `status`, `pending`, `function_name`, `function_id`, `endpoint` (its
        name), `endpoint_id`, `submitted` (when its batch began, seconds since the epoch), `group`
        and, if it is pending, `reason`.

        Args:
            endpoint: of this endpoint alone: a UUID, a name, or "local".
            state: in this state alone, or in one of these; "pending" are all that have not ended.
            limit: so many at most.

        Raises:
            EndpointNotFound: the home has none of this name.
            UsageError: there is no such state.
        """
        wanted = self._endpoint(endpoint) if endpoint is not None else ""
        return listing.tasks(self._ask, wanted, state, limit)

    # --- endpoints ------------------------------------------------------------------------------

    def get_endpoint_status(self, endpoint_uuid: _Id) -> dict[str, Any]:
        """How an endpoint is: `status` is "online" or "offline", `logs[0]` has the numbers.

        Raises:
            EndpointNotFound: nobody knows it.
        """
        answer = self._ask(service.GetStatus(0, self._endpoint(endpoint_uuid)))
        return status_dict(answer, time.time())

    # --- the client's own life ------------------------------------------------------------------

    def _endpoint(self, endpoint: _Id | None) -> str:
        return endpoint_name(endpoint, self._home)

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
        processes.bury(self._attachment, self._submissions, self._results, self._lock)
        digests = self._submissions.digests
        self._begin()
        self._submissions.digests.update(digests)

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

    def _ask(self, message: Any) -> Any:
        return self._attached().connection.ask(message)

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
) -> tuple[_Id | None, Any]:
    """Endpoint and batch of either form of batch_run."""
    given = list(args)
    if len(given) == 2:
        endpoint_id = given.pop(0)
    if len(given) == 1 and batch is None:
        batch = given.pop()
    if given:
        raise TypeError("batch_run() takes a batch, or an endpoint and a batch")
    return endpoint_id, batch


def _default_wait() -> float:
    text = os.environ.get("FXHPC_WAIT")
    if not text:
        return DEFAULT_WAIT_S
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"FXHPC_WAIT is {text!r}; it is a number of seconds") from None
