"""The accepting side of many links on one ROUTER socket: who is there, and what they say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import zmq

from fxhpc.protocol.codec import Codec, DecodeError
from fxhpc.protocol.link import Link, Verdict
from fxhpc.protocol.messages import Reset
from fxhpc.transport import sockets

M = TypeVar("M")

#: Messages that are read before the loop looks at anything else.
_AT_ONCE = 256

log = logging.getLogger(__name__)


def _ignore(peer: bytes, call: int, why: str) -> None:
    """Whoever speaks nonsense gets no answer."""


class Acceptor(Generic[M]):
    """Reads a ROUTER socket and keeps a link for each peer.

    Args:
        socket: the bound socket.
        codec: decodes what peers say.
        greeting: the type of the message that opens a link.

    Attributes:
        on_refused: told of calls of known peers that nobody can read: peer, number, why.
    """

    def __init__(self, socket: zmq.SyncSocket, codec: Codec[M], greeting: type) -> None:
        self.socket = socket
        self.on_refused: Callable[[bytes, int, str], None] = _ignore
        self.undecodable = 0  # messages that nobody could read, since the start
        self._codec = codec
        self._greeting = greeting
        self._links: dict[bytes, Link] = {}

    def receive(self) -> Iterator[tuple[bytes, M]]:
        """What has come in and is to be handled: peer and message, a bounded number at once."""
        for _ in range(_AT_ONCE):
            frames = sockets.receive(self.socket)
            if frames is None:
                return
            peer = frames[0]
            try:
                envelope = self._codec.decode(frames[1:])
            except DecodeError as error:
                self._refuse(peer, error)
                self._pass_over(peer, error)
                continue
            link = self._links.get(peer)
            if type(envelope.message) is self._greeting and envelope.number == 0:
                if link is None or link.session != envelope.session:
                    link = self._links[peer] = Link(envelope.session)
            elif link is None:
                self._reset(peer, envelope.session)
                continue
            assert link is not None
            verdict = link.check(envelope)
            if verdict is Verdict.DELIVER:
                yield peer, envelope.message
            elif verdict is Verdict.BROKEN or (
                verdict is Verdict.STALE and envelope.session != link.session
            ):
                self._reset(peer, envelope.session)

    def _pass_over(self, peer: bytes, error: DecodeError) -> None:
        """Its place on the link is taken all the same: what follows it must not seem to be late."""
        link = self._links.get(peer)
        if link is None or error.envelope is None:
            return
        if link.check(error.envelope) is Verdict.DELIVER and error.call is not None:
            self.on_refused(peer, error.call, str(error))

    def send(self, peer: bytes, message: Any) -> bool:
        """Send to a peer. False if it is gone or takes nothing more: its link is broken then."""
        link = self._links.get(peer)
        if link is None:
            return False
        frames = self._codec.encode(link.stamp(message))
        return sockets.send(self.socket, [peer, *frames])

    def peers(self) -> list[bytes]:
        """Everybody there is a link to."""
        return list(self._links)

    def forget(self, peer: bytes) -> None:
        """The peer is gone; should it speak again, it has to greet again."""
        self._links.pop(peer, None)

    def close(self) -> None:
        """Close the socket; what was sent already still goes out."""
        self._links.clear()
        self.socket.close(linger=200)

    def _reset(self, peer: bytes, session: int) -> None:
        frames = self._codec.encode(Link(session).stamp(Reset()))
        sockets.send(self.socket, [peer, *frames])

    def _refuse(self, peer: bytes, error: DecodeError) -> None:
        self.undecodable += 1
        if self.undecodable == 1:
            log.warning(
                "ignored what peer %s sent: %s (further ones are counted)", peer.hex(), error
            )
