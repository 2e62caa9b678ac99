"""What ZeroMQ tells about a socket's connections: which ended, which were refused and why."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import zmq

from fxhpc.transport.crowd import Crowd
from fxhpc.transport.sockets import NOT_ADMITTED

_REFUSED = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: NOT_ADMITTED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "it does not speak CURVE with the right key",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the connection ended during the handshake",
}
# A connection that could not be made is only told as closed.
_ENDED = (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED)
_EVENTS = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_SUCCEEDED
_EVENTS |= zmq.EVENT_ACCEPTED
for _event in _REFUSED:
    _EVENTS |= _event


@dataclass(frozen=True)
class Connections:
    """What has happened to a socket's connections since the last look."""

    opened: int = 0
    ended: int = 0  # or could not be made
    refused: tuple[str, ...] = ()  # a reason for each
    unborn: int = 0  # of those that ended: before their handshake had


class Monitor:
    """Watches one socket's connections. Poll `socket`, and call `look` when it is readable.

    An event names no peer. An acceptor that learns of an ended connection sends each peer a
    heartbeat: `send` returns False for those that are gone. The event may be a few milliseconds
    ahead of that, so it does so again a moment later.
    """

    def __init__(self, socket: zmq.SyncSocket) -> None:
        self._watched = socket
        self.socket = socket.get_monitor_socket(_EVENTS)
        #: Connections refused in all, for what they had said: not those that ended without a word.
        self.refused = 0

    def look(self) -> Connections:
        """Everything since the last call."""
        opened = ended = unborn = accepted = 0
        refused: list[str] = []
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            (event,) = struct.unpack_from("=H", frames[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                opened += 1
            elif event in _ENDED:
                ended += 1
            elif event == zmq.EVENT_ACCEPTED:
                accepted += 1
            elif event in _REFUSED:
                refused.append(_REFUSED[event])
                # Told as ended too; it was nobody's. Managers try so which address answers.
                unborn += event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        crowd: Crowd | None = getattr(self._watched, "crowd", None)
        if crowd is not None and (accepted or ended or crowd.turns_away):
            crowd.look()
        self.refused += len(refused) - unborn
        return Connections(opened, ended, tuple(refused), unborn)

    def close(self) -> None:
        """Stop watching. To be called before the watched socket is closed."""
        self._watched.disable_monitor()
        self.socket.close(0)  # or its context would wait for it
