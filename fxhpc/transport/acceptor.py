"""The accepting side of many links on one ROUTER socket: who is there, and what they say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from fxhpc.protocol.codec import Codec, DecodeError
from fxhpc.protocol.link import Link, Verdict
from fxhpc.protocol.messages import Heartbeat, Reset
from fxhpc.transport import parts
from fxhpc.transport.sockets import MessageSocket

M = TypeVar("M")

#: Messages that are read before the loop looks at anything else.
_AT_ONCE = 256

#: Peers without a link whose first message may come in parts at the same time.
_NEWCOMERS = 1_024

log = logging.getLogger(__name__)


def _ignore(peer: bytes, call: int, why: str) -> None:
    """Whoever speaks nonsense gets no answer."""


class Acceptor(Generic[M]):
    """Reads a bound socket and keeps a link for each peer.

    Args:
        socket: the bound socket.
        codec: decodes what peers say.
        greeting: the type of the message that opens a link.

    Attributes:
        on_refused: told of calls of known peers that nobody can read: peer, number, why.
    """

    def __init__(self, socket: MessageSocket, codec: Codec[M], greeting: type) -> None:
        self.socket = socket
        self.on_refused: Callable[[bytes, int, str], None] = _ignore
        self.undecodable = 0  # messages that nobody could read, since the start
        self._codec = codec
        self._greeting = greeting
        self._links: dict[bytes, Link] = {}
        self._in_parts = socket.crosses_hosts
        self._assemblies: dict[bytes, parts.Assembly] = {}  # of messages that are not whole yet

    def receive(self) -> Iterator[tuple[bytes, M]]:
        """What has come in and is to be handled: peer and message, a bounded number at once.

        A heartbeat stands for parts of a message that is not whole yet.
        """
        told: set[bytes] = set()
        for _ in range(_AT_ONCE):
            received = self.socket.receive_message()
            if received is None:
                return
            peer, *frames = received
            if self._in_parts and (self._assemblies or parts.is_part(frames)):
                whole = self._assemble(peer, frames)
                if whole is None:
                    if peer in self._links and peer not in told:
                        told.add(peer)
                        yield peer, Heartbeat()  # type: ignore[misc]  # known wherever there is tcp
                    continue
                frames = whole
            try:
                envelope = self._codec.decode(frames)
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

    def _assemble(self, peer: bytes, frames: list[bytes]) -> list[bytes] | None:
        """The frames of a whole message, or None if there is none yet."""
        if not parts.is_part(frames):
            self._assemblies.pop(peer, None)
            return frames
        assembly = self._assemblies.get(peer)
        if assembly is None:
            newcomers = [one for one in self._assemblies if one not in self._links]
            if peer not in self._links and len(newcomers) >= _NEWCOMERS:
                del self._assemblies[newcomers[0]]
            assembly = self._assemblies[peer] = parts.Assembly()
        whole = assembly.add(frames)
        if whole is not None:
            del self._assemblies[peer]
        return whole

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
        if self._in_parts and parts.is_large(frames):
            return all(self.socket.send_message([peer, *part]) for part in parts.split(frames))
        return self.socket.send_message([peer, *frames])

    def peers(self) -> list[bytes]:
        """Everybody there is a link to."""
        return list(self._links)

    def forget(self, peer: bytes) -> None:
        """The peer is gone; should it speak again, it has to greet again."""
        self._links.pop(peer, None)
        self._assemblies.pop(peer, None)

    def close(self) -> None:
        """Close the socket; what was sent already still goes out."""
        self._links.clear()
        self.socket.close(linger=200)

    def _reset(self, peer: bytes, session: int) -> None:
        frames = self._codec.encode(Link(session).stamp(Reset()))
        self.socket.send_message([peer, *frames])

    def _refuse(self, peer: bytes, error: DecodeError) -> None:
        self.undecodable += 1
        if self.undecodable == 1:
            log.warning(
                "ignored what peer %s sent: %s (further ones are counted)", peer.hex(), error
            )
