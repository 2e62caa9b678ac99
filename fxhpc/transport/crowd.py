"""Keeps a port from using up its process's open files: whoever reaches it may connect very often.

A stranger's connection is refused in its handshake, and until then it is an open file; without one
left, nothing can be stored, no client is let in, and libzmq may end the process. So newcomers are
turned away while few are left: the kernel drops what they send, and those who are in stay.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import socket
import struct
import time
from contextlib import suppress

#: Of Linux, for the sockets of Python before it knew them.
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)  # a filter of one step: of each packet, no byte passes

_LEFT = 64  # files that are kept for all else, and for those that wait to be accepted already
_WARNING_S = 60.0

log = logging.getLogger(__name__)


def backlog(most: int = 1024) -> int:
    """How many connections may wait to be accepted: a part of the files that may be open."""
    return max(16, min(most, _limit() // 16))


class Crowd:
    """Watches how many files may still be opened, and turns newcomers away while they are few.

    Args:
        listening: the port's socket; this keeps a descriptor of its own of it.

    Attributes:
        turns_away: newcomers are turned away now: look again soon.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening.dup()
        self.turns_away = False
        self._warned = -_WARNING_S

    def look(self) -> None:
        """To be called when a connection has come or gone."""
        left = _limit() - _open_files()
        if self.turns_away:
            if left > 2 * (backlog() + _LEFT):
                self.turns_away = not self._set(_DETACH_FILTER, struct.pack("i", 0))
            return
        if left > backlog() + _LEFT:
            return
        code = ctypes.create_string_buffer(_DROP)
        self.turns_away = self._set(_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(code)))
        if time.monotonic() - self._warned >= _WARNING_S:
            self._warned = time.monotonic()
            log.warning(
                "%s more files may be opened (ulimit -n): until some connections end, no more are "
                "let in at port %s. Strangers, perhaps, or more nodes than the limit has room for",
                left,
                self._listening.getsockname()[1],
            )

    def close(self) -> None:
        """The port is closed."""
        self._listening.close()

    def _set(self, option: int, value: bytes) -> bool:
        try:
            self._listening.setsockopt(socket.SOL_SOCKET, option, value)
        except OSError as error:  # another system than Linux
            log.warning("newcomers cannot be turned away: %s", error.strerror)
            return False
        return True


def _limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**20 if soft == resource.RLIM_INFINITY else soft


def _open_files() -> int:
    """About how many are open: the lowest number that is free, which costs one call to find."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _limit()
    with suppress(OSError):
        os.close(descriptor)
    return descriptor
