"""One connection within a host: messages to bytes and back, none of which waits.

On the wire a message is a mark, the number of its frames, their lengths, and the frames. It is sent
or received whole; what the other end does not take yet is kept here, up to a limit.
"""

from __future__ import annotations

import math
import os
import select
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO

from fxhpc.transport.sockets import HIGH_WATER_MARK

_HEAD = struct.Struct("<4sI")
_MARK = b"fxm1"
_FRAMES = 1 << 20  # that a message may have
_LARGEST = 4  # times the largest frame that a message may have in all
_READ = 1 << 18  # bytes that are read at once
_AT_ONCE = 1 << 24  # bytes of a frame that may take memory before they have come
# Bytes that are read first. Most messages are small, and a buffer for much that is made smaller
# afterwards costs memory that is mapped and given back each time: 20 us instead of 3.
_LITTLE = 1 << 15
_UNREAD = 1 << 20  # bytes that the system keeps until they are read, if it may keep so many
_GATHERED = 64  # pieces that one system call sends
# A user may have given SIGPIPE its meaning back.
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
_IN, _OUT = selectors.EVENT_READ, selectors.EVENT_WRITE


class UnixStream:
    """One connection: messages to bytes and back.

    Attributes:
        inbox: messages that were read.
        ended: nothing more will come.
    """

    def __init__(
        self,
        connected: socket.socket,
        selector: selectors.BaseSelector,
        name: bytes | None,
        max_frame: int,
    ) -> None:
        self.name = name or b""
        self.inbox: deque[list[bytes]] = deque()
        self.ended = False
        self._socket = connected
        self._selector = selector
        self._max_frame = max_frame
        self._refuses = False  # nothing that is sent will be read
        # Messages, of which the first one may have begun.
        self._unsent: deque[Sequence[bytes | memoryview]] = deque()
        self._waits = False  # the selector tells when there is room
        self._lock = threading.Lock()  # one thread reads, several may send
        self._part = b""  # of a message that is not whole
        self._large: _Large | None = None  # one that is read into its place
        with suppress(OSError):  # with more room large messages wake the other end less often
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD)
        selector.register(connected, _IN, self)

    def send(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Send a message, or keep it until there is room; any thread may."""
        with self._lock:
            if self._refuses or len(self._unsent) >= HIGH_WATER_MARK:
                return False
            count = len(frames)
            head = struct.pack(f"<4sI{count}Q", _MARK, count, *map(len, frames))
            try:
                self._unsent.append([head, *frames])
                if len(self._unsent) == 1:
                    self._send_unsent()
            except BaseException:
                # A signal's handler has raised something: a part may have been sent that is not
                # noted as sent. Nothing can follow it.
                self._refuses = True
                self._unsent.clear()
                raise
            return not self._refuses

    def flush(self) -> None:
        """Send what waits, as far as it is taken."""
        if self._unsent:
            with self._lock:
                self._send_unsent()

    def _send_unsent(self) -> None:
        unsent = self._unsent
        while unsent:
            pieces = unsent[0]
            try:
                sent = self._socket.sendmsg(pieces[:_GATHERED], (), _NO_SIGNAL)
            except BlockingIOError:
                break
            except OSError:
                self._refuses = True  # what it had said before is still to be read
                unsent.clear()
                break
            left = _rest(pieces, sent)
            if left:
                unsent[0] = left
            else:
                unsent.popleft()
        if bool(unsent) != self._waits and not self._refuses:
            self._waits = bool(unsent)
            self._selector.modify(self._socket, _IN | _OUT if unsent else _IN, self)

    @property
    def is_unsent(self) -> bool:
        return bool(self._unsent)

    def wait_to_send(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        poll.poll(math.ceil(seconds * 1000))

    def read(self) -> bool:
        """Read what is there, a bounded amount, into the inbox; whether there may be more of it."""
        try:
            if self._large is not None:
                self._fill(self._large)
                return not self.ended
            data = self._socket.recv(_LITTLE)
            is_full = len(data) == _LITTLE
            if is_full:
                more = self._more()
                data += more
                is_full = len(more) == _READ
        except BlockingIOError:
            return False
        except OSError:
            data, is_full = b"", False
        if not data or not self._take(self._part + data if self._part else data):
            self._end()
        return is_full

    def _more(self) -> bytes:
        """What follows at once; if that is an end, the next read finds it again."""
        with suppress(OSError):
            return self._socket.recv(_READ)
        return b""

    def _take(self, data: bytes) -> bool:
        """Cut bytes into messages; False if they are none."""
        at, end = 0, len(data)
        while end - at >= _HEAD.size:
            mark, count = _HEAD.unpack_from(data, at)
            if mark != _MARK or not 0 < count <= _FRAMES:
                return False
            begin = at + _HEAD.size + 8 * count
            if end < begin:
                break
            lengths = struct.unpack_from(f"<{count}Q", data, at + _HEAD.size)
            total = sum(lengths)
            if max(lengths) > self._max_frame or total > _LARGEST * self._max_frame:
                return False
            if end - begin < total:
                if total > _READ:
                    self._large = _Large(lengths, data[begin:])
                    at = end
                break
            frames: list[bytes] = []
            for length in lengths:
                frames.append(data[begin : begin + length])
                begin += length
            self.inbox.append(frames)
            at = begin
        self._part = data[at:]
        return True

    def _fill(self, large: _Large) -> None:
        while (room := large.room()) is not None:
            with room:
                count = self._socket.recv_into(room)
            if not count:
                self._end()
                return
            large.filled += count
        self._large = None
        self.inbox.append(large.frames)

    def _end(self) -> None:
        with self._lock:
            self.ended = self._refuses = True
            self._unsent.clear()
            with suppress(KeyError, ValueError):
                self._selector.unregister(self._socket)

    def close(self) -> None:
        self._end()
        self._socket.close()


class _Large:
    """A message that comes in many reads, each frame into its place.

    Attributes:
        frames: those that are whole.
        filled: bytes of the frame that is being read.
    """

    def __init__(self, lengths: tuple[int, ...], begin: bytes) -> None:
        self.frames: list[bytes] = []
        self.filled = 0
        self._lengths = lengths
        self._data = BytesIO()
        at = 0
        while (room := self.room()) is not None and at < len(begin):
            with room:
                count = min(len(room), len(begin) - at)
                room[:count] = begin[at : at + count]
            self.filled += count
            at += count

    def room(self) -> memoryview | None:
        """Where to read on; None if the message is whole. Of a frame that is very large only as
        much as has come already: what is announced alone takes no memory.
        """
        while len(self.frames) < len(self._lengths):
            length = self._lengths[len(self.frames)]
            if self.filled < length:
                if not self.filled:
                    # Bytes that nobody else has: they are read into, and given away, uncopied.
                    self._data = BytesIO(bytes(min(_AT_ONCE, length)))
                elif self.filled == self._data.seek(0, os.SEEK_END):
                    self._data.write(bytes(min(self.filled, length - self.filled)))
                return self._data.getbuffer()[self.filled :]
            self.frames.append(self._data.getvalue())
            self._data, self.filled = BytesIO(), 0
        return None


def _rest(pieces: Sequence[bytes | memoryview], sent: int) -> list[memoryview]:
    """What is left of these when so many bytes were sent."""
    if sent == sum(map(len, pieces)):
        return []
    left: list[memoryview] = []
    for piece in pieces:
        size = len(piece)
        if sent < size:
            left.append(memoryview(piece)[sent:])
            sent = 0
        else:
            sent -= size
    return left
