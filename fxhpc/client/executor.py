"""Executor: `concurrent.futures`, on workers of this machine or at an endpoint of a home."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import os
import sys
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fxhpc import errors, interrupts
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.declared import arguments, foreign
from fxhpc.client.declared.contained import Contained
from fxhpc.client.futures.completions import Completions
from fxhpc.client.mapping import Sender, Values, rows_of
from fxhpc.client.names import endpoint_name, group_id
from fxhpc.client.sending.sizes import result_terms
from fxhpc.client.sending.submitter import Submitter
from fxhpc.client.shown.status import status_dict
from fxhpc.client.started.destination import Wish
from fxhpc.client.started.workers import local_share
from fxhpc.ids import CHUNK_CALLS, LOCAL_ENDPOINT
from fxhpc.protocol import service
from fxhpc.protocol.outcome import DEFAULT_RETRIES
from fxhpc.protocol.sizes import LEAST_LIMIT
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

if TYPE_CHECKING:
    from fxhpc.client.client import FuncXClient
    from fxhpc.serialize.chunks import Pack

T = TypeVar("T")


class Executor(Contained, cf.Executor):
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
        initializer: called once in each worker before it runs the first task of this executor, with
            `initargs`, as `concurrent.futures` does. Globals of the script that it assigns are seen
            by the functions that are submitted here. If it fails, tasks end as InitializerFailed.
        initargs: what it is called with.
        capture_output: keep the last 64 KB (True), or so many bytes, that each task writes to
            stdout and to stderr: its future's `stdout` and `stderr`. May be set at any time.
        labels: texts by which its tasks can be found: `FuncXClient.tasks`, `fxhpc task list
            --label`. At most 16, of 100 characters each. May be set at any time.
        metadata: a dictionary of what JSON knows, at most 4 KB, that is shown with its tasks. May
            be set at any time.
        container_id: what its tasks run in, as `FuncXClient.register_container` of the same home
            returned it. May be set at any time.
        label, batch_size, user_endpoint_config: accepted for the sake of Globus Compute's callers,
            who may set them at any time; tasks run without them.
        ignored: what else theirs know, of their connection to the cloud.

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
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        labels: Iterable[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_endpoint_config: dict[str, Any] | None = None,
        container_id: str | uuid.UUID | None = None,
        funcx_client: FuncXClient | None = None,
        **ignored: Any,
    ) -> None:
        foreign.check(Executor.__init__, type(self).__name__, ignored, foreign.OF_EXECUTORS)
        with interrupts.Held():
            from fxhpc.client.sending.functions import FunctionCache
            from fxhpc.serialize import ArgumentPacker, pack_initializer

        wish = Wish(
            max_workers,
            endpoint_id,
            config,
            funcx_client if client is None else client,
            home,
            path,
            task_group_id is not None,
            user_endpoint_config,
        )
        self._max_workers = local_share(os.environ, wish.workers).workers
        self._max_payload = arguments.payload_limit(max_payload)
        self._spills = arguments.spills(on_exceed)
        self._packer = ArgumentPacker()
        self._pack_arguments = self._packing(self._spills)
        self._initializer = None
        if initializer is not None:
            self._initializer = pack_initializer(*arguments.initializer(initializer, initargs))
        self._functions = FunctionCache(self._initializer)
        self.label = label
        self.batch_size = batch_size
        self.resource_specification = resource_specification
        self.capture_output = capture_output
        self.labels = labels
        self.metadata = metadata
        self.user_endpoint_config = user_endpoint_config
        retries = arguments.retries(retries)
        destination = wish.destination()
        self._home = destination.home
        result_limit, spills = result_terms(self._max_payload, self._spills, self._home)
        options = {
            "keep": task_group_id is not None,
            "group": group_id(task_group_id),
            "retries": retries,
            "result_limit": result_limit,
            "spill": spills,
        }
        self._submitter = Submitter(destination.attach, destination.endpoint, options)
        if not destination.endpoint:
            self._submitter.attachment()  # so that what is wrong with its nodes is said here
        # An executor that is dropped finishes its work and then gives back its processes.
        self._finalizer = weakref.finalize(self, self._submitter.close_when_idle)
        self._finalizer.atexit = False
        self.container_id = container_id

    # --- concurrent.futures ---------------------------------------------------------------------

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> cf.Future[T]:
        """Have `fn(*args, **kwargs)` run, and return its future.

        Raises:
            RuntimeError: the executor was shut down.
            SerializationError: the function or an argument cannot be packed.
            PayloadTooLarge: the arguments are larger than `max_payload`, or than the endpoint's own
                limit.

        The future raises WalltimeTooLong if no block of the endpoint lasts as long as was declared.
        """
        self._check_open()
        packed = self._functions.pack(fn)
        payload = self._pack_arguments(args, kwargs, self._max_payload)
        if len(payload) > LEAST_LIMIT or type(payload) is not bytes:
            payload = self._fitting(payload)
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
        calls are sent whose values were not read. With `chunksize`, so many calls make one task
        (at most 32,767). What a call raises is its own; if one ends the worker, its chunk is run
        again, at last without that call alone. With `retries=0` nothing may be run again, and each
        call is a task.

        The iterator has the calls' futures, too, each with an id of its own: `map(...).futures`.

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
        most, spills, explained = self._max_payload, self._spills, None
        if self.endpoint_id != LOCAL_ENDPOINT:
            known = self._submitter.attachment().connection.limits
            most, spills = known.of(self.endpoint_id, most, spills)
            explained = functools.partial(known.explained, self.endpoint_id)
        in_chunks = chunksize > 1 and self._submitter.options["retries"]
        sender = Sender(
            self._submitter,
            rows_of(iterables),
            self._functions.pack(fn),
            self._packing(spills),
            most,
            explained,
            self.declared,
            min(chunksize, CHUNK_CALLS) if in_chunks else 0,
            buffersize,
        )
        return Values(sender, deadline)

    def as_completed(
        self, futures: Iterable[cf.Future[T]] | Values[T], timeout: float | None = None
    ) -> Completions[cf.Future[T]]:
        """Futures as they end, each once: for `for`, and for `async for`.

        Raises:
            UsageError: they are no futures, or timeout is no number of seconds.
            TimeoutError: from the iterator: not all have ended within so many seconds.
        """
        timeout = arguments.timeout(timeout)
        given = futures.futures if isinstance(futures, Values) else futures
        waiting = arguments.futures(given, "as_completed")

        def awaited() -> AsyncIterator[cf.Future[T]]:
            from fxhpc.client.futures.awaiting import as_completed  # asyncio takes time to import

            return as_completed(waiting, timeout)

        return Completions(cf.as_completed(waiting, timeout), awaited)

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
        if kind is not None and (issubclass(kind, KeyboardInterrupt) or _is_cancelled(kind)):
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
        self._submitter.endpoint = endpoint_name(endpoint, self._home, self._ask_home)

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
            InvalidResourceSpecification: what was set, and what the function says, do not fit.
            UsageError: the executor has an initializer, which would not be run.
        """
        self._check_open()
        if self._initializer is not None:
            raise errors.UsageError(
                f"submit_to_registered_function: this Executor has an initializer "
                f"({self._initializer.name}), which goes along with functions that are submitted, "
                f"and not with registered ones. Submit the function itself, or use an Executor "
                f"without an initializer."
            )
        payload = self._fitting(
            self._pack_arguments(tuple(args or ()), dict(kwargs or {}), self._max_payload)
        )
        function, default = self._submitter.registered(str(function_id))
        return self._submitter.submit(function, payload, self.declared.settled(default))

    def reload_tasks(self, task_group_id: str | uuid.UUID | None = None) -> list[cf.Future[Any]]:
        """A future for each task of a group, whoever submitted it, in whatever process.

        Those that have ended have their results. Older work for a `local` that is gone runs here.
        Leaving the `with` waits for them as for others, but Ctrl-C ends none of them.

        Args:
            task_group_id: which; this executor's if nothing is said.

        Raises:
            UsageError: there is none.
            InvalidUUID: it is no UUID.
            TaskGroupNotFound: the home has no task of this group.
            RuntimeError: the executor was shut down.
        """
        from fxhpc.client.futures.reloading import futures_of_group

        self._check_open()
        group = group_id(task_group_id) or self.task_group_id
        if not group:
            raise errors.UsageError(
                "reload_tasks() was told no group, and this executor has none: pass the "
                "task_group_id that the tasks were submitted with."
            )
        return futures_of_group(self._submitter, group)

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

    def _packing(self, spills: bool) -> Pack:
        """What packs the arguments of a call; what is too large is refused, or goes apart."""
        pack = self._packer.pack
        return functools.partial(pack, spills=True) if spills else pack

    def _fitting(self, payload: bytes) -> bytes:
        """Packed arguments as the endpoint wants them.

        Raises:
            PayloadTooLarge: they are larger than its own limit.
        """
        if self.endpoint_id == LOCAL_ENDPOINT:
            return payload
        known = self._submitter.attachment().connection.limits
        return known.fit(self.endpoint_id, [payload], self._spills)[0]

    def _check_open(self) -> None:
        if self._submitter.is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _ask_home(self, message: Any) -> Any:
        return self._submitter.attachment().connection.ask(message)

    @property
    def _attachment(self) -> Attachment:
        return self._submitter.attachment()


FuncXExecutor = Executor


def _is_cancelled(kind: type[BaseException]) -> bool:
    """Whether a coroutine is cancelled, by Ctrl-C for one: its loop is not held up until what runs
    has ended.
    """
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and issubclass(kind, asyncio.CancelledError)
