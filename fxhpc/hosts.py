"""Which boot of this host, and which of its processes: so that a pid of before is no proof of life.

A pid is used again, a host is booted again. A process is named by host, boot, pid and start; its
start is counted from the boot where the kernel tells it, so that a clock that is set moves nothing.
"""

from __future__ import annotations

import functools
import os
import select
import sys
import time
from collections.abc import Callable

#: Seconds by which two start times of one process may differ.
_SAME_START_S = 2.0


def boot_id() -> str:
    """What tells one run of this host's kernel from another; empty where it does not say."""
    if not sys.platform.startswith("linux"):
        return _boot_elsewhere()
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


@functools.cache
def _boot_elsewhere() -> str:
    """As macOS names it. The time of the boot would not do: it moves when the clock is set."""
    import ctypes

    size = ctypes.c_size_t(64)
    text = ctypes.create_string_buffer(size.value)
    try:
        sysctl = ctypes.CDLL(None).sysctlbyname
        failed = sysctl(b"kern.bootsessionuuid", text, ctypes.byref(size), None, ctypes.c_size_t(0))
    except (AttributeError, OSError):
        return ""  # another system
    return "" if failed else text.value.decode(errors="replace")


def since_boot() -> float:
    """Seconds since the boot, asleep ones too: to be compared with those of the same boot."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def start_time(pid: int) -> float:
    """When a process was started; 0 if it is not there, or has ended and waits to be buried.

    In seconds since the boot on Linux, elsewhere since the epoch: to be compared with others of
    the same boot alone.
    """
    if not sys.platform.startswith("linux"):
        return _start_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return 0.0
    fields = stat[stat.rindex(b")") + 1 :].split()  # its name, before, may hold anything
    if fields[0] in (b"Z", b"X"):
        return 0.0
    # The first processes of a boot start at its tick 0, which is not to mean that they are gone.
    return max(1, int(fields[19])) / os.sysconf("SC_CLK_TCK")


def _start_elsewhere(pid: int) -> float:
    import psutil

    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0.0


def wall_time(started: float) -> float:
    """A start time in seconds since the epoch, by the clock as it is set now."""
    if not sys.platform.startswith("linux"):
        return started
    return time.time() - since_boot() + started


def is_alive(pid: int, started: float) -> bool:
    """Whether this very process lives on this host; any with its pid if `started` is 0."""
    now = start_time(pid)
    return bool(now) and (not started or abs(now - started) < _SAME_START_S)


class Watch:
    """Watches one process. Where the kernel can, `fd` becomes readable when it ends."""

    def __init__(self, pid: int, started: float) -> None:
        self.pid = pid
        self._started = started
        self.fd = -1
        open_pidfd: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
        if open_pidfd is not None:
            try:
                self.fd = open_pidfd(pid)
            except OSError:
                pass  # it is gone, or the kernel is too old: `is_over` finds out

    def has_signalled(self, within_ms: int = 0) -> bool:
        """Whether the descriptor tells that it has ended, or does so in this time: cheap."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return bool(poller.poll(within_ms))

    def is_over(self) -> bool:
        """Whether it has ended."""
        return not is_alive(self.pid, self._started)

    def close(self) -> None:
        """Stop watching."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
