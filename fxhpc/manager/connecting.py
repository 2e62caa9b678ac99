"""A manager's connection to its interchange: within a host, or between hosts with CURVE."""

from __future__ import annotations

import abc

from fxhpc.manager.finding import Way
from fxhpc.transport import unix_sockets
from fxhpc.transport.sockets import MessageSocket

#: That what was said last may take to go out.
LINGER_MS = 200


class Connection(abc.ABC):
    """One connection, as long as it lasts.

    Attributes:
        socket: what messages go through.
        descriptors: what to poll for reading.
    """

    socket: MessageSocket
    descriptors: list[int]

    @abc.abstractmethod
    def is_readable(self) -> bool:
        """Whether something waits that the descriptors may not tell of."""

    @abc.abstractmethod
    def has_ended(self) -> bool:
        """Whether the other end is gone, or was never there."""

    @abc.abstractmethod
    def close(self, *, lost: bool) -> None:
        """Close it; what was sent already still goes out.

        Args:
            lost: the peer is not there. What is still on the way to it stays unsaid: it could
                arrive after what the next connection says, and be taken for newer.
        """


class UnixConnection(Connection):
    """Within a host."""

    def __init__(self, way: Way) -> None:
        self.socket = self._socket = unix_sockets.dealer(way.address)
        self.descriptors = [self.socket.descriptor]

    def is_readable(self) -> bool:
        """Whether a message waits."""
        return self._socket.is_readable()

    def has_ended(self) -> bool:
        """Whether the other end is closed."""
        return self._socket.ended

    def close(self, *, lost: bool) -> None:
        """Close it."""
        self._socket.close(linger=0 if lost else LINGER_MS)


def connect(way: Way) -> Connection:
    """Connect to where a finder has found the interchange.

    Raises:
        FxhpcError, OSError, ValueError: it cannot be connected to.
    """
    if way.curve is None:
        return UnixConnection(way)
    # Here, since the managers of `local` do without ZeroMQ: its library, its threads, its memory.
    from fxhpc.manager.connecting_tcp import TcpConnection

    return TcpConnection(way)
