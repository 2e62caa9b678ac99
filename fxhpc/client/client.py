"""FuncXClient: register functions, submit tasks, get results, as funcX scripts do it."""

from __future__ import annotations

import functools
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fxhpc import errors, ids
from fxhpc.client import arguments, attachments, processes
from fxhpc.client.asking import Asking, default_wait
from fxhpc.client.batch import Batch, batch_arguments
from fxhpc.client.connection import author
from fxhpc.client.names import (
    endpoint_given,
    function_name,
    group_id,
)
from fxhpc.client.resources import Declaring
from fxhpc.client.results import Results
from fxhpc.client.search import FunctionSearchResults
from fxhpc.client.status import status_dict
from fxhpc.client.submissions import Submissions
from fxhpc.client.workers import local_share
from fxhpc.protocol import service
from fxhpc.protocol.outcome import DEFAULT_RETRIES
from fxhpc.protocol.service import FunctionRecord
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

log = logging.getLogger(__name__)

_Id = str | uuid.UUID


class FuncXClient(Asking, Declaring):
    """A client of one home, or of a forwarder of its own.

    Args:
        home: a directory; FXHPC_HOME or ~/.fxhpc if there is none.
        embedded: have the forwarder in a thread of this process, with nothing left behind.
        path: a file for an embedded forwarder's store; in memory if there is none.
        workers: of the `local` endpoint; None takes what this process may use.
        wait: seconds from a task's submission that get_result waits for it (FXHPC_WAIT).
        max_payload: bytes that the arguments of a task, and its result, may take.
        on_exceed: "error", or "spill": what is larger is not refused, but arguments are stored
            apart from their task, and the result goes to a file that is read when it is asked for
            (docs/guide.md). An attribute, too.
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
        UsageError: an option cannot be meant so; the text begins with its name.
        InvalidUUID: task_group_id is no UUID.
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
        on_exceed: str = "error",
        retries: int = DEFAULT_RETRIES,
        task_group_id: _Id | None = None,
        resource_specification: Mapping[str, Any] | None = None,
        capture_output: bool | int = False,
        asynchronous: bool = False,
        loop: Any = None,
        **ignored: Any,
    ) -> None:
        from fxhpc.serialize import ArgumentPacker

        if ignored or asynchronous or loop:
            log.debug("options without a meaning here are ignored: %s", ", ".join(ignored))
        workers = arguments.workers("workers", workers)
        path = arguments.path("path", path, "or ':memory:'")
        local_share(os.environ, workers)  # a wrong FXHPC_WORKERS is told here, not by a thread
        self.wait_s = default_wait() if wait is None else arguments.seconds("wait", wait)
        self.max_payload = max_payload
        self.on_exceed = on_exceed
        self.retries = retries
        self.resource_specification = resource_specification
        self.capture_output = capture_output
        self.session_task_group_id = group_id(task_group_id) or ids.new_id()
        # What scripts read or set, without a meaning here.
        self.func_table: dict[str, Any] = {}
        self.throttling_enabled = False
        self.max_requests = 20
        self.max_request_size = self.max_payload
        self.asynchronous = asynchronous
        self.loop = loop
        self.fx_serializer: Any = None
        self._packer = ArgumentPacker()
        self._pack_arguments = self._packer.pack
        directory = None if embedded else attachments.home_directory(home)
        if directory is None:
            attach = functools.partial(attachments.embed, path, workers)
        else:
            attach = functools.partial(attachments.attach_home, directory, workers)
        super().__init__(attach, directory)
        self._tell_older(self._attached())

    @property
    def max_payload(self) -> int:
        """Bytes that the arguments of a task, and its result, may take. May be set at any time."""
        return self._max_payload

    @max_payload.setter
    def max_payload(self, limit: int) -> None:
        self._max_payload = arguments.payload_limit(limit)

    @property
    def on_exceed(self) -> str:
        """What is done with what is larger: "error" or "spill". May be set at any time."""
        return "spill" if self._spills else "error"

    @on_exceed.setter
    def on_exceed(self, what: str) -> None:
        self._spills = arguments.spills(what)

    @property
    def retries(self) -> int:
        """How often a lost task is run again. May be set at any time, for the next submissions."""
        return self._retries

    @retries.setter
    def retries(self, retries: int) -> None:
        self._retries = arguments.retries(retries)

    def _begin(self) -> None:
        super()._begin()
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
            UsageError: its name, description or group is no text.
            ContainerNotFound: a container was given; functions run without them.
        """
        from fxhpc.serialize import pack_function

        if container_uuid is not None:
            raise errors.ContainerNotFound(str(container_uuid))
        name = arguments.text("function_name", function_name, "what the function is found by")
        description = arguments.text("description", description, "what the function does")
        group = arguments.text("group", group, "who else may use the function")
        packed = pack_function(function)
        record = FunctionRecord(
            function_id=ids.new_id(),
            digest=packed.digest,
            name=name or packed.name,
            source=packed.source,
            description=description,
            author=author(),
            public=bool(public),
            searchable=bool(searchable),
            group=group,
            created=time.time(),
        )
        self._ask(service.RegisterFunction(0, record, packed.body))
        self._submissions.digests[record.function_id] = packed.digest
        return record.function_id

    def search_function(
        self, q: str, offset: int = 0, limit: int = 10, advanced: bool = False
    ) -> FunctionSearchResults:
        """Functions whose author, description, name or source match, best first.

        Raises:
            UsageError: q is no text; offset or limit is no number of functions.
        """
        q = arguments.text("q", q, "words to look for")
        offset = arguments.whole("offset", offset, 0, "functions that are passed over")
        limit = arguments.whole("limit", limit, 0, "functions at most")
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
        payload = self._pack_arguments(args, kwargs, self.max_payload, self._spills)
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
            InvalidUUID: task_group_id is no UUID.
        """
        if resource_specification is None:
            resource_specification = self.resource_specification
        return Batch(
            self.session_task_group_id if task_group_id is None else task_group_id,
            max_payload=self.max_payload,
            on_exceed=self.on_exceed,
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
        endpoint_id, batch = batch_arguments(*args, **kwargs)
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
        group = group_id(batch.task_group_id) or self.session_task_group_id
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
        payloads = self._packer.pack_each(iterable, kwargs, self.max_payload, self._spills)
        if not payloads:
            return []
        parts = [(endpoint, function, payloads)]
        return self._submissions.submit_parts(parts, self.session_task_group_id)[0]

    # --- endpoints ------------------------------------------------------------------------------

    def get_endpoint_status(self, endpoint_uuid: _Id) -> dict[str, Any]:
        """How an endpoint is: `status` is "online" or "offline", `logs[0]` has the numbers.

        Raises:
            EndpointNotFound: nobody knows it.
        """
        answer = self._ask(service.GetStatus(0, self._endpoint(endpoint_uuid)))
        return status_dict(answer, time.time())

    # --- the client's own life ------------------------------------------------------------------

    def logout(self) -> None:
        """Nothing to do: nobody has logged in."""

    def version_check(self, endpoint_version: str | None = None) -> None:
        """Nothing to do: versions are compared when peers meet."""

    def __enter__(self) -> FuncXClient:
        return self

    def abandon(self) -> None:
        """This is a forked child: it attaches anew at its next use, under streams of its own."""
        processes.bury(self._submissions, self._results)
        digests = self._submissions.digests
        super().abandon()
        self._submissions.digests.update(digests)


Client = FuncXClient  # Globus Compute's name
