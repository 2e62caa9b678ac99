"""The interchanges of named endpoints: found in the home, connected to, greeted, listened to."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import zmq

from fxhpc.errors import FxhpcError
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import endpoint_key
from fxhpc.forwarder.watch import is_alive
from fxhpc.protocol import codec
from fxhpc.protocol import messages as msg
from fxhpc.transport import sockets
from fxhpc.transport.opener import Opener

#: Seconds between heartbeats, and without a word until an interchange counts as away.
HEARTBEAT_S = 5.0
SILENCE_S = 15.0

#: Seconds between two looks into the home for endpoints and interchanges that are new.
LOOK_S = 0.5

log = logging.getLogger(__name__)


class _Address(msgspec.Struct):
    """The part of an endpoint's `interchange.json` that a forwarder needs."""

    host: str
    pid: int
    started: float
    forwarder: str


class _Record(msgspec.Struct):
    """An endpoint's `endpoint.json`."""

    endpoint: str
    name: str


class _Remote:
    def __init__(self, key: bytes, name: str, directory: Path) -> None:
        self.key = key
        self.name = name
        self.directory = directory
        self.opener: Opener[msg.FromInterchange] | None = None
        self.address: _Address | None = None
        self.heard = 0.0
        self.said = 0.0


class RemoteInterchanges:
    """Links to the interchanges of all named endpoints of a home.

    Args:
        directory: the home's `endpoints`.
        names: a pattern that the endpoints' directories match.
    """

    def __init__(self, context: zmq.SyncContext, directory: Path, names: str = "*") -> None:
        self._context = context
        self._directory = directory
        self._pattern = f"{names}/endpoint.json"
        self._remotes: dict[bytes, _Remote] = {}
        self._next_look = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no interchange is connected."""
        return all(remote.opener is None for remote in self._remotes.values())

    def sockets(self) -> list[Any]:
        """What to poll for reading."""
        return [r.opener.socket for r in self._remotes.values() if r.opener is not None]

    def tell(self, key: bytes, message: msg.ToInterchange) -> bool:
        """Say something to an interchange; False if this is no named endpoint."""
        remote = self._remotes.get(key)
        if remote is None:
            return False
        if remote.opener is not None:
            remote.said = time.monotonic()
            if isinstance(message, msg.Hello):
                remote.opener.greet(message)
            else:
                remote.opener.send(message)
        return True

    def receive(self) -> Iterator[ev.Event]:
        """What interchanges have said, and which of them have to be greeted again."""
        for remote in self._remotes.values():
            if remote.opener is None:
                continue
            for message in remote.opener.receive():
                remote.heard = time.monotonic()
                if isinstance(message, msg.Bye | msg.Refuse):
                    log.info("endpoint %s: %s", remote.name, message.reason)
                    yield from self._lose(remote)
                    break
                yield ev.InterchangeSaid(remote.key, message)
            if remote.opener is not None and remote.opener.broken:
                yield ev.InterchangeUp(remote.key)

    def look(self) -> Iterator[ev.Event]:
        """Look for endpoints that are new in the home."""
        for path in sorted(self._directory.glob(self._pattern)):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=_Record)
                key = endpoint_key(record.endpoint)
            except (OSError, ValueError):
                continue
            if key not in self._remotes:
                self._remotes[key] = _Remote(key, record.name, path.parent)
                yield ev.EndpointKnown(record.endpoint)

    def tick(self) -> Iterator[ev.Event]:
        """Time has passed: find, connect, send heartbeats, give up."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            yield from self.look()
        for remote in list(self._remotes.values()):
            if remote.opener is None:
                yield from self._connect(remote)
                continue
            assert remote.address is not None
            if now - remote.heard > SILENCE_S or not is_alive(
                remote.address.pid, remote.address.started
            ):
                yield from self._lose(remote)
            elif now - remote.said > HEARTBEAT_S:
                self.tell(remote.key, msg.Heartbeat())

    def close(self) -> None:
        """The forwarder ends."""
        for remote in self._remotes.values():
            if remote.opener is not None:
                remote.opener.send(msg.Bye("the forwarder ends"))
                remote.opener.close()

    def _connect(self, remote: _Remote) -> Iterator[ev.Event]:
        try:
            data = (remote.directory / "interchange.json").read_bytes()
            address = msgspec.json.decode(data, type=_Address)
        except (OSError, msgspec.DecodeError):
            return
        if address.host != platform.node() or not is_alive(address.pid, address.started):
            return
        try:
            socket = sockets.dealer(self._context, address.forwarder)
        except (FxhpcError, ValueError, zmq.ZMQError) as error:
            log.warning("endpoint %s cannot be reached: %s", remote.name, error)
            return
        remote.address = address
        remote.opener = Opener(socket, codec.FROM_INTERCHANGE)
        remote.heard = remote.said = time.monotonic()
        yield ev.InterchangeUp(remote.key)

    def _lose(self, remote: _Remote) -> Iterator[ev.Event]:
        assert remote.opener is not None
        remote.opener.close()
        remote.opener = None
        yield ev.InterchangeGone(remote.key)
