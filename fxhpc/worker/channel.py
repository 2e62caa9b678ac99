"""The worker's end of its socket pair: whole messages, large ones in a file of their own."""

from __future__ import annotations

import array
import mmap
import os
import socket
from collections.abc import Sequence

from fxhpc.protocol.pool import IN_FILE, INLINE_BYTES, SIZE

_NOTHING = memoryview(b"")
_FD_SPACE = socket.CMSG_SPACE(4)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Closed(Exception):
    """The other side has closed its end, or is gone."""


class Channel:
    """Blocking, for the one thread that there is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._stream = sock.type == socket.SOCK_STREAM
        self._buffer = bytearray(INLINE_BYTES + 64)
        self._view = memoryview(self._buffer)

    def receive(self) -> tuple[memoryview, memoryview]:
        """The next message, valid until the next call, and what lies behind it.

        Raises:
            Closed: there will be none.
        """
        if self._stream:
            return self._receive_stream()
        try:
            size, ancillary, flags, _ = self._sock.recvmsg_into([self._buffer], _FD_SPACE, _CLOEXEC)
        except ConnectionError:
            raise Closed from None
        if size == 0:
            raise Closed
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise RuntimeError("a message from the manager was cut short; the worker cannot go on")
        if ancillary:
            (_, _, data) = ancillary[0]
            return split(map_file(array.array("i", data)[0]))
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
                fd = write_file([SIZE.pack(size), *message, behind])
                try:
                    self._sock.sendmsg(
                        [IN_FILE], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
                    )
                finally:
                    os.close(fd)
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


def write_file(parts: Sequence[bytes | memoryview]) -> int:
    """A descriptor of a file without a name that holds these bytes."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("fxhpc", os.MFD_CLOEXEC)
    else:
        import tempfile  # takes its time, and is not needed on Linux

        fd, path = tempfile.mkstemp()
        os.unlink(path)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(fd, rest) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_file(fd: int) -> memoryview:
    """A view of what `write_file` wrote; closes the descriptor."""
    try:
        return memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
    finally:
        os.close(fd)


def split(data: memoryview) -> tuple[memoryview, memoryview]:
    """A message, and what lies behind it."""
    end = SIZE.size + SIZE.unpack_from(data)[0]
    return data[SIZE.size : end], data[end:]
