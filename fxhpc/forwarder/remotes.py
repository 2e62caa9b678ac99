"""The interchanges of named endpoints: found in the home, connected to, greeted, listened to."""

from __future__ import annotations

import errno
import logging
import platform
import resource
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fxhpc.errors import FxhpcError
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.away import read_struct, why_away
from fxhpc.forwarder.core import endpoint_key
from fxhpc.hosts import is_alive
from fxhpc.protocol import codec
from fxhpc.protocol import messages as msg
from fxhpc.protocol.sizes import SizeLimits
from fxhpc.transport import unix_sockets
from fxhpc.transport.opener import Opener
from fxhpc.transport.sockets import MessageSocket

#: Seconds between heartbeats, and without a word until an interchange counts as away.
HEARTBEAT_S = 5.0
SILENCE_S = 15.0

#: Seconds between two looks into the home for endpoints and interchanges that are new; and as long
#: as somebody waits for one that is away, for so many seconds after that was said.
LOOK_S = 0.5
EAGER_LOOK_S = 0.1
EAGER_S = 60.0

#: Seconds until an interchange that has refused this forwarder is asked once more.
REFUSED_S = 30.0

#: Seconds until one that has said goodbye, and lives on all the same, is asked once more.
PARTED_S = 30.0

#: Seconds between two attempts to reach one on another host.
FAR_RETRY_S = 1.0

log = logging.getLogger(__name__)


class _Address(msgspec.Struct):
    """The part of an endpoint's `interchange.json` that a forwarder needs."""

    host: str
    pid: int
    started: float
    forwarder: str
    server_key: str = ""
    forwarders: str = ""  # for those on other hosts


class _Record(msgspec.Struct):
    """An endpoint's `endpoint.json`."""

    endpoint: str
    name: str
    walltime_s: float = 0.0
    limits: SizeLimits = SizeLimits()


class _Remote:
    def __init__(self, key: bytes, name: str, directory: Path) -> None:
        self.key = key
        self.name = name
        self.directory = directory
        self.walltime_s = 0.0
        self.limits = SizeLimits()
        self.deleted = False
        self.told: ev.EndpointTold | None = None  # what was said of it last
        self.trouble = ""  # why the last link to it ended, or none could be made
        self.retry_at = 0.0
        self.wanted_until = 0.0
        self.left = 0.0  # wall clock: when it said goodbye; 0: it has not, since it was there
        self.parted: _Address | None = None  # the one that said goodbye
        self.parted_until = 0.0  # it is not asked again before
        self.opener: Opener[msg.FromInterchange] | None = None
        self.address: _Address | None = None
        self.opened = 0.0
        self.heard = 0.0
        self.said = 0.0
        self.attempts = 0  # to reach it on another host: each at another of its addresses


