"""Messages on a stream socket between two processes of one host: a length, then the bytes."""

from __future__ import annotations

import socket
import struct

_SIZE = struct.Struct("<I")
_READ = 1 << 16


def frame(data: bytes) -> bytes:
    """A message as it is sent."""
    return _SIZE.pack(len(data)) + data


class Frames:
    """Reads messages from one end of a socket pair."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def receive(self) -> list[bytes] | None:
        """Read once: the messages that are whole now. None: the other end is closed.

        Raises:
            BlockingIOError: there is nothing, and the socket does not block.
        """
        try:
            data = self._stream.recv(_READ)
        except ConnectionError:
            return None
        if not data:
            return None
        self._buffer += data
        found: list[bytes] = []
        while len(self._buffer) >= _SIZE.size:
            end = _SIZE.size + _SIZE.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            found.append(bytes(self._buffer[_SIZE.size : end]))
            del self._buffer[:end]
        return found
