"""The connection to a forwarder that lives in a thread of this process."""

from __future__ import annotations

import os
import threading
from typing import Any, Protocol

from fxhpc import errors, interrupts
from fxhpc.client.connection.connection import Connection
from fxhpc.client.started import processes
from fxhpc.protocol import service
from fxhpc.protocol.messages import Bye


class Peer(Protocol):
    """This client, as an embedded forwarder knows it."""

    def send(self, message: Any) -> None:
        """Hand a message over, in order, without waiting."""


class Host(Protocol):
    """A forwarder in a thread: see `fxhpc.forwarder.embedded`."""

    def connect(self, on_message: Any, on_closed: Any) -> Peer:
        """Attach; both functions are called in the forwarder's thread."""

    def close(self) -> None:
        """End the thread, and with it what it holds."""


class EmbeddedConnection(Connection):
    """Messages are handed over as they are: nothing is encoded, and no socket lies between.

    Args:
        host: the forwarder; it is closed with the connection.

    Raises:
        ForwarderUnreachable: it does not answer within 10 s.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host
        self._answered = threading.Event()
        self._peer = host.connect(self._dispatch, self._on_closed)
        with self._lock:
            self._transmit(self._greeting())
        try:
            answered = interrupts.wait(self._answered, 10.0)
        except BaseException:  # Ctrl-C: nobody will ever close what is made here
            self.close()
            raise
        if not answered:
            self.close()
            raise errors.ForwarderUnreachable("this process", "its thread does not answer")
        if self._closed is not None:
            raise self._closed

    def close(self, timeout: float = 1.0) -> None:
        """Say goodbye and end the forwarder."""
        if self._closed is not None or self.pid != os.getpid():
            return
        self.post(Bye("closed"))
        self._fail(errors.ForwarderError("the client was closed"), for_good=True)
        self._host.close()

    def abandon(self) -> None:
        """The forwarder's thread does not exist in a forked child."""
        super().abandon()
        processes.bury(self._host, self._peer)

    def _transmit(self, message: Any) -> None:
        self._peer.send(message)

    def _dispatch(self, message: Any) -> None:
        super()._dispatch(message)
        if isinstance(message, service.Attached) or self._closed is not None:
            self._answered.set()

    def _on_closed(self, error: BaseException | None = None) -> None:
        self._fail(
            error or errors.ForwarderError("the forwarder in this process has ended"),
            for_good=True,
        )
        self._answered.set()
