"""Sockets between processes of one host: streams in a private directory, in plain system calls.

They do what ZeroMQ's ipc would, at a third of its cost (decision 0072): nothing waits, a message is
sent or received whole, and who is slow has its messages kept for it here, up to a limit. ZeroMQ
hands each message to a thread of its own, and wakes the other side's: two more wake-ups a message.
`unix_stream` is one connection; here they are opened, accepted, and told apart.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from fxhpc.transport.ipc import check_private, ipc_path
from fxhpc.transport.sockets import MAX_FRAME
from fxhpc.transport.unix_stream import UnixStream

_BACKLOG = 1024
_ACCEPTED = 64  # connections that are accepted before anything else is looked at
_CREDENTIALS = struct.Struct("iII")  # of a peer: pid, uid, gid
# The same on macOS and BSD: a struct that begins with a version and the uid.
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
_XUCRED, _XUCRED_BYTES = struct.Struct("=II"), 128
_IN, _OUT = selectors.EVENT_READ, selectors.EVENT_WRITE


def dealer(address: str, *, max_frame: int = MAX_FRAME) -> UnixDealer:
    """A connecting socket. It connects once: when the process that bound the address has gone,
    anybody might put a socket of his own in its place, so the caller must learn the address anew
    and open a new socket, which checks the directory's owner again. Until then `send_message`
    returns False.

    Raises:
        ValueError: the address is not ipc.
        HomeError: the directory is not private to this user.
        OSError: nobody accepts connections there.
    """
    path = ipc_path(address)
    check_private(os.path.dirname(path))
    one = _socket()
    try:
        one.connect(path)
        if not _is_own(one):
            raise PermissionError(f"{address} belongs to another user; nothing was sent to it")
        return UnixDealer(address, one, max_frame)
    except BaseException:
        one.close()
        raise


def router(address: str, *, max_frame: int = MAX_FRAME) -> UnixRouter:
    """A bound socket. Its messages begin with the name of the peer, which is given here.

    Raises:
        ValueError: the address is not ipc.
        HomeError: the directory is not private to this user.
        OSError: the address cannot be bound.
    """
    path = ipc_path(address)
    check_private(os.path.dirname(path))
    with suppress(FileNotFoundError):
        os.unlink(path)  # of one who was killed
    listener = _socket()
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
        return UnixRouter(address, listener, max_frame)
    except BaseException:
        listener.close()
        raise


class UnixDealer:
    """One end of a connection that it has opened: see `MessageSocket`."""

    crosses_hosts = False

    def __init__(self, address: str, connected: socket.socket, max_frame: int) -> None:
        self.address = address
        self._is_drained = False  # all that was there is read: the descriptor tells of more
        self._selector = selectors.DefaultSelector()
        self._stream = UnixStream(connected, self._selector, None, max_frame)

    @property
    def descriptor(self) -> int:
        """To be polled for reading."""
        return _descriptor(self._selector)

    @property
    def ended(self) -> bool:
        """Whether the other end is closed, and all that it said is read."""
        return self._stream.ended and not self._stream.inbox

    @property
    def is_unsent(self) -> bool:
        """Whether something waits here until the other end takes it."""
        return self._stream.is_unsent

    def is_readable(self) -> bool:
        """Whether a message waits here."""
        return bool(self._stream.inbox)

    def send_message(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Send a message; False if the other end is gone, or takes nothing for now."""
        return self._stream.send(frames)

    def receive_message(self) -> list[bytes] | None:
        """The next message's frames, or None if none has come."""
        stream = self._stream
        if not stream.inbox and not stream.ended and not self._is_drained:
            stream.flush()
            self._is_drained = not stream.read()
        if stream.inbox:
            return stream.inbox.popleft()
        self._is_drained = False
        return None

    def close(self, linger: int | None = None) -> None:
        """Close it; what was sent already may take so many milliseconds to go out."""
        _linger([self._stream], linger)
        self._stream.close()
        self._selector.close()

    def __enter__(self) -> UnixDealer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PipedDealer(UnixDealer):
    """One end of a connection whose other end is on another host: something between them (ssh)
    carries the bytes.
    """

    crosses_hosts = True


