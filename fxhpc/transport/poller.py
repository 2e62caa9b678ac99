"""Waits until one of several sockets and descriptors can be read."""

from __future__ import annotations

import math
import select
import time

from fxhpc.transport.sockets import MessageSocket


class Poller:
    """Sockets of the house and plain descriptors, polled for reading."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._sockets: dict[int, MessageSocket] = {}

    def register(self, one: MessageSocket | int) -> None:
        """Watch this from now on."""
        if isinstance(one, int):
            self._poll.register(one, select.POLLIN)
        else:
            self._sockets[one.descriptor] = one
            self._poll.register(one.descriptor, select.POLLIN)

    def unregister(self, one: MessageSocket | int) -> None:
        """Watch it no longer. Before a socket is closed."""
        if not isinstance(one, int):
            one = next(fd for fd, known in self._sockets.items() if known is one)
            del self._sockets[one]
        self._poll.unregister(one)

    def poll(self, seconds: float, awake_s: float = 0.0) -> set[MessageSocket | int]:
        """What can be read, at the latest after so many seconds: nothing, perhaps.

        Args:
            awake_s: look again and again for so long, before the process sleeps.
        """
        ready: set[MessageSocket | int] = {
            one for one in self._sockets.values() if one.is_readable()
        }
        wait = 0 if ready or seconds <= 0 else math.ceil(seconds * 1000)
        found = self._poll.poll(0) if awake_s and wait else []
        if awake_s and wait and not found:
            until = time.perf_counter() + min(awake_s, seconds)
            while not found and time.perf_counter() < until:
                found = self._poll.poll(0)
        for fd, _ in found or self._poll.poll(wait):
            ready.add(self._sockets.get(fd, fd))
        return ready
