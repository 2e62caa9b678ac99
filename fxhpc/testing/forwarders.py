"""Who greets a named endpoint's interchange: the home's forwarder, and one that was it before.

Which of them is spoken with is decided by the real `ForwarderLink`; here are only the connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fxhpc.interchange import events as ev
from fxhpc.interchange.forwarder_link import ForwarderLink
from fxhpc.protocol import codec
from fxhpc.protocol import messages as msg
from fxhpc.testing.link import LossyLink
from fxhpc.version import __version__

NamedLink = LossyLink[msg.ToInterchange, msg.FromInterchange]

_OLD_OWNER = b"old owner"


class Forwarders:
    """The interchange's side of its connections to forwarders.

    Args:
        new_session: chooses a number that was never used before.
        clock: the interchange's.

    Attributes:
        current: the connection of the home's forwarder.
        link: what the interchange knows of it.
    """

    def __init__(self, new_session: Callable[[], int], clock: Callable[[], float]) -> None:
        self._new_session = new_session
        self._peer = b""
        self._links: dict[bytes, NamedLink] = {}
        self._came: list[tuple[bytes, Any]] = []
        self.current = self.connect()
        self.restart(clock)

    def restart(self, clock: Callable[[], float]) -> None:
        """Another interchange in the place of one that was killed: it knows nobody."""
        self._links = {self._peer: self.current}
        self.current.forget()
        self.current.up.clear()
        acceptor: Any = self
        self.link = ForwarderLink(acceptor, clock)

    def connect(self) -> NamedLink:
        """A new connection; the one of before is closed."""
        self._links.pop(self._peer, None)
        self._peer = b"forwarder-%d" % self._new_session()
        self.current = self._new_link()
        self._links[self._peer] = self.current
        return self.current

    def hear(self) -> list[ev.ForwarderSaid | ev.ForwarderGone]:
        """Let the next message of the home's forwarder arrive: what the core is told of it."""
        return self._hear(self._peer)

    def hear_old_owner(
        self, epoch: int, messages: list[msg.ToInterchange]
    ) -> list[ev.ForwarderSaid | ev.ForwarderGone]:
        """A forwarder of an earlier epoch greets, and says this: what the core is told of it."""
        link = self._links[_OLD_OWNER] = self._new_link()
        link.greet(msg.Hello(epoch, __version__))
        for message in messages:
            link.say(message)
        events = []
        while link.up:
            events += self._hear(_OLD_OWNER)
        return events

    def _hear(self, peer: bytes) -> list[ev.ForwarderSaid | ev.ForwarderGone]:
        message = self._links[peer].deliver_up()
        if message is None:
            return []
        self._came = [(peer, message)]
        return list(self.link.receive())

    def _new_link(self) -> NamedLink:
        return LossyLink(codec.TO_INTERCHANGE, codec.FROM_INTERCHANGE, msg.Hello, self._new_session)

    # --- what a ForwarderLink wants of an acceptor ----------------------------------------------

    def receive(self) -> list[tuple[bytes, Any]]:
        """What has come in."""
        came, self._came = self._came, []
        return came

    def send(self, peer: bytes, message: Any) -> bool:
        """Send to a forwarder. False if it is gone."""
        link = self._links.get(peer)
        return link is not None and link.answer(message)

    def forget(self, peer: bytes) -> None:
        """Should it speak again, it has to greet again."""
        if link := self._links.get(peer):
            link.forget()
