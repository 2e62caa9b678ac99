"""Ctrl-C where CPython would lose it: while modules are imported, and while a thread waits."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from typing import Any

#: Seconds after which a wait looks for an interrupt that came just before it began.
LOOK_S = 0.5

_SOON_S = 0.01


class Held:
    """`with Held():` an interrupt comes at the end of the block.

    For imports: what raises in the callbacks of weak references, of which the import system has one
    for each module, is printed and forgotten. Not for what may wait.
    """

    def __init__(self) -> None:
        self._handler: Any = None  # that stands in for ours
        self._came: tuple[Any, ...] | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # no handler runs here
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            try:
                self._handler = handler
                signal.signal(signal.SIGINT, self._note)
            except ValueError:  # the main thread of a subinterpreter
                self._handler = None

    def __exit__(self, *exc: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._came is not None:
                self._deliver()

    def _note(self, *arguments: Any) -> None:
        self._came = arguments

    def _deliver(self) -> None:
        self._handler(*self._came or ())


class HeldBeyond(Held):
    """For a hook that CPython calls and lets raise nothing: an interrupt comes soon after it."""

    def _deliver(self) -> None:
        _thread.start_new_thread(self._interrupt, ())

    def _interrupt(self) -> None:
        time.sleep(_SOON_S)
        _thread.interrupt_main()


def acquire(lock: Any, limit: float | None = None) -> bool:
    """Acquire a lock within so many seconds; whether that was possible.

    An interrupt that comes when a thread is about to wait is handled only once it has waited, so it
    does not wait for long at a time.
    """
    if limit is None:
        while not lock.acquire(timeout=LOOK_S):
            pass
        return True
    deadline = time.monotonic() + limit
    while not lock.acquire(timeout=max(0.0, min(LOOK_S, limit))):
        limit = deadline - time.monotonic()
        if limit <= 0.0:
            return False
    return True


def wait(event: threading.Event, limit: float) -> bool:
    """Wait for an event, for so many seconds at most; whether it has happened. See `acquire`."""
    deadline = time.monotonic() + limit
    while not event.wait(max(0.0, min(LOOK_S, limit))):
        limit = deadline - time.monotonic()
        if limit <= 0.0:
            return False
    return True
