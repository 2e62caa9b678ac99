"""The link to the home's forwarder: which one is spoken with, and since when it is silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.versions import PROTOCOL, common_protocol
from fxhpc.transport.acceptor import Acceptor
from fxhpc.version import __version__

#: Seconds without a word of the forwarder until it counts as away.
SILENCE_S = 15.0


class ForwarderLink:
    """The one forwarder that is spoken with: of those that greet, the last one of this home.

    Args:
        acceptor: where they connect.
        far: likewise, from other hosts.
        clock: the time; None: `time.monotonic`.

    Attributes:
        epoch: of the last one that was let in.
    """

    def __init__(
        self,
        acceptor: Acceptor[msg.ToInterchange],
        clock: Callable[[], float] | None = None,
        far: Acceptor[msg.ToInterchange] | None = None,
    ) -> None:
        self._acceptor = acceptor  # of the one that is spoken with
        self._acceptors = [acceptor] if far is None else [acceptor, far]
        self._clock = clock if clock is not None else lambda: time.monotonic()
        self._peer: bytes | None = None
        self.epoch = 0
        self._heard = 0.0

    @property
    def sockets(self) -> list[Any]:
        """What to poll for reading."""
        return [acceptor.socket for acceptor in self._acceptors]

    @property
    def undecodable(self) -> int:
        """Messages that nobody could read, since the start."""
        return sum(acceptor.undecodable for acceptor in self._acceptors)

    def receive(self) -> Iterator[ev.ForwarderSaid | ev.ForwarderGone]:
        """What it has said, and whether it has gone."""
        for acceptor in self._acceptors:
            yield from self._receive(acceptor)

    def _receive(
        self, acceptor: Acceptor[msg.ToInterchange]
    ) -> Iterator[ev.ForwarderSaid | ev.ForwarderGone]:
        for peer, message in acceptor.receive():
            if isinstance(message, msg.Hello):
                if refusal := self._refusal(message):
                    acceptor.send(peer, msg.Refuse(refusal))
                    continue
                if self._peer is not None and self._peer != peer:
                    self._acceptor.forget(self._peer)
                self._acceptor = acceptor
                self._peer, self.epoch = peer, message.epoch
            elif peer != self._peer:
                acceptor.send(peer, msg.Reset())
                acceptor.forget(peer)
                continue
            self._heard = self._clock()
            if isinstance(message, msg.Heartbeat):
                self._acceptor.send(peer, msg.Heartbeat())
            elif isinstance(message, msg.Bye):
                self._forget()
                yield ev.ForwarderGone()
            else:
                yield ev.ForwarderSaid(message)

    def send(self, message: msg.FromInterchange) -> bool:
        """Say something; False if that was the end of the link."""
        if self._peer is None:
            return True  # whoever comes is told all anew
        if self._acceptor.send(self._peer, message):
            return True
        self._forget()
        return False

    def is_lost(self) -> bool:
        """Whether it has just been given up, since it is silent."""
        if self._peer is None or self._clock() - self._heard <= SILENCE_S:
            return False
        self._forget()
        return True

    def close(self, bye: msg.Bye) -> None:
        """Take leave of it."""
        if self._peer is not None:
            self._acceptor.send(self._peer, bye)
        for acceptor in self._acceptors:
            acceptor.close()

    def _refusal(self, hello: msg.Hello) -> str:
        """Why a forwarder cannot be spoken with; empty: it can."""
        if hello.epoch < self.epoch:
            return (
                f"a forwarder of epoch {self.epoch} was here; this one, of epoch "
                f"{hello.epoch}, does not own the home's store any more"
            )
        if common_protocol(hello.protocol, hello.oldest_protocol) is None:
            return (
                f"the forwarder is fxhpc {hello.version} (protocol {hello.protocol}), "
                f"this interchange is fxhpc {__version__} (protocol {PROTOCOL}): restart the older "
                f"one, by fxhpc forwarder restart or fxhpc endpoint restart"
            )
        return ""

    def _forget(self) -> None:
        if self._peer is not None:
            self._acceptor.forget(self._peer)
            self._peer = None
