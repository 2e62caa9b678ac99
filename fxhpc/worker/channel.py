"""The worker's end of its socket pair: whole messages, large ones in a file of their own."""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Sequence

from fxhpc.protocol.pool import (
    IN_FILE,
    IN_FILE_MARK,
    INLINE_BYTES,
    READ_BY_MANAGER,
    READ_BY_WORKER,
    REUSED_BYTES,
    REUSED_FILES,
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
            return split(self._files.read(array.array("i", data)[0], self._view[:size]))
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


class Files:
    """Files without names that messages lie in. One that has been read is written to again."""

    def __init__(self, words: memoryview | None, read_there: int, read_here: int) -> None:
        self._words = words
        self._read_there = read_there
        self._read_here = read_here
        self._sent = 0
        self._in_use: deque[tuple[int, int]] = deque()  # number of the message, descriptor

    def write(self, parts: Sequence[bytes | memoryview]) -> tuple[int, bytes]:
        """Put a message into a file: its descriptor, and what is to go through the socket.

        The descriptor is valid until the next call.
        """
        size = sum(map(len, parts))
        while self._in_use and (
            self._words is None
            or len(self._in_use) > REUSED_FILES
            or os.fstat(self._in_use[0][1]).st_size > REUSED_BYTES
        ):
            os.close(self._in_use.popleft()[1])
        words = self._words
        if self._in_use and words is not None and self._in_use[0][0] <= words[self._read_there]:
            fd = self._in_use.popleft()[1]
        else:
            fd = anonymous_file()
        at = 0
        for part in parts:
            rest = memoryview(part)
            while rest:
                written = os.pwrite(fd, rest, at)
                rest, at = rest[written:], at + written
        self._sent += 1
        self._in_use.append((self._sent, fd))
        return fd, IN_FILE.pack(IN_FILE_MARK, size)

    def read(self, fd: int, note: memoryview) -> memoryview:
        """The message in a file that has come; closes the descriptor."""
        try:
            return memoryview(os.pread(fd, IN_FILE.unpack(note)[1], 0))
        finally:
            os.close(fd)
            if self._words is not None:
                self._words[self._read_here] += 1

    def close(self) -> None:
        """Close all."""
        while self._in_use:
            os.close(self._in_use.popleft()[1])


def anonymous_file() -> int:
    """A descriptor of a file in memory that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fxhpc", os.MFD_CLOEXEC)
    import tempfile  # takes its time, and is not needed on Linux

    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd


def split(data: memoryview) -> tuple[memoryview, memoryview]:
    """A message, and what lies behind it."""
    end = SIZE.size + SIZE.unpack_from(data)[0]
    return data[SIZE.size : end], data[end:]
