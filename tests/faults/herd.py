"""Very many managers in one process: real sockets with CURVE, and nothing behind them."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable

import zmq

from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.manager.shell import RECONNECT_FIRST_S, RECONNECT_LAST_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol.codec import TO_MANAGER
from fxhpc.transport import tcp_sockets
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.opener import Opener
from fxhpc.transport.sockets import MessageSocket
from fxhpc.version import __version__

_BEAT_S = 5.0


class Member:
    """One manager. It finds its interchange as real ones do, at the same intervals."""

    def __init__(self, herd: Herd, number: int) -> None:
        self.herd = herd
        self.name = f"herd-{number}"
        self.opener: Opener[msg.ToManager] | None = None
        self.welcome = False
        self.heard = 0.0
        self.beaten = 0.0
        self.retry_at = 0.0
        self.retry_s = RECONNECT_FIRST_S

    def lost(self, now: float) -> None:
        """Its connection was closed, or could not be made."""
        if self.opener is not None:
            self.herd.poller.unregister(self.opener.socket)
            del self.herd.by_socket[self.opener.socket]
            self.opener.socket.close(0)
            self.opener = None
        self.welcome = False
        self.retry_at = now + self.retry_s * random.uniform(0.5, 1.0)
        self.retry_s = min(2 * self.retry_s, RECONNECT_LAST_S)

    def look(self, now: float) -> None:
        """What it does as time passes."""
        if self.opener is None:
            if now >= self.retry_at:
                self._connect(now)
        elif now - self.heard > 15.0:
            self.lost(now)
        elif self.welcome and now - self.beaten > _BEAT_S:
            self.beaten = now
            self.opener.send(msg.Heartbeat())

    def _connect(self, now: float) -> None:
        address, key = self.herd.directory.managers_address.read_text().split()[:2]
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            self.lost(now)
            return
        curve = CurveClient(self.herd.keys, key.encode())
        socket_ = tcp_sockets.dealer(self.herd.context, address, curve=curve)
        self.opener = Opener(socket_, TO_MANAGER)
        self.herd.poller.register(socket_, zmq.POLLIN)
        self.herd.by_socket[socket_] = self
        self.heard = self.beaten = now
        self.opener.greet(msg.Register(self.name, b"", 64, __version__, host=self.name))

    def read(self, now: float) -> None:
        """Something has come."""
        assert self.opener is not None
        self.heard = now
        for message in self.opener.receive():
            if isinstance(message, msg.Welcome):
                self.welcome = True
                self.retry_s = RECONNECT_FIRST_S
                self.opener.send(msg.Capacity(64, 1 << 20, 64))
        if self.opener.broken:
            self.lost(now)


class Herd:
    """So many of them."""

    def __init__(self, directory: EndpointDirectory, count: int) -> None:
        self.directory = directory
        self.keys = directory.keys("manager")
        self.context = tcp_sockets.make_context()
        self.poller = zmq.Poller()
        self.by_socket: dict[MessageSocket, Member] = {}
        self.members = [Member(self, number) for number in range(count)]

    @property
    def welcomed(self) -> int:
        """How many are registered."""
        return sum(member.welcome for member in self.members)

    def connection_lost(self) -> None:
        """The interchange's host has closed all connections."""
        now = time.monotonic()
        for member in self.members:
            member.lost(now)

    def run(self, until: Callable[[], bool], within_s: float = 60.0) -> float:
        """Go on until something holds: how long that took."""
        begin = time.monotonic()
        while not until():
            now = time.monotonic()
            assert now - begin < within_s, f"{self.welcomed} of {len(self.members)} are there"
            for ready, _ in self.poller.poll(10):
                self.by_socket[ready].read(now)
            for member in self.members:
                member.look(now)
        return time.monotonic() - begin

    def close(self) -> None:
        """Close all sockets."""
        for ready in list(self.by_socket):
            ready.close(0)
        self.context.term()
