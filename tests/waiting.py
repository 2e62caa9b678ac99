"""Waiting for a condition, with a limit: what all tests do in the place of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from fxhpc.transport.poller import Poller
from fxhpc.transport.sockets import MessageSocket

#: Seconds that anything may take in a test before it counts as hanging.
LIMIT = 60.0

_T = TypeVar("_T")


def eventually(
    condition: Callable[[], _T],
    within: float = LIMIT,
    *,
    every: float = 0.01,
    told: Callable[[], str] | None = None,
) -> _T:
    """Wait until something holds; what it returned then.

    Args:
        condition: may do something for it, too: one turn of a loop.
        every: seconds between two looks. More where a look is dear, 0 where it waits by itself.
        told: how things are, for whoever reads that the test has failed.
    """
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"did not come to hold within {within} s" + (f": {told()}" if told else "")
            )
        time.sleep(every)  # the condition is what is waited for


def readable(socket: MessageSocket, within: float = LIMIT) -> bool:
    """Wait until a socket has something to be read; whether it has."""
    poller = Poller()
    poller.register(socket)
    return bool(poller.poll(within))