class UnixRouter:
    """A bound socket and all connections that it has accepted: see `MessageSocket`."""

    crosses_hosts = False
    ended = False

    def __init__(self, address: str, listener: socket.socket, max_frame: int) -> None:
        self.address = address
        self._listener = listener
        self._max_frame = max_frame
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, _IN)
        self._peers: dict[bytes, UnixStream] = {}
        self._inbox: deque[list[bytes]] = deque()
        self._is_drained = False  # all that was there is read: the descriptor tells of more
        self._closed = False
        self._spare = _spare()

    @property
    def descriptor(self) -> int:
        """To be polled for reading."""
        return _descriptor(self._selector)

    def is_readable(self) -> bool:
        """Whether a message waits here."""
        return bool(self._inbox)

    def send_message(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Send to the peer that the first frame names; False if it is gone, or takes nothing."""
        peer = self._peers.get(bytes(frames[0]))
        return peer is not None and peer.send(frames[1:])

    def receive_message(self) -> list[bytes] | None:
        """The next message: the peer's name, then its frames; None if none has come."""
        if not self._inbox and not self._is_drained:
            self._is_drained = not self._look()
        if self._inbox:
            return self._inbox.popleft()
        self._is_drained = False
        return None

    def close(self, linger: int | None = None) -> None:
        """Close it and all its connections; what was sent already may take so many milliseconds."""
        if self._closed:
            return
        self._closed = True
        self._listener.close()
        with suppress(OSError):
            os.unlink(ipc_path(self.address))
        _linger(list(self._peers.values()), linger)
        for stream in self._peers.values():
            stream.close()
        self._peers.clear()
        self._selector.close()
        if self._spare >= 0:
            os.close(self._spare)

    def __enter__(self) -> UnixRouter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> bool:
        """Accept, send what waits, and read: once from each that has something. Whether there may
        be more to read.
        """
        may_be_more = False
        for key, mask in self._selector.select(0):
            stream = key.data
            if stream is None:
                self._accept()
                continue
            if mask & _OUT:
                stream.flush()
            if mask & _IN:
                may_be_more |= self._read(stream)
        return may_be_more

    def _read(self, stream: UnixStream) -> bool:
        may_be_more = stream.read()
        inbox = stream.inbox
        while inbox:
            self._inbox.append([stream.name, *inbox.popleft()])
        if stream.ended:
            del self._peers[stream.name]
            stream.close()
        return may_be_more

    def _turn_away(self) -> None:
        """No descriptor is left. Whoever waits would make the listener readable for ever: a spare
        one lets him in, and out again. He will try again.
        """
        if self._spare >= 0:
            os.close(self._spare)
            with suppress(OSError):
                self._listener.accept()[0].close()
        self._spare = _spare()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED):
            try:
                one, _address = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away()
                return  # nobody else, at least
            one.setblocking(False)
            if not _is_own(one):
                one.close()
                continue
            # Random, so that what was meant for one of before never reaches another.
            name = os.urandom(16)
            stream = self._peers[name] = UnixStream(one, self._selector, name, self._max_frame)
            self._read(stream)  # who connects says something


def _linger(streams: list[UnixStream], milliseconds: int | None) -> None:
    until = monotonic() + (milliseconds or 0) / 1000
    for stream in streams:
        stream.flush()
        while stream.is_unsent and (left := until - monotonic()) > 0:
            stream.wait_to_send(left)
            stream.flush()


def _spare() -> int:
    """A descriptor to give up when there is no other; -1 if there is none."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _socket() -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.setblocking(False)
    return one


def _is_own(connected: socket.socket) -> bool:
    """Whether the other end is this user's, or root's, where the system tells."""
    if hasattr(socket, "SO_PEERCRED"):
        size = _CREDENTIALS.size
        told = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _, uid, _ = _CREDENTIALS.unpack(told)
        return uid in (os.geteuid(), 0)
    try:
        told = connected.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES)
        return _XUCRED.unpack_from(told)[1] in (os.geteuid(), 0)
    except (OSError, struct.error):
        return True  # the directory's mode keeps others away


def _descriptor(selector: selectors.BaseSelector) -> int:
    """The selector's own descriptor, which epoll and kqueue have."""
    return int(selector.fileno())  # type: ignore[attr-defined]
