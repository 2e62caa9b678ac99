"""Where an executor's tasks run: on this machine, on all nodes of a job, or at an endpoint."""

from __future__ import annotations

import functools
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxhpc import errors, interrupts
from fxhpc.client.connection import address, attachments
from fxhpc.client.connection.address import Afar
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.declared import arguments
from fxhpc.client.names import endpoint_name
from fxhpc.client.started import allocation
from fxhpc.client.started.allocation import Allocation
from fxhpc.client.started.workers import refusal

if TYPE_CHECKING:
    from fxhpc.client.client import FuncXClient

_Config = str | os.PathLike[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Destination:
    """Where tasks run.

    Attributes:
        endpoint: its UUID; empty if it comes with the attachment.
        home: the forwarder's, a directory or an address; None if it is embedded.
        allocation: the nodes that it was made of, where nobody said anything.
    """

    make_attachment: Callable[[], Attachment]
    endpoint: str
    home: Path | Afar | None = None
    allocation: Allocation | None = None

    def attach(self) -> Attachment:
        """Attach to its forwarder, at the first use and again in a forked child.

        Raises:
            FxhpcError: that cannot be done.
        """
        try:
            return self.make_attachment()
        except errors.HomeError as error:
            if self.allocation is None:
                raise
            raise errors.HomeError(
                f"{error}; or stay on this node: {allocation.SWITCH}=0"
            ) from None


class Wish:
    """What an executor's caller says of where tasks are to run: see `Executor`.

    Attributes:
        workers: on this machine, if a number was given.

    Raises:
        UsageError: something cannot be meant so; the text begins with its name.
    """

    def __init__(
        self,
        max_workers: int | str | uuid.UUID | None,
        endpoint_id: str | uuid.UUID | None,
        config: _Config | None,
        client: FuncXClient | None,
        home: str | os.PathLike[str] | None,
        path: str,
        has_group: bool,
        variables: dict[str, Any] | None,
    ) -> None:
        self._is_named_first = isinstance(max_workers, str | uuid.UUID)
        if self._is_named_first:  # Globus Compute's first argument
            if endpoint_id is not None:
                raise errors.UsageError(
                    f"max_workers={max_workers!r}: a text there names an endpoint, and "
                    f"endpoint_id={endpoint_id!r} names one, too. A number of workers is an int."
                )
            max_workers, endpoint_id = None, max_workers
        self.workers = _checked_workers(max_workers)
        self._path = arguments.path("path", path, "or ':memory:'")
        if config is not None:
            arguments.config(config)
        if client is not None:
            arguments.client(client)
        self._endpoint_id = endpoint_id
        self._config = config
        self._client = client
        self._home = home
        self._has_group = has_group
        self._variables = variables

    def destination(self) -> Destination:
        """The place that is meant. In a job of several nodes it says which, on standard error.

        Raises:
            ValueError: something else beside `config` says where tasks run.
            UsageError: nothing may run on this host.
            EndpointNotFound: the home has no endpoint of this name.
        """
        home: Path | Afar | None = None
        if self._config is not None:
            others = self.workers, self._endpoint_id, self._client
            if self._has_group or any(given is not None for given in others):
                raise ValueError(
                    "config= says where tasks run and on how many workers (max_workers_per_node): "
                    "give no max_workers, endpoint_id, client or task_group_id beside it"
                )
            return Destination(self._on_nodes(self._config, self._variables), "")
        if self._client is not None:
            attach, home = self._client._share, self._client._home
        elif self._endpoint_id is not None or self._home is not None or self._has_group:
            home = address.parse(self._home)
            attach = functools.partial(attachments.attach, home, self.workers)
        elif self.workers is None and (found := allocation.current()) is not None:
            print(found.note, file=sys.stderr)
            config = found.config(allocation.workers_per_node(os.environ))
            return Destination(self._on_nodes(config, None), "", allocation=found)
        else:
            if why := refusal():
                raise errors.UsageError(why)
            attach = functools.partial(attachments.embed, self._path, self.workers)
        return Destination(attach, self._endpoint(home, attach), home)

    def _endpoint(self, home: Path | Afar | None, attach: Callable[[], Attachment]) -> str:
        try:
            return endpoint_name(
                self._endpoint_id or "local", home, lambda call: _asked(attach, call)
            )
        except errors.EndpointNotFound as error:
            if not self._is_named_first:
                raise
            words = "A text as an Executor's first argument, max_workers, names an endpoint; a "
            words += f"number of workers is an int. {error.ADVICE}"
            raise errors.EndpointNotFound(error.uuid, words) from None

    def _on_nodes(
        self, config: _Config, variables: dict[str, Any] | None
    ) -> Callable[[], Attachment]:
        """What attaches to a forwarder in this process, with a private endpoint."""
        with interrupts.Held():
            from fxhpc.client.started.cluster import PrivateEndpoint

        home = address.parse(self._home)
        if not isinstance(home, Path):
            raise errors.UsageError(
                f"home={str(home)!r}: an executor with a configuration of its own keeps its nodes' "
                f"files in a directory of this host. Configure an endpoint there, and name it: "
                f"Executor(endpoint_id=NAME, home={str(home)!r})."
            )
        make = functools.partial(PrivateEndpoint, home, config, variables)
        return functools.partial(attachments.embed, self._path, None, make)


def _asked(attach: Callable[[], Attachment], call: Any) -> Any:
    """The answer to one call of a forwarder that is attached to for it."""
    attachment = attach()
    try:
        return attachment.connection.ask(call)
    finally:
        attachments.release(attachment)


def _checked_workers(given: Any) -> int | None:
    """The number of workers, if one is given.

    Raises:
        UsageError: it is none.
    """
    try:
        return arguments.workers("max_workers", given)
    except errors.UsageError:
        if hasattr(given, "register_function"):  # funcX's executor has it in this place
            raise errors.UsageError(
                f"max_workers={given!r}: a client is given as client=, and where tasks run beside "
                f'it: Executor(client=fxc, endpoint_id="local").'
            ) from None
        if isinstance(given, int) and given <= 0:  # as concurrent.futures says it
            raise errors.UsageError(f"max_workers must be greater than 0, not {given}.") from None
        raise
