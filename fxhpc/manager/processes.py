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

#: What starts processes on other nodes; MPICH's mpiexec may be mpiexec.hydra, too.
_LAUNCHERS = ("srun", "mpiexec", "mpirun", "orterun", "prterun", "aprun")


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
    dies when the call is over. Launchers of ranks are asked first, see `_end_launchers`.
    """
    me = os.getpid()
    until = time.monotonic() + within_s
    while found := [pid for pid in children(me) if pid not in spare]:
        _end_launchers(found)
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


def _end_launchers(pids: list[int], within_s: float = 0.5) -> bool:
    """Have those of these processes end that have others on other nodes: srun ends these at SIGTERM
    alone, and there may be nobody else there who does. Whether there are any."""
    asked = told = [pid for pid in pids if _name(pid).startswith(_LAUNCHERS)]
    for pid in asked:
        try:
            os.kill(pid, signal.SIGTERM)
        except OSError:
            pass
    until = time.monotonic() + within_s
    while asked and time.monotonic() < until:
        time.sleep(0.002)
        asked = [pid for pid in asked if _name(pid).startswith(_LAUNCHERS)]
    return bool(told)


def _name(pid: int) -> str:
    """What a process runs; empty: it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            name, _, rest = file.read().partition(b" (")[2].rpartition(b") ")
    except OSError:
        return ""
    return "" if rest.startswith(b"Z") else os.fsdecode(name)


def end_marked(name: str, value: str) -> int:
    """Kill this user's processes in whose environment this variable stands, as they were started
    with it; how many. Not this one, nor those that it descends from. Launchers are asked first.
    """
    mark = f"{name}={value}".encode()
    first = left = _marked(mark)
    if _end_launchers(first):
        left = _marked(mark)  # who has ended meanwhile may have a successor with its pid
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass  # another user's, or it has ended
    return len(first)


def _marked(mark: bytes) -> list[int]:
    """The processes in whose environment this stands, of those whose environment can be read. Not
    this one, nor those that it descends from."""
    spare = _line(os.getpid())
    found: list[int] = []
    try:
        names = [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []  # no /proc
    for name in names:
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0") and int(name) not in spare:
                    found.append(int(name))
        except OSError:
            pass  # another user's, or it has ended
    return found


def _line(pid: int) -> set[int]:
    """This process, and those that it descends from."""
    line: set[int] = set()
    while pid > 0 and pid not in line:
        line.add(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            break
    return line


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
