"""The manager's end of a socket pair: whole messages both ways, and it never waits."""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Sequence

from fxhpc.message_files import Files, split
from fxhpc.protocol.pool import (
    IN_FILE,
    IN_FILE_MARK,
    INLINE_BYTES,
    READ_BY_MANAGER,
    READ_BY_WORKER,
    SIZE,
)

_NOTHING = memoryview(b"")
_MAX_FDS = 8
_FD_SPACE = socket.CMSG_SPACE(4 * _MAX_FDS)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

#: Whole messages where the system has them. Elsewhere a stream, and each message's size before it.
PAIR_TYPE = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM)
if not hasattr(os, "memfd_create"):
    PAIR_TYPE = socket.SOCK_STREAM  # macOS names the type, and does not have it


class Closed(Exception):
    """The other side has closed its end, or is gone."""


def make_pair(words: memoryview | None = None) -> tuple[Channel, socket.socket]:
    """A pair: this process's end, and the other side's. `words`: those of a worker's page."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, PAIR_TYPE)
    return Channel(ours, words), theirs


class Channel:
    """One end. What the socket does not take at once waits here."""

    def __init__(self, sock: socket.socket, words: memoryview | None = None) -> None:
        sock.setblocking(False)
        self._files = Files(words, READ_BY_WORKER, READ_BY_MANAGER)
        self._sock = sock
        self._stream = sock.type == socket.SOCK_STREAM
        self._buffer = bytearray(INLINE_BYTES + 64)
        self._view = memoryview(self._buffer)
        self._received = bytearray()  # of a stream: what is not a whole message yet
        self._received_fds: list[int] = []
        self._unsent: deque[tuple[bytes | memoryview, list[int]]] = deque()
        self._was_reset = False

    def fileno(self) -> int:
        """For a selector."""
        return self._sock.fileno()

    @property
    def waits(self) -> bool:
        """Whether there is something that the socket did not take."""
        return bool(self._unsent)

    def send(self, data: bytes, fds: Sequence[int] = (), behind: Sequence[bytes] = ()) -> None:
        """Send a message, with copies of these descriptors, and with what is to lie behind it.

        Raises:
            Closed: nobody is there to receive it.
        """
        kept = [os.dup(fd) for fd in fds]
        if self._stream:
            size = len(data) + sum(map(len, behind))
            data = b"".join([SIZE.pack(SIZE.size + size), SIZE.pack(len(data)), data, *behind])
        elif behind or len(data) > INLINE_BYTES:
            fd, data = self._files.write([SIZE.pack(len(data)), data, *behind])
            kept.append(os.dup(fd))
        self._unsent.append((data, kept))
        if len(self._unsent) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it.

        Raises:
            Closed: nobody is there to receive it.
        """
        while self._unsent:
            data, fds = self._unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self._sock.sendmsg([data], rights)
            except BlockingIOError:
                return
            except OSError as error:
                raise Closed from error
            for fd in fds:
                os.close(fd)
            if self._stream and sent < len(data):
                self._unsent[0] = (memoryview(data)[sent:], [])
            else:
                self._unsent.popleft()

    def receive(self) -> tuple[memoryview, memoryview, list[int]] | None:
        """The next message, what lies behind it, and the descriptors that came with it.

        None if none has come. The message is valid until the next call.

        Raises:
            Closed: there will be none.
        """
        if self._stream and (message := self._next_of_stream()) is not None:
            return message
        try:
            size, ancillary, flags, _ = self._sock.recvmsg_into([self._buffer], _FD_SPACE, _CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            # The other side is gone and had left something unread. Linux says so once, and only
            # then gives what that side had sent before.
            if self._was_reset:
                raise Closed from error
            self._was_reset = True
            return self.receive()
        except OSError as error:
            raise Closed from error
        fds: list[int] = []
        for _, _, rights in ancillary:
            found = array.array("i")
            found.frombytes(rights[: len(rights) - len(rights) % found.itemsize])
            fds += found
        if size == 0:
            raise Closed
        if self._stream:
            self._received += self._view[:size]
            self._received_fds += fds
            return self._next_of_stream()
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for fd in fds:
                os.close(fd)
            raise Closed("a message was cut short")
        if fds and size == IN_FILE.size and self._view[0] == IN_FILE_MARK:
            return *self._files.read(fds.pop(), self._view[:size]), fds
        return self._view[:size], _NOTHING, fds

    def close(self) -> None:
        """Close this end."""
        for _, fds in self._unsent:
            for fd in fds:
                os.close(fd)
        self._unsent.clear()
        self._files.close()
        self._sock.close()

    def _next_of_stream(self) -> tuple[memoryview, memoryview, list[int]] | None:
        if len(self._received) < SIZE.size:
            return None
        end = SIZE.size + SIZE.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        data = bytes(self._received[SIZE.size : end])
        del self._received[:end]
        fds, self._received_fds = self._received_fds, []
        return *split(memoryview(data)), fds