class RemoteInterchanges:
    """Links to the interchanges of all named endpoints of a home.

    Args:
        directory: the home's `endpoints`.
        names: a pattern that the endpoints' directories match; without it, they are the home's,
            which people start and stop by commands.
    """

    def __init__(self, directory: Path, names: str = "*") -> None:
        self._commands = names == "*"
        self._directory = directory
        self._pattern = f"{names}/endpoint.json"
        self._remotes: dict[bytes, _Remote] = {}
        self._next_look = 0.0
        self._next_eager = 0.0
        self._unreadable = ""  # why the directory could not be read, if so

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
                remote.trouble = ""
                if isinstance(message, msg.Bye | msg.Refuse):
                    log.info("endpoint %s: %s", remote.name, message.reason)
                    remote.retry_at = remote.heard + EAGER_LOOK_S  # it is about to end
                    if isinstance(message, msg.Bye):
                        remote.left = time.time()
                        remote.parted = remote.address
                        remote.parted_until = remote.heard + PARTED_S
                    else:
                        remote.trouble = f"it refuses this home's forwarder: {message.reason}"
                        remote.retry_at = remote.heard + REFUSED_S
                    nothing_runs = isinstance(message, msg.Bye) and message.nothing_runs
                    yield from self._lose(remote, nothing_runs)
                    break
                yield ev.InterchangeSaid(remote.key, message)
            # One that has ended is lost at the next tick, when its process is gone too.
            if remote.opener is not None and remote.opener.broken and not remote.opener.ended:
                yield ev.InterchangeUp(remote.key)

    def look(self, *, again: bool = False) -> Iterator[ev.Event]:
        """Look for endpoints that are new in the home, and for those that are gone.

        Args:
            again: tell of all that are there, since what was told before may still be on its way.
        """
        seen: set[bytes] = set()
        try:
            paths = sorted(self._directory.glob(self._pattern))
        except OSError as error:
            # No descriptor is left, or a file server is away: what is known stays as it is.
            self._tell_unreadable(error)
            return
        self._unreadable = ""
        for path in paths:
            record = read_struct(path, _Record)
            if record is None:  # it cannot be read just now, which does not mean that it is gone
                seen.update(r.key for r in self._remotes.values() if r.directory == path.parent)
            try:
                key = endpoint_key(record.endpoint) if record is not None else b""
            except ValueError:
                continue
            if record is None:
                continue
            seen.add(key)
            remote = self._remotes.get(key)
            if remote is None:
                remote = self._remotes[key] = _Remote(key, record.name, path.parent)
                yield ev.EndpointKnown(record.endpoint, record.name)
            elif again:
                yield ev.EndpointKnown(record.endpoint, record.name)
            remote.directory, remote.walltime_s = path.parent, record.walltime_s
            remote.limits = record.limits
        for key, remote in self._remotes.items():
            remote.deleted = key not in seen

    def _tell_unreadable(self, error: OSError) -> None:
        why = error.strerror or str(error)
        if error.errno in (errno.EMFILE, errno.ENFILE):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            why += f": the limit is {soft}; raise it with `ulimit -n` (up to {hard})"
        if why != self._unreadable:
            self._unreadable = why
            log.error("the endpoints in %s cannot be looked at: %s", self._directory, why)

    def want(self, endpoint: str) -> Iterator[ev.Event]:
        """Somebody waits for this endpoint: connect to it now, or as soon as it is there."""
        try:
            remote = self._remotes.get(endpoint_key(endpoint))
        except ValueError:
            return
        if remote is None or remote.opener is not None:
            return
        now = time.monotonic()
        is_first = now >= remote.wanted_until
        remote.wanted_until = now + EAGER_S
        if is_first:
            yield from self._look_after(remote, now)

    def next_eager_look(self) -> float:
        """When `eager_look` is to be called, monotonic; infinite if nobody waits."""
        now = time.monotonic()
        for remote in self._remotes.values():
            if remote.opener is None and now < remote.wanted_until:
                return self._next_eager
        return float("inf")

    def eager_look(self) -> Iterator[ev.Event]:
        """Look for interchanges that somebody waits for."""
        now = time.monotonic()
        if now < self._next_eager:
            return
        self._next_eager = now + EAGER_LOOK_S
        for remote in self._remotes.values():
            if remote.opener is None and now < remote.wanted_until:
                yield from self._look_after(remote, now)

    def tick(self) -> Iterator[ev.Event]:
        """Time has passed: find, connect, send heartbeats, give up."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            yield from self.look()
        for remote in list(self._remotes.values()):
            if remote.opener is None:
                yield from self._look_after(remote, now)
                continue
            yield from self._tell(remote, self._spoken(remote), 0.0)
            assert remote.address is not None
            if now - remote.heard > SILENCE_S:
                remote.trouble = f"its process {remote.address.pid} is alive, and does not answer"
                yield from self._lose(remote)
            elif remote.opener.ended or not _may_live(remote.address):
                yield from self._lose(remote)
            elif now - remote.said > HEARTBEAT_S:
                self.tell(remote.key, msg.Heartbeat())

    def close(self) -> None:
        """The forwarder ends."""
        for remote in self._remotes.values():
            if remote.opener is not None:
                remote.opener.send(msg.Bye("the forwarder ends"))
                remote.opener.close()

    def _look_after(self, remote: _Remote, now: float) -> Iterator[ev.Event]:
        """Connect to an interchange that is away, or tell why it is."""
        if now >= remote.retry_at:
            yield from self._connect(remote)
        # It may have been started since the last look, and says only then how long its blocks last.
        record = read_struct(remote.directory / "endpoint.json", _Record)
        if record is not None and record.endpoint == str(uuid.UUID(bytes=remote.key)):
            remote.walltime_s, remote.limits = record.walltime_s, record.limits
        if remote.opener is not None or remote.trouble:
            yield from self._tell(remote, self._spoken(remote), 0.0)
            return
        if not (remote.directory / "endpoint.json").exists():
            yield from self.look()  # it was deleted a moment ago, or has another name
        why, seen = why_away(
            remote.directory, remote.name, commands=self._commands, left=remote.left
        )
        yield from self._tell(remote, why, seen)

    @staticmethod
    def _spoken(remote: _Remote) -> str:
        """Why an interchange that is there has not greeted yet."""
        if remote.trouble:
            return f"endpoint {remote.name} cannot be spoken to: {remote.trouble}"
        far = remote.address
        if far is not None and far.host != platform.node() and remote.heard == remote.opened:
            return (
                f"endpoint {remote.name} runs on host {far.host} (pid {far.pid}), which has not "
                f"answered yet: this home is served on {platform.node()}"
            )
        return f"endpoint {remote.name} is coming up"

    def _tell(self, remote: _Remote, why: str, seen: float) -> Iterator[ev.Event]:
        """Tell what is known of an endpoint, if it is something else than the last time."""
        if remote.deleted and why:
            why = f"endpoint {remote.name} was deleted"
            if self._commands:
                why += (
                    f"; cancel its tasks with: fxhpc task cancel --endpoint "
                    f"{uuid.UUID(bytes=remote.key)}, and submit them to another"
                )
        told = ev.EndpointTold(
            remote.key, why, seen, remote.walltime_s, remote.deleted, remote.limits
        )
        if told != remote.told:
            remote.told = told
            yield told

    def _connect(self, remote: _Remote) -> Iterator[ev.Event]:
        address = read_struct(remote.directory / "interchange.json", _Address)
        if address is None or not _may_live(address):
            remote.trouble = ""
            return
        if address == remote.parted and time.monotonic() < remote.parted_until:
            return  # it is about to end, and another will come
        try:
            socket = self._dial(remote, address)
        except (FxhpcError, ValueError, OSError) as error:
            if not remote.trouble:
                log.warning("endpoint %s cannot be reached: %s", remote.name, error)
            remote.trouble = str(error)
            return
        remote.address, remote.left = address, 0.0
        remote.opener = Opener(socket, codec.FROM_INTERCHANGE)
        remote.heard = remote.said = remote.opened = time.monotonic()
        yield ev.InterchangeUp(remote.key)

    def _dial(self, remote: _Remote, address: _Address) -> MessageSocket:
        if address.host == platform.node():
            return unix_sockets.dealer(address.forwarder)
        from fxhpc.transport.curve import CurveClient  # here: few need it
        from fxhpc.transport.keys import load_keys
        from fxhpc.transport.tcp_dealer import TcpDealer

        keys = load_keys(self._directory.parent / "forwarder.key", "forwarder")
        offered = address.forwarders.split()
        remote.attempts += 1
        remote.retry_at = time.monotonic() + FAR_RETRY_S
        return TcpDealer(
            offered[remote.attempts % len(offered)], CurveClient(keys, address.server_key.encode())
        )

    def _lose(self, remote: _Remote, nothing_runs: bool = False) -> Iterator[ev.Event]:
        assert remote.opener is not None
        remote.opener.close()
        remote.opener = None
        yield ev.InterchangeGone(remote.key, nothing_runs)
        remote.told = None
        yield from self._look_after(remote, time.monotonic())


def _may_live(address: _Address) -> bool:
    """Whether an interchange may be there: on another host its port tells."""
    if address.host != platform.node():
        return bool(address.forwarders)
    return is_alive(address.pid, address.started)
