"""One connection to another host: whoever keeps it is told at once that it has ended, and why."""

from __future__ import annotations

import selectors
from collections.abc import Sequence

import zmq

from fxhpc.transport import tcp_sockets
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.monitor import Monitor


class TcpDealer:
    """A ZeroMQ socket of a context of its own, and its monitor: see `MessageSocket`.

    It ends with its first connection: whoever needs another learns the address anew.

    Args:
        address: `tcp://HOST:PORT`.
        curve: the keys.

    Attributes:
        refused: why the other end did not admit it, if that is how it ended.

    Raises:
        OSError: there is no such address.
    """

    crosses_hosts = True

    def __init__(self, address: str, curve: CurveClient) -> None:
        self.address = address
        self.refused = ""
        self._ended = False
        self._closed = False
        self._context = tcp_sockets.make_context()
        try:
            self._socket = tcp_sockets.dealer(
                self._context, address, curve=curve, before_connecting=self._watch
            )
        except zmq.ZMQError as error:
            if monitor := getattr(self, "_monitor", None):
                monitor.close()
            self._context.term()
            raise OSError(error.errno, error.strerror) from error
        self._selector = selectors.DefaultSelector()
        for descriptor in (self._socket.descriptor, int(self._monitor.socket.getsockopt(zmq.FD))):
            self._selector.register(descriptor, selectors.EVENT_READ)

    def _watch(self, socket: tcp_sockets.TcpSocket) -> None:
        self._monitor = Monitor(socket)

    @property
    def descriptor(self) -> int:
        """To be polled for reading, but only if `is_readable` says False."""
        return int(self._selector.fileno())

    @property
    def ended(self) -> bool:
        """Whether its connection has ended, or could not be made."""
        if not self._ended and not self._closed:
            seen = self._monitor.look()
            self._ended = seen.ended > 0
            if seen.refused:
                self.refused = seen.refused[-1]
        return self._ended

    def is_readable(self) -> bool:
        """Whether a message waits, or word of the connection."""
        events = int(self._monitor.socket.getsockopt(zmq.EVENTS))
        return self._socket.is_readable() or bool(events & zmq.POLLIN)

    def send_message(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Send a message without waiting; False if it was not sent."""
        return self._socket.send_message(frames)

    def receive_message(self) -> list[bytes] | None:
        """The next message's frames, or None if none has come."""
        return self._socket.receive_message()

    def close(self, linger: int | None = None) -> None:
        """Close it; what was sent already may take so many milliseconds to go out."""
        if self._closed:
            return
        self._closed = True
        self._selector.close()
        self._monitor.close()
        self._socket.close(linger=linger or 0)
        self._context.term()
