"""Which processes of this host are alive, and when one that is watched has ended."""

from __future__ import annotations

import os
import select
import sys

import psutil

#: Clock ticks blur a start time; another process with the same pid starts later than this.
_START_TOLERANCE_S = 0.1


def start_time(pid: int) -> float:
    """When a process was started, in seconds since the epoch; 0 if it is not there."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def is_alive(pid: int, started: float) -> bool:
    """Whether this very process lives; `started` of 0 means that any with this pid will do."""
    now = start_time(pid)
    if not now:
        return False
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return False
    except psutil.Error:
        return False
    return not started or abs(now - started) <= _START_TOLERANCE_S


class Watch:
    """Watches one process. Where the kernel can, `fd` becomes readable when it ends."""

    def __init__(self, pid: int, started: float) -> None:
        self.pid = pid
        self._started = started
        self.fd = -1
        if sys.platform == "linux" and hasattr(os, "pidfd_open"):
            try:
                self.fd = os.pidfd_open(pid)
            except OSError:
                pass  # it is gone, or the kernel is too old: `is_over` finds out

    def has_signalled(self) -> bool:
        """Whether the descriptor tells that it has ended: cheap."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return bool(poller.poll(0))

    def is_over(self) -> bool:
        """Whether it has ended."""
        return not is_alive(self.pid, self._started)

    def close(self) -> None:
        """Stop watching."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
