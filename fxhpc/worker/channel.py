"""The worker's end of its socket pair: whole messages, large ones in a file of their own."""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence

from fxhpc.message_files import Files, split
from fxhpc.protocol.pool import (
    IN_FILE_MARK,
    INLINE_BYTES,
    READ_BY_MANAGER,
    READ_BY_WORKER,
    SIZE,
)

_NOTHING = memoryview(b"")
_FD_SPACE = socket.CMSG_SPACE(4)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Closed(Exception):
    """The other side has closed its end, or is gone."""


class Channel:
    """Blocking, for the one thread that there is. `words`: those of the page."""

    def __init__(self, sock: socket.socket, words: memoryview) -> None:
        self._sock = sock
        self._files = Files(words, READ_BY_MANAGER, READ_BY_WORKER)
        self._stream = sock.type == socket.SOCK_STREAM
        self._buffer = bytearray(INLINE_BYTES + 64)
        self._view = memoryview(self._buffer)
        self.fd = -1  # that came with the last message, and is the caller's; -1: none did

    def receive(self) -> tuple[memoryview, memoryview]:
        """The next message, valid until the next call, and what lies behind it.

        Raises:
            Closed: there will be none.
        """
        if self._stream:
            return self._receive_stream()
        self._files.done()
        try:
            size, ancillary, flags, _ = self._sock.recvmsg_into([self._buffer], _FD_SPACE, _CLOEXEC)
        except ConnectionError:
            raise Closed from None
        if size == 0:
            raise Closed
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise RuntimeError("a message from the manager was cut short; the worker cannot go on")
        self.fd = -1
        if ancillary:
            (_, _, data) = ancillary[0]
            fd = array.array("i", data)[0]
            if self._view[0] == IN_FILE_MARK:
                return self._files.map(fd, self._view[:size])
            self.fd = fd
        return self._view[:size], _NOTHING

    def send(self, message: Sequence[bytes | memoryview], behind: bytes = b"") -> None:
        """Send one message, in parts, and what is to lie behind it.

        Raises:
            Closed: nobody is there to receive it.
        """
        size = sum(map(len, message))
        try:
            if self._stream:
                head = SIZE.pack(SIZE.size + size + len(behind)) + SIZE.pack(size)
                self._sock.sendall(b"".join([head, *message, behind]))
            elif not behind and size <= INLINE_BYTES:
                self._sock.sendmsg(message)
            else:
                fd, note = self._files.write([SIZE.pack(size), *message, behind])
                rights = array.array("i", [fd])
                self._sock.sendmsg([note], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except ConnectionError:
            raise Closed from None

    def _receive_stream(self) -> tuple[memoryview, memoryview]:
        return split(memoryview(self._exactly(SIZE.unpack(self._exactly(SIZE.size))[0])))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._sock.recv(min(size - len(data), 1 << 20))
            except ConnectionError:
                raise Closed from None
            if not part:
                raise Closed
            data += part
        return bytes(data)
