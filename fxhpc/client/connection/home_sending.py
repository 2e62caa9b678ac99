"""Sending to a home's forwarder: at once by who makes a call, else by the connection's thread."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from fxhpc.client.connection.connection import Connection
from fxhpc.protocol import service
from fxhpc.protocol.codec import TO_CLIENT
from fxhpc.protocol.link import Link
from fxhpc.transport import parts
from fxhpc.transport.sockets import MessageSocket
from fxhpc.transport.waker import Waker

_ACKNOWLEDGE_S = 0.01  # that pushes may wait for company before they are acknowledged
_ACKNOWLEDGE_AT = 8  # pushes that are acknowledged without waiting


class Sending(Connection):
    """The part of `HomeConnection` that sends, in order, what is said to the forwarder.

    Its thread opens the link, `_socket` and `_link`, and calls `_flush` in each of its turns.
    """

    def __init__(self) -> None:
        super().__init__()
        self._outbox: deque[Any] = deque()
        self._waker = Waker()
        self._socket: MessageSocket | None = None
        self._link = Link(0)
        self._greeted = False  # Attached has come in this session
        self._unsent: list[bytes] | None = None  # stamped, and the socket was full
        self._delivered: list[int] = []  # pushes that are not acknowledged
        self._acknowledge_at = 0.0
        self._disturbed = False  # a call was interrupted while it was sent
        self._stopping = False
        self._said = 0.0  # when something was sent

    # --- any thread -----------------------------------------------------------------------------

    def _transmit(self, message: Any) -> None:
        # Most often it can be sent at once, which spares waking the connection's thread for it.
        try:
            if self._greeted and self._unsent is None and not self._outbox and not self._stopping:
                if self._delivered:
                    self._send_delivered()
                if self._unsent is None:
                    self._send(message)
                    return
            self._outbox.append(message)
            self._waker.wake()
        except BaseException:
            # Ctrl-C, or what else a signal's handler raises: nobody knows what of it was sent.
            self._disturbed = True
            self._waker.wake()
            raise

    def _transmit_later(self, message: Any) -> None:
        self._outbox.append(message)
        self._waker.wake()

    def _send(self, message: Any) -> None:
        """Send, or keep it for when the socket takes it. The lock is held."""
        assert self._socket is not None
        frames = TO_CLIENT.encode(self._link.stamp(message))
        if self._put(frames):
            self._said = time.monotonic()
        else:
            self._unsent = frames  # it has its number, so it goes before all others
            self._waker.wake()

    def _put(self, frames: list[bytes]) -> bool:
        """Give a message to the socket: over a network, in parts if it is large."""
        assert self._socket is not None
        if not self._socket.crosses_hosts or not parts.is_large(frames):
            return self._socket.send_message(frames)
        # They wait in a queue that takes more of them than any message has.
        return all(self._socket.send_message(part) for part in parts.split(frames))

    def _send_delivered(self) -> None:
        """Acknowledge pushes: before what else is sent, it costs no wake-up of its own."""
        delivered, self._delivered = self._delivered, []
        self._send(service.Delivered(delivered))

    # --- the connection's thread ----------------------------------------------------------------

    def _flush(self) -> bool:
        """Send what waits; False if the socket takes no more for now."""
        with self._lock:
            if self._unsent is not None and self._socket is not None:
                if not self._put(self._unsent):
                    return False
                self._unsent = None
            while self._greeted and self._unsent is None:
                if self._delivered and self._should_acknowledge():
                    self._send_delivered()
                elif self._outbox:
                    self._send(self._outbox.popleft())
                else:
                    break
            return self._unsent is None

    def _acknowledge(self, push: int) -> None:
        with self._lock:
            if not self._delivered:
                self._acknowledge_at = time.monotonic() + _ACKNOWLEDGE_S
            self._delivered.append(push)

    def _should_acknowledge(self) -> bool:
        return (
            bool(self._outbox)
            or len(self._delivered) >= _ACKNOWLEDGE_AT
            or time.monotonic() >= self._acknowledge_at
        )
