"""A manager's connection to an interchange on another host: a ZeroMQ socket and its monitor."""

from __future__ import annotations

import zmq

from fxhpc.manager.connecting import LINGER_MS, Connection
from fxhpc.manager.finding import Way
from fxhpc.transport import tcp_sockets
from fxhpc.transport.monitor import Monitor


class TcpConnection(Connection):
    """Between hosts."""

    _monitor: Monitor

    def __init__(self, way: Way) -> None:
        self._context = tcp_sockets.make_context()
        try:
            self.socket = self._socket = tcp_sockets.dealer(
                self._context,
                way.address,
                curve=way.curve,
                before_connecting=self._monitor_it,
            )
        except zmq.ZMQError as error:
            self._context.term()
            raise OSError(error.errno, error.strerror) from error
        self.descriptors = [self.socket.descriptor, int(self._monitor.socket.getsockopt(zmq.FD))]

    def _monitor_it(self, socket: tcp_sockets.TcpSocket) -> None:
        self._monitor = Monitor(socket)

    def is_readable(self) -> bool:
        """Whether a message waits, or word of the connection."""
        events = int(self._monitor.socket.getsockopt(zmq.EVENTS))
        return self.socket.is_readable() or bool(events & zmq.POLLIN)

    def has_ended(self) -> bool:
        """Whether the connection was lost, or could not be made."""
        return self._monitor.look().ended > 0

    def close(self, *, lost: bool) -> None:
        """Close it, and all that ZeroMQ has for it."""
        self._monitor.close()
        self._socket.close(linger=0 if lost else LINGER_MS)
        self._context.term()
