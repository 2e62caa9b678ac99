"""What clients of one process share: the connection to a home, and the `local` endpoint."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from fxhpc import errors
from fxhpc.client import processes
from fxhpc.client.connection import Connection
from fxhpc.client.local import LocalEndpoint
from fxhpc.protocol.service import Attached


class Attachment:
    """A connection and this process's `local` endpoint on it, held by one or more clients."""

    def __init__(
        self, connection: Connection, workers: int | None, key: str = "", remove: str = ""
    ) -> None:
        attached = connection.attached
        assert attached is not None, "a connection is made only when it is attached"
        self.connection = connection
        self.key = key
        self.holders = 1
        self.told_older = False
        self.listeners: list[Callable[[errors.FxhpcError], None]] = []
        self.local = LocalEndpoint(
            connection.local_id,
            attached.managers,
            workers,
            self._on_local_failure,
            remove=remove,
        )
        connection.on_need_local = self.local.want
        connection.on_attached = self._on_attached

    @property
    def usable(self) -> bool:
        """Whether it is open, and of this process."""
        return self.connection.usable and self.connection.pid == os.getpid()

    def close(self) -> None:
        """End the local endpoint and the connection."""
        self.local.stop()
        self.connection.close()

    def _on_attached(self, attached: Attached) -> None:
        self.local.set_address(attached.managers)

    def _on_local_failure(self, error: errors.FxhpcError) -> None:
        for listener in list(self.listeners):
            listener(error)


class _Homes:
    """The attachments to homes, one for each; shared by all clients of this process."""

    exit_rank = 3

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.attachments: dict[str, Attachment] = {}
        self.hooked = False

    def leave(self, deadline: float) -> None:
        """The interpreter ends: connections leave by themselves."""

    def abandon(self) -> None:
        """This is a forked child."""
        processes.bury(*self.attachments.values())
        self.lock = threading.Lock()
        self.attachments = {}


_homes = _Homes()


def home_directory(home: str | os.PathLike[str] | None = None) -> Path:
    """The home that is meant: the given one, FXHPC_HOME's, or ~/.fxhpc."""
    return Path(home or os.environ.get("FXHPC_HOME") or "~/.fxhpc").expanduser().absolute()


def attach_home(home: Path, workers: int | None = None) -> Attachment:
    """The attachment to a home, which is made if there is none; give it back by `release`.

    Raises:
        ForwarderUnreachable: there is no forwarder, and none can be started.
        HomeError: the home cannot be used.
    """
    from fxhpc.client.home import HomeConnection
    from fxhpc.forwarder.attach import ensure_forwarder, last_words

    key = os.path.realpath(home)
    with _homes.lock:
        if not _homes.hooked:
            _homes.hooked = True
            processes.add_resident(_homes)
        attachment = _homes.attachments.get(key)
        if attachment is not None and attachment.usable:
            attachment.holders += 1
            return attachment
        connection = HomeConnection(
            lambda: ensure_forwarder(home), last_words=lambda: last_words(home), home=str(home)
        )
        attachment = Attachment(connection, workers, key)
        _homes.attachments[key] = attachment
        return attachment


def embed(path: str = ":memory:", workers: int | None = None) -> Attachment:
    """An attachment to a forwarder of its own, in a thread of this process."""
    from fxhpc.client.embedded import EmbeddedConnection
    from fxhpc.forwarder.embedded import EmbeddedForwarder

    forwarder = EmbeddedForwarder(path)
    return Attachment(EmbeddedConnection(forwarder), workers, remove=forwarder.directory)


def hold(attachment: Attachment) -> Attachment:
    """Hold an attachment once more, for another client of this process."""
    with _homes.lock:
        attachment.holders += 1
    return attachment


def release(attachment: Attachment) -> None:
    """Give an attachment back; the last one to do so closes it."""
    with _homes.lock:
        attachment.holders -= 1
        if attachment.holders > 0:
            return
        if _homes.attachments.get(attachment.key) is attachment:
            del _homes.attachments[attachment.key]
    if attachment.connection.pid == os.getpid():
        attachment.close()
