"""FuncXClient, as funcX scripts use it: submits tasks. The modules of its bases do the rest."""

from __future__ import annotations

import functools
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from fxhpc import errors, ids, interrupts
from fxhpc.client.asking import Asking, default_wait
from fxhpc.client.batch import Batch, batch_arguments
from fxhpc.client.connection import address, attachments
from fxhpc.client.declared import arguments, foreign
from fxhpc.client.declared.keys import key_of, under_of_map
from fxhpc.client.declared.resources import Declaring
from fxhpc.client.given_out import GivenOut, checked_loop
from fxhpc.client.map_ids import MapIds
from fxhpc.client.names import endpoint_given, function_name, group_id
from fxhpc.client.registering import Registering
from fxhpc.client.results import Results
from fxhpc.client.sending.sizes import result_terms
from fxhpc.client.shown.status import status_dict
from fxhpc.client.started import processes
from fxhpc.client.started.workers import local_share
from fxhpc.client.submissions import Submissions
from fxhpc.protocol import service
from fxhpc.protocol.outcome import DEFAULT_RETRIES
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

_Id = str | uuid.UUID


class FuncXClient(Registering, Asking, Declaring):
    """A client of one home, or of a forwarder of its own.

    Args:
        home: a directory; FXHPC_HOME or ~/.fxhpc if there is none. Or that of another host:
            "ssh://login.cluster" (docs/laptop.md), or an access file (docs/places.md).
        embedded: have the forwarder in a thread of this process, with nothing left behind.
        access: an access file, for "tcp://HOST:PORT"; FXHPC_ACCESS if there is none.
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
        labels: texts by which the tasks of `run`, `map_run` and of batches can be found: `tasks()`,
            `fxhpc task list --label`. An attribute, too.
        metadata: a dictionary of what JSON knows, at most 4 KB, that is shown with these tasks. An
            attribute, too.
        asynchronous: `run` and `batch_run` give out tasks of asyncio, to be awaited, in the place
            of ids (docs/guide.md). An attribute, too.
        loop: whose tasks these are; without it, of the loop that runs where they are called.
        ignored: what funcX and Globus Compute needed to log in and to find their service.

    Raises:
        UsageError: an option cannot be meant so; the text begins with its name.
        UnknownOption: a keyword is none of these; a UsageError, and a TypeError.
        InvalidUUID: task_group_id is no UUID.
        ForwarderUnreachable: there is no forwarder, and none can be started.
        HomeError: the home cannot be used.
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        embedded: bool = False,
        access: str | os.PathLike[str] | None = None,
        path: str = ":memory:",
        workers: int | None = None,
        wait: float | None = None,
        max_payload: int = DEFAULT_PAYLOAD_LIMIT,
        on_exceed: str = "error",
        retries: int = DEFAULT_RETRIES,
        task_group_id: _Id | None = None,
        resource_specification: Mapping[str, Any] | None = None,
        capture_output: bool | int = False,
        labels: Iterable[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        **ignored: Any,
    ) -> None:
        with interrupts.Held():
            from fxhpc.serialize import ArgumentPacker

        foreign.check(FuncXClient.__init__, type(self).__name__, ignored, foreign.OF_CLIENTS)
        workers = arguments.workers("workers", workers)
        path = arguments.path("path", path, "or ':memory:'")
        local_share(os.environ, workers)  # a wrong FXHPC_WORKERS is told here, not by a thread
        self.wait_s = default_wait() if wait is None else arguments.seconds("wait", wait)
        self.max_payload = max_payload
        self.on_exceed = on_exceed
        self.retries = retries
        self.resource_specification = resource_specification
        self.capture_output = capture_output
        self.labels = labels
        self.metadata = metadata
        self.session_task_group_id = group_id(task_group_id) or ids.new_id()
        # What scripts read or set, without a meaning here.
        self.func_table: dict[str, Any] = {}
        self.throttling_enabled = False
        self.max_requests = 20
        self.max_request_size = self.max_payload
        self.fx_serializer: Any = None
        self.asynchronous = asynchronous
        self.loop = checked_loop(loop)
        self._packer = ArgumentPacker()
        self._pack_arguments = self._packer.pack
        place = None if embedded else address.parse(home, access=access)
        if place is None:
            attach = functools.partial(attachments.embed, path, workers)
        else:
            attach = functools.partial(attachments.attach, place, workers)
        super().__init__(attach, place)
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
    def result_terms(self) -> tuple[int, bool]:
        """How large the next tasks' results may be, in bytes, and whether larger ones go to files
        of the home: of one on another host they cannot be read here.
        """
        return result_terms(self._max_payload, self._spills, self._home)

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
        self._given_out = GivenOut(self._share, self._submissions)

    # --- submitting -----------------------------------------------------------------------------

    def run(
        self,
        /,
        *args: Any,
        endpoint_id: _Id | None = None,
        function_id: _Id | None = None,
        idempotency_key: _Id | None = None,
        **kwargs: Any,
    ) -> str:
        """Submit one task, and return its id when it is stored.

        A client with `asynchronous=True` returns something to be awaited, which has its `task_id`.

        Args:
            idempotency_key: a text. The same call under the same key, in whatever process, is
                submitted once, and has the same id.

        Raises:
            MissingArgument: endpoint_id or function_id is missing.
            PayloadTooLarge: the packed arguments are larger than `max_payload`, or than the
                endpoint's own limit.
            FunctionNotFound, EndpointNotFound: nobody knows it.
            WalltimeTooLong: no block of the endpoint lasts as long as was declared.
            IdempotencyConflict: the key stands for something else.
        """
        endpoint, function = self._endpoint(endpoint_id), function_name(function_id)
        loop = self._given_out.loop(self.loop) if self.asynchronous else None
        if idempotency_key is not None:
            batch = self.create_batch(idempotency_key=idempotency_key)
            batch.add(function_id=function, endpoint_id=endpoint, args=args, kwargs=kwargs)
            group = self.session_task_group_id
            ((task_id,),) = self._submissions.submit_parts(
                batch.parts(), group, under=batch.under()
            )
        else:
            payload = self._pack_arguments(args, kwargs, self.max_payload, self._spills)
            task_id = self._submissions.submit_one(endpoint, function, payload)
        return task_id if loop is None else self._given_out.of([task_id], loop)[0]

    def create_batch(
        self,
        task_group_id: _Id | None = None,
        resource_specification: Mapping[str, Any] | None = None,
        capture_output: bool | int | None = None,
        labels: Iterable[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: _Id | None = None,
        **ignored: Any,
    ) -> Batch:
        """An empty batch; what is not said of it here is as the client's attributes are now.

        Args:
            idempotency_key: a text. The same batch under the same key, in whatever process, is
                submitted once, and has the same ids.

        Raises:
            UsageError: the specification, capture_output, labels, metadata or the key cannot be
                meant so.
            InvalidUUID: task_group_id is no UUID.
        """
        what = f"{type(self).__name__}.create_batch"
        foreign.check(self.create_batch, what, ignored, foreign.OF_BATCHES)
        if resource_specification is None:
            resource_specification = self.resource_specification
        return Batch(
            self.session_task_group_id if task_group_id is None else task_group_id,
            max_payload=self.max_payload,
            on_exceed=self.on_exceed,
            resource_specification=resource_specification,
            capture_output=self.capture_output if capture_output is None else capture_output,
            labels=self.labels if labels is None else labels,
            metadata=self.metadata if metadata is None else metadata,
            idempotency_key=idempotency_key,
            resolve=self._endpoint if self._home is not None else endpoint_given,
        )

    def batch_run(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a batch: `batch_run(batch)` or `batch_run(endpoint_id, batch)`.

        Returns, when all is stored, the ids in the order in which the tasks were added; in the
        second form a dictionary whose "tasks" has the ids by function.

        A client with `asynchronous=True` returns what can be awaited in the place of each id.

        A batch is sent in messages of about 8 MB, each stored as a whole or not at all. If one is
        refused, the tasks of those before it are cancelled; if it has an idempotency key, they stay
        for the next time that it is submitted.

        Raises:
            NotABatch, EmptyBatch: there is nothing to submit.
            FunctionNotFound, EndpointNotFound: nobody knows it.
            WalltimeTooLong: no block of the endpoint lasts as long as was declared.
            IdempotencyConflict: the batch's key stands for something else.
        """
        endpoint_id, batch = batch_arguments(*args, **kwargs)
        loop = self._given_out.loop(self.loop) if self.asynchronous else None
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
        found = self._submissions.submit_parts(parts, group, batch.declared, batch.under())
        if endpoint is None:
            return self._given_out.of(batch.in_order(found), loop)
        by_function: dict[str, list[Any]] = {}
        for (_, function, _), task_ids in zip(parts, found, strict=True):
            by_function.setdefault(function, []).extend(self._given_out.of(task_ids, loop))
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
        chunksize: int = 1,
        idempotency_key: _Id | None = None,
        **kwargs: Any,
    ) -> MapIds:
        """Submit a call for each element, and return their ids when all are stored.

        An element is its call's one positional argument; keyword arguments are shared. The ids are
        a list, whose `results()` gives the values in order.

        Args:
            chunksize: calls that make one task, which costs far less for short ones. They run one
                after the other in one worker, and each has an id, a result and an error of its
                own. If one ends the worker, its chunk runs again, at last without that call alone.
                They are cancelled together. With `retries=0`, each call is a task.
            idempotency_key: a text. The same calls under the same key, in whatever process, are
                submitted once, and have the same ids.

        Raises:
            MissingArgument: endpoint_id or function_id is missing.
            UsageError: chunksize is no number from 1 to 32,767, or the key none.
            PayloadTooLarge: the packed arguments of a call are larger than `max_payload`, or than
                the endpoint's own limit; the text says for which element.
            SerializationError: an argument cannot be packed; likewise.
            FunctionNotFound, EndpointNotFound: nobody knows it.
            IdempotencyConflict: the key stands for something else.
        """
        chunksize = arguments.whole("chunksize", chunksize, 1, "calls in a task", ids.CHUNK_CALLS)
        endpoint, function = self._endpoint(endpoint_id), function_name(function_id)
        group = self.session_task_group_id
        under = None
        if key := key_of(idempotency_key):
            iterable = [*iterable]
            under = under_of_map(key, iterable, kwargs)
        if chunksize > 1 and self.retries:
            chunks = self._pack_chunks(endpoint, iterable, kwargs, chunksize)
            if not chunks:
                return MapIds([], self._results)
            found = self._submissions.submit_chunks(endpoint, function, chunks, group, under)
            return MapIds(found, self._results)
        payloads = self._packer.pack_each(iterable, kwargs, self.max_payload, self._spills)
        if not payloads:
            return MapIds([], self._results)
        parts = [(endpoint, function, payloads)]
        found = self._submissions.submit_parts(parts, group, under=under)[0]
        return MapIds(found, self._results)

    def _pack_chunks(
        self, endpoint: str, iterable: Iterable[Any], kwargs: dict[str, Any], size: int
    ) -> list[tuple[bytes, int]]:
        from fxhpc.serialize import pack_calls, rows_of

        rows = rows_of(iterable)
        known = self._attached().connection.limits
        limit, spills = known.of(endpoint, self.max_payload, self._spills)
        pack = functools.partial(self._packer.pack, spills=spills)
        chunks: list[tuple[bytes, int]] = []
        try:
            for first in range(0, len(rows), size):
                chunks += pack_calls(rows[first : first + size], kwargs, pack, limit, first)
        except errors.PayloadTooLarge as error:
            raise known.explained(endpoint, error) from None
        return chunks

    # --- endpoints ------------------------------------------------------------------------------

    def get_endpoint_status(self, endpoint_uuid: _Id) -> dict[str, Any]:
        """How an endpoint is: `status` is "online" or "offline", `logs[0]` has the numbers.

        Raises:
            EndpointNotFound: nobody knows it.
        """
        from fxhpc.client.shown import notebooks

        answer = self._ask(service.GetStatus(0, self._endpoint(endpoint_uuid)))
        return notebooks.EndpointRecord(status_dict(answer, time.time()))

    # --- the client's own life ------------------------------------------------------------------

    def close(self) -> None:
        """Give back what is held; `local` ends with the last client of this process."""
        self._given_out.close()
        super().close()

    def logout(self) -> None:
        """Nothing to do: nobody has logged in."""

    def version_check(self, endpoint_version: str | None = None) -> None:
        """Nothing to do: versions are compared when peers meet."""

    def __repr__(self) -> str:
        return f"<FuncXClient of {self._home or 'this process'}>"

    def _repr_html_(self) -> str:
        from fxhpc.client.shown import notebooks

        attachment = self._attachment
        attached = None if attachment is None else attachment.connection.attached
        forwarder = None if attached is None else (attached.version, attached.epoch)
        return notebooks.of_client(
            self._home, self.session_task_group_id, forwarder, self._is_closed
        )

    def __enter__(self) -> FuncXClient:
        return self

    def abandon(self) -> None:
        """This is a forked child: it attaches anew at its next use, under streams of its own."""
        processes.bury(self._submissions, self._results, self._given_out)
        functions = self._submissions.functions
        super().abandon()
        self._submissions.functions.update(functions)


Client = FuncXClient  # Globus Compute's name
