"""A tcp port with its allow-list: who is let in, since when, and who has left."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Mapping, Sequence

import zmq

from fxhpc.transport import tcp_sockets
from fxhpc.transport.authenticator import Authenticator
from fxhpc.transport.curve import CurveServer
from fxhpc.transport.keys import KeyPair
from fxhpc.transport.monitor import Monitor

_REBIND_S, _LOOK_S = 2.0, 0.01


class TcpDoor:
    """A bound socket of a context of its own: see `MessageSocket`.

    Args:
        bind: `tcp://HOST:PORT`; `*` as port takes any free one.
        keys: its own.
        domain: the name of its allow-list.
        admitted: public keys (Z85) and names of those who may connect.

    Attributes:
        on_admitted: told the name of whoever connects.

    Attributes:
        sender: the name of whoever sent the message that was received last.

    Raises:
        zmq.ZMQError: the address cannot be bound.
    """

    crosses_hosts = True
    ended = False

    def __init__(
        self, bind: str, keys: KeyPair, domain: str, admitted: Mapping[bytes, str]
    ) -> None:
        self.sender = ""
        self._context = tcp_sockets.make_context()
        self._authenticator = Authenticator(self._context)
        self._curve = CurveServer(keys, domain)
        self._admitted = dict(admitted)
        self._authenticator.allow(domain, self._admitted)
        try:
            self._open(bind)
        except BaseException:
            self._authenticator.close()
            self._context.term()
            raise

    def _open(self, bind: str) -> None:
        self._socket = tcp_sockets.router(self._context, bind, curve=self._curve)
        self._monitor = Monitor(self._socket)
        self._selector = selectors.DefaultSelector()
        for one in (self._socket, self._authenticator.socket, self._monitor.socket):
            self._selector.register(int(one.getsockopt(zmq.FD)), selectors.EVENT_READ)

    @property
    def on_admitted(self) -> Callable[[str], None]:
        """Told the name of whoever connects."""
        return self._authenticator.on_admitted

    @on_admitted.setter
    def on_admitted(self, told: Callable[[str], None]) -> None:
        self._authenticator.on_admitted = told

    @property
    def address(self) -> str:
        """What it is bound to, with the port that it got."""
        return self._socket.address

    @property
    def refused(self) -> int:
        """Connections that were not let in."""
        return self._authenticator.refused

    @property
    def descriptor(self) -> int:
        """To be polled for reading, but only if `is_readable` says False."""
        return int(self._selector.fileno())

    def is_readable(self) -> bool:
        """Whether something waits: a message, a stranger at the door, word of a connection."""
        return any(
            int(one.getsockopt(zmq.EVENTS)) & zmq.POLLIN
            for one in (self._socket, self._authenticator.socket, self._monitor.socket)
        )

    def look(self) -> None:
        """To be called now and then: see whether newcomers can be let in again."""
        self._monitor.look()

    def send_message(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Send to the peer that the first frame names; False if it is gone, or takes nothing."""
        return self._socket.send_message(frames)

    def receive_message(self) -> list[bytes] | None:
        """The next message: the peer's name, then its frames; None if none has come."""
        if (message := self._receive()) is not None:
            return message
        self._authenticator.handle()
        self._monitor.look()
        return self._receive()

    def _receive(self) -> list[bytes] | None:
        if not self._socket.is_readable():
            return None
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        self.sender = str(frames[-1].get("User-Id"))
        return [frame.bytes for frame in frames]

    def admit(self, admitted: Mapping[bytes, str]) -> bool:
        """Let these in, and nobody else. Whether that has ended all connections.

        ZeroMQ ends no single one: if somebody is not to stay, all end, and come back by themselves.

        Raises:
            zmq.ZMQError: another process took the port meanwhile.
        """
        before, self._admitted = self._admitted, dict(admitted)
        self._authenticator.allow(self._curve.domain, self._admitted)
        if self._admitted.keys() >= before.keys():
            return False
        address = self.address
        self._shut(0)
        deadline = time.monotonic() + _REBIND_S
        while True:
            try:
                self._open(address)
                return True
            except zmq.ZMQError:  # the thread that holds the port has not let go yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_S)

    def _shut(self, linger: int) -> None:
        self._selector.close()
        self._monitor.close()
        self._socket.close(linger=linger)

    def close(self, linger: int | None = None) -> None:
        """Close it; what was sent already may take so many milliseconds to go out."""
        if self._socket.closed:
            return
        self._shut(linger or 0)
        self._authenticator.close()
        self._context.term()
