"""The opening side of a link: stamps what it says, checks what it hears."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from fxhpc.protocol.codec import Codec, DecodeError
from fxhpc.protocol.link import Link, Verdict
from fxhpc.protocol.messages import Heartbeat, Reset
from fxhpc.transport import parts
from fxhpc.transport.sockets import MessageSocket

M = TypeVar("M")

_AT_ONCE = 256


class Opener(Generic[M]):
    """Keeps one link on a socket. `broken` says that the caller has to greet again."""

    def __init__(self, socket: MessageSocket, codec: Codec[M]) -> None:
        self.socket = socket
        self.broken = False
        self.undecodable = 0
        self._codec = codec
        self._link = Link(0)
        self._assembly = parts.Assembly() if socket.crosses_hosts else None

    @property
    def ended(self) -> bool:
        """Whether the other end has closed the connection, for good."""
        return self.socket.ended

    def greet(self, message: Any) -> bool:
        """Open the link, again if need be, under a new session."""
        self._link = Link(random.getrandbits(63))
        self.broken = False
        return self.send(message)

    def send(self, message: Any) -> bool:
        """Send a message; False breaks the link."""
        frames = self._codec.encode(self._link.stamp(message))
        if self._assembly is not None and parts.is_large(frames):
            sent = all(self.socket.send_message(part) for part in parts.split(frames))
        else:
            sent = self.socket.send_message(frames)
        self.broken = self.broken or not sent
        return sent

    def receive(self) -> Iterator[M]:
        """What has come in, in order; stops when the link is found broken.

        A heartbeat stands for parts of a message that is not whole yet.
        """
        told = False
        for _ in range(_AT_ONCE):
            frames = self.socket.receive_message()
            if frames is None:
                return
            if self._assembly is not None:
                if not parts.is_part(frames):
                    self._assembly.clear()
                elif (whole := self._assembly.add(frames)) is not None:
                    frames = whole
                else:
                    if not told:
                        told = True
                        yield Heartbeat()  # type: ignore[misc]  # both directions over tcp know it
                    continue
            try:
                envelope = self._codec.decode(frames)
            except DecodeError:
                self.undecodable += 1
                continue
            if envelope.session != self._link.session:
                continue
            if isinstance(envelope.message, Reset):
                self.broken = True
                return
            verdict = self._link.check(envelope)
            if verdict is Verdict.DELIVER:
                yield envelope.message
            elif verdict is Verdict.BROKEN:
                self.broken = True
                return

    def close(self) -> None:
        """Close the socket; what was sent already still goes out."""
        self.socket.close(linger=200)
