"""The allow-lists of a context's tcp sockets: which keys may connect to which of them.

ZeroMQ asks the one handler of a context about every connection to a socket with a domain (ZAP,
RFC 27). Without a handler, CURVE admits whoever makes himself a pair of keys. The handler here is a
socket in its owner's poll loop: no thread, no lock, and what it is told holds for the next
connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import zmq
from zmq.utils import z85

_ADDRESS = "inproc://zeromq.zap.01"
_VERSION = b"1.0"


class Authenticator:
    """Answers ZeroMQ's questions. To be made before any socket with a domain is bound.

    Poll `socket`, and call `handle` when it is readable.
    """

    def __init__(self, context: zmq.SyncContext) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ADDRESS)
        self.refused = 0  #: connections refused here; `monitor` counts every kind of refusal
        self.on_admitted: Callable[[str], None] = _ignore  #: told the name of whoever is let in
        self._domains: dict[str, dict[bytes, str]] = {}

    def allow(self, domain: str, keys: Mapping[bytes, str]) -> None:
        """Admit exactly these keys to a domain: public key (40 characters of Z85) to a name.

        Connections that exist already stay: whoever takes a key away ends them too.
        """
        self._domains[domain] = {z85.decode(key): name for key, name in keys.items()}

    def handle(self) -> None:
        """Answer all questions that wait."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._answer(frames)

    def close(self) -> None:
        """Admit nobody any more: while no handler answers, no connection is completed."""
        self.socket.close(0)

    def _answer(self, frames: list[bytes]) -> None:
        # Only libzmq itself can reach this socket; but what is odd is refused, never an error.
        try:
            separator = frames.index(b"")
        except ValueError:
            return
        route, request = frames[: separator + 1], frames[separator + 1 :]
        if len(request) < 6:
            return
        number, domain, mechanism = request[1], request[2], request[5]
        name = None
        if request[0] == _VERSION and mechanism == b"CURVE" and len(request) == 7:
            name = self._domains.get(domain.decode(errors="replace"), {}).get(request[6])
        if name is None:
            self.refused += 1
            answer = [_VERSION, number, b"400", b"this key is not admitted here", b"", b""]
        else:
            answer = [_VERSION, number, b"200", b"OK", name.encode(), b""]
            self.on_admitted(name)
        try:
            self.socket.send_multipart([*route, *answer], zmq.NOBLOCK)
        except zmq.ZMQError:
            pass  # the connection ended while it was asked about


def _ignore(name: str) -> None:
    """Nobody keeps a list of who came when."""
