"""Wakes a poll loop from another thread, at no cost while the loop is awake."""

from __future__ import annotations

import os
import sys
import threading


class Waker:
    """A file descriptor that becomes readable when another thread calls `wake`.

    The loop's order matters, so that no wake-up is lost::

        waker.arm()                  # from now on a wake costs a system call
        if nothing_waits():          # look once more: what came before `arm` did not wake
            ready = poller.poll(timeout)     # with `waker` among its descriptors
        waker.clear(waker.fileno() in ready)
    """

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._reader = self._writer = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._reader, False)
            os.set_blocking(self._writer, False)
        self._armed = False
        self._closed = False
        # So that no wake writes to a descriptor that was closed. A signal's handler may wake, too.
        self._lock = threading.RLock()

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self._reader

    def arm(self) -> None:
        """The loop is about to sleep."""
        self._armed = True

    def wake(self) -> None:
        """Wake the loop if it sleeps. Any thread may call this, after it has left its work."""
        if not self._armed:
            return
        self._armed = False
        with self._lock:
            if self._closed:
                return
            try:
                os.write(self._writer, (1).to_bytes(8, sys.byteorder))
            except BlockingIOError:
                pass  # it is readable already

    def clear(self, is_woken: bool = True) -> None:
        """The loop is awake.

        Args:
            is_woken: whether the descriptor was found readable. If it becomes so just now, that
                costs one more turn of the loop.
        """
        self._armed = False
        if not is_woken:
            return
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass  # it woke for something else

    def close(self) -> None:
        """Give the descriptor back. Nobody can be woken any more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._reader)
            if self._writer != self._reader:
                os.close(self._writer)
