"""Executor: `concurrent.futures`, on workers of this machine or at an endpoint of a home."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import logging
import os
import sys
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fxhpc import chunks, errors
from fxhpc.client import allocation, arguments, attachments
from fxhpc.client.attachments import Attachment
from fxhpc.client.mapping import Sender, Values, rows_of
from fxhpc.client.names import endpoint_name, group_id
from fxhpc.client.resources import Declaring
from fxhpc.client.splitting import Pack
from fxhpc.client.status import status_dict
from fxhpc.client.submitter import Submitter
from fxhpc.protocol import service
from fxhpc.protocol.outcome import DEFAULT_RETRIES
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

if TYPE_CHECKING:
    from fxhpc.client.client import FuncXClient

log = logging.getLogger(__name__)

T = TypeVar("T")


class Executor(Declaring, cf.Executor):
    """Runs functions in other processes, as `concurrent.futures.ProcessPoolExecutor` does.

    `Executor()` and `Executor(4)` run them on this machine, with nothing outside this process but
    its workers; in a job of several nodes, `Executor()` uses them all. `Executor(config=...)` asks
    the batch system for nodes, and gives them back when it ends, whatever ends it.
    `Executor(endpoint_id=...)` and `Executor(client=fxc, endpoint_id=...)` run them at an endpoint
    of a home. What has not begun when the executor or its process ends is cancelled, unless
    `task_group_id` is given.

    Args:
        max_workers: workers on this machine; None takes what this process may use.
        config: an endpoint's YAML file, or the same words in a dictionary.
        endpoint_id: a UUID, a name, or "local".
        client: whose home is used.
        home: a directory, if not the client's or the default one. With `config`, nodes must see
            it, or else the configuration's `state_dir`.
        path: a file for the store of an embedded executor; in memory if there is none.
        max_payload: bytes that the arguments of a task, and its result, may take.
        on_exceed: "error", or "spill": what is larger is not refused, but arguments are stored
            apart from their task, and the result goes to a file that its future reads
            (docs/guide.md).
        retries: how often a task is run again whose worker or manager was lost while it ran, and
            that may be to blame; other losses do not count (docs/guide.md). 0: at most one run.
        task_group_id: a UUID; the tasks then stay when this process ends.
        resource_specification: `{"walltime": "90m"}` declares how long a task takes at most: it
            is not started in a block that ends sooner, and ends as TaskWalltimeExceeded if it takes
            longer. May be set at any time, for the submissions that follow.
        capture_output: keep the last 64 KB (True), or so many bytes, that each task writes to
            stdout and to stderr: its future's `stdout` and `stderr`. May be set at any time.
        label, batch_size, user_endpoint_config: accepted for the sake of Globus Compute's callers,
            who may set them at any time; tasks run without them.

    Raises:
        UsageError: an option cannot be meant so; the text begins with its name. A ValueError.
        ValueError: something else beside `config` says where tasks run.
        InvalidUUID: task_group_id is no UUID.
        ConfigError: the configuration cannot be used; it names all that is wrong.
        EndpointStartFailed: no block can be asked for. Its subclass NodesUnavailable is raised by
            futures, and then by `submit`, if blocks are refused or fail time and again.
    """

    def __init__(
        self,
        max_workers: int | str | uuid.UUID | None = None,
        *,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        endpoint_id: str | uuid.UUID | None = None,
        client: FuncXClient | None = None,
        home: str | os.PathLike[str] | None = None,
        path: str = ":memory:",
        max_payload: int = DEFAULT_PAYLOAD_LIMIT,
        on_exceed: str = "error",
        retries: int = DEFAULT_RETRIES,
        task_group_id: str | uuid.UUID | None = None,
        label: str = "",
        batch_size: int = 128,
        resource_specification: Mapping[str, Any] | None = None,
        capture_output: bool | int = False,
        user_endpoint_config: dict[str, Any] | None = None,
        funcx_client: FuncXClient | None = None,
    ) -> None:
        from fxhpc.client.functions import FunctionCache
        from fxhpc.serialize import ArgumentPacker

        named = None
        if isinstance(max_workers, str | uuid.UUID):  # Globus Compute's first argument
            if endpoint_id is not None:
                raise errors.UsageError(
                    f"max_workers={max_workers!r}: a text there names an endpoint, and "
                    f"endpoint_id={endpoint_id!r} names one, too. A number of workers is an int."
                )
            named, endpoint_id, max_workers = max_workers, max_workers, None
        max_workers = _checked_workers(max_workers)
        path = arguments.path("path", path, "or ':memory:'")
        if config is not None:
            arguments.config(config)
        client = funcx_client if client is None else client
        if client is not None:
            arguments.client(client)
        self._max_workers = _default_workers() if max_workers is None else max_workers
        self._max_payload = arguments.payload_limit(max_payload)
        self._spills = arguments.spills(on_exceed)
        pack = ArgumentPacker().pack
        self._pack_arguments: Pack = functools.partial(pack, spills=True) if self._spills else pack
        self._pack_strictly: Pack = pack
        self._functions = FunctionCache()
        self.label = label
        self.batch_size = batch_size
        self.resource_specification = resource_specification
        self.capture_output = capture_output
        self.user_endpoint_config = user_endpoint_config
        options = {
            "keep": task_group_id is not None,
            "group": group_id(task_group_id),
            "retries": arguments.retries(retries),
            "result_limit": self._max_payload,
            "spill": self._spills,
        }
        directory = None
        found = None
        if config is not None:
            others = (max_workers, endpoint_id, client, task_group_id)
            if any(given is not None for given in others):
                raise ValueError(
                    "config= says where tasks run and on how many workers (max_workers_per_node): "
                    "give no max_workers, endpoint_id, client or task_group_id beside it"
                )
            attach = _private(path, home, config, user_endpoint_config)
        elif client is not None:
            attach, directory = client._share, client._home
        elif endpoint_id is not None or home is not None or task_group_id is not None:
            directory = attachments.home_directory(home)
            attach = functools.partial(attachments.attach_home, directory, max_workers)
        elif max_workers is None and (found := allocation.current()) is not None:
            print(found.note, file=sys.stderr)
            config = found.config(allocation.workers_per_node(os.environ))
            attach = _private(path, home, config, None)
        else:
            attach = functools.partial(attachments.embed, path, max_workers)
        self._home = directory
        try:
            endpoint = (
                "" if config is not None else endpoint_name(endpoint_id or "local", directory)
            )
        except errors.EndpointNotFound as error:
            if named is None:
                raise
            words = "A text as an Executor's first argument, max_workers, names an endpoint; a "
            words += f"number of workers is an int. {error.ADVICE}"
            raise errors.EndpointNotFound(error.uuid, words) from None
        self._submitter = Submitter(attach, endpoint, options)
        if config is not None:
            try:
                self._submitter.attachment()  # so that what is wrong is said here
            except errors.HomeError as error:
                if found is None:
                    raise
                raise errors.HomeError(
                    f"{error}; or stay on this node: {allocation.SWITCH}=0"
                ) from None
        # An executor that is dropped finishes its work and then gives back its processes.
        self._finalizer = weakref.finalize(self, self._submitter.close_when_idle)
        self._finalizer.atexit = False

    # --- concurrent.futures ---------------------------------------------------------------------

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> cf.Future[T]:
        """Have `fn(*args, **kwargs)` run, and return its future.

        Raises:
            RuntimeError: the executor was shut down.
            SerializationError: the function or an argument cannot be packed.
            PayloadTooLarge: the arguments are larger than `max_payload`.

        The future raises WalltimeTooLong if no block of the endpoint lasts as long as was declared.
        """
        self._check_open()
        packed = self._functions.pack(fn)
        payload = self._pack_arguments(args, kwargs, self._max_payload)
        return self._submitter.submit(packed, payload, self.declared)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Values[T]:
        """The values of `fn` for the elements of the iterables, in order.

        The iterables are read, and all calls are sent, at once; with `buffersize`, at most so many
        calls are sent whose values were not read. With `chunksize`, so many calls make one task.
        What a call raises is its own; if the worker dies, the chunk is run once more, and then
        its calls each as a task, so that only the culprit fails. With `retries=0` nothing may be
        run again, and each call is a task.

        The iterator has the calls' futures, too: `map(...).futures`.

        Raises:
            UsageError: chunksize or buffersize is less than 1, or no number; timeout is no number
                of seconds.
            TimeoutError: from the iterator: a value is not there `timeout` seconds after this call.
        """
        chunksize = arguments.whole("chunksize", chunksize, 1, "calls in a task")
        if buffersize is not None:
            buffersize = arguments.whole("buffersize", buffersize, 1, "calls that are not read yet")
        timeout = arguments.timeout(timeout)
        self._check_open()
        deadline = None if timeout is None else time.monotonic() + timeout
        chunked = None
        if chunksize > 1 and self._submitter.options["retries"]:
            # A chunk of larger ones goes to one file.
            limit = sys.maxsize if self._spills else self._max_payload
            chunked = self._functions.pack(functools.partial(chunks.run_chunk, fn, limit))
        sender = Sender(
            self._submitter,
            rows_of(iterables),
            self._functions.pack(fn),
            chunked,
            self._pack_arguments,
            self._pack_strictly,
            self._max_payload,
            self.declared,
            chunksize,
            buffersize,
        )
        return Values(sender, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more submissions, and give back processes when all futures have ended.

        Args:
            wait: return when that has been done.
            cancel_futures: cancel what has not begun.
        """
        self._submitter.shut(cancel=cancel_futures)
        self._finalizer.detach()
        if not wait:
            self._submitter.close_when_idle()
            return
        try:
            self._submitter.wait()
        except BaseException:  # Ctrl-C: the prompt comes back at once
            self._submitter.abort()
            raise
        self._submitter.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "an Executor belongs to the process that made it, and is not sent to another: make one "
            "there (only a forked child may use its parent's, for tasks of its own)"
        )

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> bool | None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._finalizer.detach()
            self._submitter.abort()
        else:
            self.shutdown(wait=True)
        return None

    # --- Globus Compute -------------------------------------------------------------------------

    @property
    def endpoint_id(self) -> str:
        """Where the next submissions run."""
        return self._submitter.endpoint

    @endpoint_id.setter
    def endpoint_id(self, endpoint: str | uuid.UUID) -> None:
        self._submitter.endpoint = endpoint_name(endpoint, self._home)

    @property
    def task_group_id(self) -> str | None:
        """The group of the next submissions; None if they end with this process."""
        return self._submitter.options["group"] or None

    @task_group_id.setter
    def task_group_id(self, group: str | uuid.UUID | None) -> None:
        self._submitter.set_option(keep=group is not None, group=group_id(group))

    def submit_to_registered_function(
        self,
        function_id: str | uuid.UUID,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> cf.Future[Any]:
        """Have a registered function run, and return its future.

        Raises:
            FunctionNotFound: the home does not know the function.
        """
        self._check_open()
        payload = self._pack_arguments(tuple(args or ()), dict(kwargs or {}), self._max_payload)
        function = self._submitter.registered(str(function_id))
        return self._submitter.submit(function, payload, self.declared)

    # --- what goes on ---------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """How the endpoint is, as `FuncXClient.get_endpoint_status` tells it.

        `logs[0]["reason"]` says why nothing runs, if nothing runs.

        Raises:
            RuntimeError: the executor was shut down.
        """
        self._check_open()
        connection = self._submitter.attachment().connection
        return status_dict(connection.ask(service.GetStatus(0, self.endpoint_id)), time.time())

    def _check_open(self) -> None:
        if self._submitter.is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    @property
    def _attachment(self) -> Attachment:
        return self._submitter.attachment()


FuncXExecutor = Executor


def _private(
    path: str,
    home: str | os.PathLike[str] | None,
    config: str | os.PathLike[str] | Mapping[str, Any],
    variables: dict[str, Any] | None,
) -> Callable[[], Attachment]:
    """What attaches to a forwarder in this process, with a private endpoint."""
    from fxhpc.client.cluster import PrivateEndpoint

    make = functools.partial(PrivateEndpoint, attachments.home_directory(home), config, variables)
    return functools.partial(attachments.embed, path, None, make)


def _checked_workers(given: Any) -> int | None:
    """The number of workers, if one is given.

    Raises:
        UsageError: it is none.
    """
    try:
        return arguments.workers("max_workers", given)
    except errors.UsageError:
        if isinstance(given, int) and given <= 0:  # as concurrent.futures says it
            raise errors.UsageError(f"max_workers must be greater than 0, not {given}.") from None
        raise


def _default_workers() -> int:
    from fxhpc.client.workers import local_share

    return local_share(os.environ).workers
