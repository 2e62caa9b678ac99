"""What every socket of the house does, over tcp (`tcp_sockets`) and on one host (`unix_sockets`).

A message is a list of frames. Nothing here waits: a socket whose descriptor is readable is asked
for its messages until it has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

#: Messages that wait on one connection in one direction. Credit keeps all links far below it:
#: it bounds the memory that a peer can take which does not keep to the protocol.
HIGH_WATER_MARK = 10_000

#: The largest frame that is accepted, in bytes: a connection that announces more is closed.
MAX_FRAME = 1 << 30

#: What a socket between hosts says of a connection that was refused by the other end's allow-list.
NOT_ADMITTED = "its key is not admitted"


class MessageSocket(Protocol):
    """One end of a link, or all of an acceptor's.

    Attributes:
        crosses_hosts: whether its peers may be on other hosts, behind slow networks.
        address: what it is bound or connected to.
    """

    @property
    def crosses_hosts(self) -> bool: ...

    @property
    def address(self) -> str: ...

    @property
    def descriptor(self) -> int:
        """To be polled for reading, but only if `is_readable` says False."""

    @property
    def ended(self) -> bool:
        """Whether its one peer has closed the connection, and it will not be made again."""

    def is_readable(self) -> bool:
        """Whether a message waits here that the descriptor may not tell of."""

    def send_message(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Send; an acceptor's first frame is the peer's name.

        Returns False if it was not sent: the peer is gone, or takes nothing for now.
        """

    def receive_message(self) -> list[bytes] | None:
        """The next message's frames, or None if none has come; an acceptor's peer's name first.

        What has come since those before were read, the descriptor tells.
        """

    def close(self, linger: int | None = None) -> None:
        """Close it; what was sent already may take so many milliseconds to go out."""
