"""What the system offers for parents and children: who is whose, and who ends with whom."""

from __future__ import annotations

import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_MMAP_THRESHOLD_MOST = 32 * 2**20


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent ends; at once if it has ended already.

    The signal comes when the *thread* ends that forked this process, so that must be the parent's
    only one.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parents end, in the place of process 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep_memory(bytes_: int) -> None:
    """Have the allocator keep so much free memory instead of giving it back at once.

    Otherwise each payload of a megabyte gets pages that are new to the process, and these cost
    many times what it costs to write to them.
    """
    if sys.platform != "linux":
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return  # not the GNU C library
    mallopt(_M_MMAP_THRESHOLD, min(bytes_, _M_MMAP_THRESHOLD_MOST))
    mallopt(_M_TRIM_THRESHOLD, bytes_)


def close_descriptors(spare: set[int]) -> None:
    """Close all of this process's descriptors but some."""
    try:
        open_now = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        open_now = list(range(3, 256))
    for fd in open_now:
        if fd not in spare:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that listed them


def show_where(pid: int, within_s: float = 0.05) -> None:
    """Have a child write to its standard error where in its code it is, and end of that.

    `faulthandler` does that at SIGABRT, in a process that holds the interpreter's lock too. Whoever
    blocks or handles that signal lives on, and shows nothing.
    """
    os.kill(pid, signal.SIGABRT)
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        # macOS has no such call that leaves the child to be waited for later.
        if hasattr(os, "waitid"):
            options = os.WEXITED | os.WNOWAIT | os.WNOHANG
            if os.waitid(os.P_PID, pid, options) is not None:
                return
        time.sleep(0.001)


def children(pid: int) -> list[int]:
    """The processes whose parent this is, those that have ended and nobody waited for included."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        if sys.platform == "linux" and os.path.exists("/proc/self/task"):
            if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                return found  # the process, or one of its threads, has just ended
            return _scan(pid)  # a kernel without these files
        return _scan(pid)
    except OSError:
        pass
    return found


def kill_children(spare: set[int], within_s: float = 1.0) -> None:
    """Kill all children of this process but some, and theirs, and wait for their ends.

    Whatever a child leaves behind becomes a child of this process, if it adopts orphans, so that
    this ends only when nothing is left, or the time is up: a process in an uninterruptible call
    dies when the call is over.
    """
    me = os.getpid()
    until = time.monotonic() + within_s
    while found := [pid for pid in children(me) if pid not in spare]:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for pid in found:
            while time.monotonic() < until:
                try:
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        break
                except ChildProcessError:
                    break
                time.sleep(0.001)
        if time.monotonic() >= until:
            return


def _scan(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
