"""What clients of one process share: the connection to a home, and the `local` endpoint."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fxhpc import errors, interrupts
from fxhpc.client.connection.address import Afar, SshAddress, TcpAddress
from fxhpc.client.connection.connection import Connection
from fxhpc.client.connection.open_files import check_open_files
from fxhpc.client.started import processes
from fxhpc.client.started.local import LocalEndpoint
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol.service import Attached
from fxhpc.version import __version__

if TYPE_CHECKING:
    from fxhpc.client.started.cluster import PrivateEndpoint

#: Versions of forwarders that need no words: ours, and those that this process has told of.
_known_versions = {__version__}


class Attachment:
    """A connection and this process's `local` endpoint on it, held by one or more clients.

    With it may come a private endpoint, which ends with it.
    """

    def __init__(
        self,
        connection: Connection,
        workers: int | None,
        key: str = "",
        remove: str = "",
        private: PrivateEndpoint | None = None,
        spill: str = "",
        manager_key: str = "",
    ) -> None:
        attached = connection.attached
        assert attached is not None, "a connection is made only when it is attached"
        self.connection = connection
        self.key = key
        self.holders = 1
        self.told_older = False
        self.private = private
        self.listeners: list[Callable[[errors.FxhpcError, str], None]] = []
        self.local = LocalEndpoint(
            connection.local_id,
            attached.managers,
            workers,
            self._on_local_failure,
            remove=remove,
            spill=spill,
            key_file=manager_key,
        )
        connection.on_need_local = self.local.want
        connection.on_attached = self._on_attached
        _tell_notices(attached)
        if private is not None:
            private.on_failure = self._on_private_failure

    @property
    def usable(self) -> bool:
        """Whether it is open, and of this process."""
        return self.connection.usable and self.connection.pid == os.getpid()

    def close(self) -> None:
        """End the local endpoint, the connection, and the private endpoint with its blocks."""
        if self.private is not None:
            self.private.stop_soon()
        self.local.stop()
        self.connection.close()
        if self.private is not None:
            self.private.stop()

    def stop_soon(self) -> None:
        """Ctrl-C: have what runs end, without waiting for it."""
        self.local.stop_soon()
        if self.private is not None:
            self.private.stop_soon()

    def _on_attached(self, attached: Attached) -> None:
        self.local.set_address(attached.managers)
        _tell_notices(attached)

    def _on_local_failure(self, error: errors.FxhpcError) -> None:
        self._tell(error, LOCAL_ENDPOINT)

    def _on_private_failure(self, error: errors.FxhpcError) -> None:
        assert self.private is not None
        self._tell(error, self.private.endpoint)

    def _tell(self, error: errors.FxhpcError, endpoint: str) -> None:
        for listener in list(self.listeners):
            listener(error, endpoint)


def _tell_notices(attached: Attached) -> None:
    for notice in attached.notices:
        print(f"fxhpc: {notice}", file=sys.stderr)
    if attached.version not in _known_versions:
        _known_versions.add(attached.version)
        print(
            f"fxhpc: the home's forwarder is fxhpc {attached.version}, and this is {__version__}: "
            f"they work together. {_to_be_one(attached.version)}",
            file=sys.stderr,
        )


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


def attach(home: Path | Afar, workers: int | None = None) -> Attachment:
    """The attachment to a home, here or on another host: see `attach_home`.

    Raises:
        UsageError: this kind of address cannot be attached to.
        FxhpcError: there is no forwarder, and none can be started.
    """
    if isinstance(home, Path):
        return attach_home(home, workers)
    if isinstance(home, TcpAddress):
        return _attach_by_tcp(home)
    assert isinstance(home, SshAddress)
    return _attach_by_ssh(home)


def _attach_by_ssh(address: SshAddress) -> Attachment:
    key = f"{address}?{address.command}"
    with _homes.lock:
        if (attachment := _shared(key)) is not None:
            attachment.connection.ask_again()
            return attachment
        with interrupts.Held():
            from fxhpc.client.connection.ssh_connection import SshConnection

        attachment = _homes.attachments[key] = Attachment(SshConnection(address), None, key)
        return attachment


def _attach_by_tcp(address: TcpAddress) -> Attachment:
    key = f"{address.address} {address.file}"
    with _homes.lock:
        if (attachment := _shared(key)) is not None:
            return attachment
        with interrupts.Held():
            from fxhpc.client.connection.tcp_connection import TcpConnection

        attachment = _homes.attachments[key] = Attachment(TcpConnection(address), None, key)
        return attachment


def _shared(key: str) -> Attachment | None:
    """The attachment that others of this process hold, held once more; None: make one."""
    if not _homes.hooked:
        _homes.hooked = True
        processes.add_resident(_homes)
    attachment = _homes.attachments.get(key)
    if attachment is not None and attachment.usable:
        attachment.holders += 1
        return attachment
    check_open_files()
    return None


def attach_home(home: Path, workers: int | None = None) -> Attachment:
    """The attachment to a home, which is made if there is none; give it back by `release`.

    Raises:
        ForwarderUnreachable: there is no forwarder, and none can be started.
        HomeError: the home cannot be used.
        ForwarderError: this process may open no more files.
    """
    key = os.path.realpath(home)
    with _homes.lock:
        if (attachment := _shared(key)) is not None:
            return attachment
        with interrupts.Held():
            from fxhpc.client.connection.dialing import dial
            from fxhpc.client.connection.home import HomeConnection
            from fxhpc.forwarder.attach import ensure_forwarder, last_words
            from fxhpc.forwarder.home import Home

        connection = HomeConnection(
            lambda: ensure_forwarder(home),
            last_words=lambda: last_words(home),
            home=str(home),
            connect=lambda address: dial(home, address),
        )
        paths = Home(home)
        attachment = Attachment(
            connection,
            workers,
            key,
            spill=os.fspath(paths.spill),
            manager_key=os.fspath(paths.manager_key),
        )
        _homes.attachments[key] = attachment
        return attachment


def embed(
    path: str = ":memory:",
    workers: int | None = None,
    make_private: Callable[[], PrivateEndpoint] | None = None,
) -> Attachment:
    """An attachment to a forwarder of its own, in a thread of this process.

    Args:
        path: of its store.
        workers: of the `local` endpoint.
        make_private: makes a private endpoint, which ends with the attachment.

    Raises:
        ForwarderError: this process may open no more files.
    """
    check_open_files()
    with interrupts.Held():
        from fxhpc.client.connection.embedded import EmbeddedConnection
        from fxhpc.forwarder.embedded import EmbeddedForwarder

    private = make_private() if make_private is not None else None
    try:
        forwarder = EmbeddedForwarder(path, private.directory if private is not None else None)
        connection = EmbeddedConnection(forwarder)
    except BaseException:
        if private is not None:
            private.stop_soon()
        raise
    return Attachment(
        connection, workers, remove=forwarder.directory, private=private, spill=forwarder.spill
    )


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


def _to_be_one(version: str) -> str:
    """What to do about a forwarder of another version."""
    if _numbers(version) > _numbers(__version__):
        return "After an upgrade, a program takes it up when it is started again"
    return "After an upgrade `fxhpc forwarder restart` takes it up, and loses nothing"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
