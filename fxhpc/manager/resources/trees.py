"""Reads how much memory a process and all that descend from it use."""

from __future__ import annotations

import os
import re
import time

from fxhpc.manager import processes

#: Seconds between two searches for processes that were started by threads, which are dear where
#: there are many threads; and on a kernel that has no list of a process's children.
SEARCH_S, _SCAN_S = 1.0, 5.0

#: Seconds after which it is enough to know that more is used than allowed.
ENOUGH_S = 0.02

_KB = 1024
_READ = 8192

# Pages of files are left out: the kernel takes these back where it wants them.
_STATUS = re.compile(
    rb"^RssAnon:\s+(\d+) kB\nRssFile:\s+(\d+) kB\nRssShmem:\s+(\d+) kB$", re.MULTILINE
)
_SWAP = re.compile(rb"^VmSwap:\s+(\d+) kB$", re.MULTILINE)
_THREADS = re.compile(rb"^Threads:\s+(\d+)$", re.MULTILINE)
_PSS = re.compile(rb"^(Pss|Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB$", re.MULTILINE)


class Tree:
    """A process and its descendants. Those that outlive their parents count as long as the process
    adopts orphans, as workers do.

    Args:
        pid: of the process.

    Raises:
        OSError: it is gone.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        # These stay open: they are read often, and are never those of another with the same pid.
        self._status = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            path = f"/proc/{pid}/task/{pid}/children"
            self._children = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._children = -1
        except OSError:
            os.close(self._status)
            raise
        self._found: set[int] = set()  # that the quick way does not find
        self._search_at = 0.0

    def estimate(self, now: float) -> int:
        """Bytes that it uses at most: what several processes share counts for each of them.

        It costs some microseconds for each process. 0: it is gone.
        """
        try:
            own = os.pread(self._status, _READ, 0)
            listed = os.pread(self._children, _READ, 0) if self._children >= 0 else b""
        except OSError:
            return 0
        total = _used(own)
        threads = self._children < 0 or _has_threads(own)
        seen = {self._pid}
        wanted = [*map(int, listed.split()), *self._found]
        while wanted:
            pid = wanted.pop()
            if pid in seen:
                continue
            seen.add(pid)
            status = _read(f"/proc/{pid}/status")
            total += _used(status)
            threads = threads or _has_threads(status)
            if status:
                wanted += map(int, _read(f"/proc/{pid}/task/{pid}/children").split())
        if threads and now >= self._search_at:
            self._search_at = now + (SEARCH_S if self._children >= 0 else _SCAN_S)
            self._found = descendants(self._pid) - seen
            total += sum(_used(_read(f"/proc/{pid}/status")) for pid in self._found)
        elif not threads:
            self._found = set()
        return total

    def exact(self, limit: int) -> int:
        """Bytes that it uses, what processes share counting once. Of one that is clearly over this
        limit the rest may be left out.

        The kernel goes through all pages of all processes: a gigabyte of a process takes it some 20
        ms, so this is nothing for the loop of a manager.
        """
        total = 0
        enough = time.monotonic() + ENOUGH_S
        for pid in (self._pid, *descendants(self._pid)):
            total += _exactly(pid)
            if total > limit and time.monotonic() > enough:
                break
        return total

    def close(self) -> None:
        """Let go of it."""
        os.close(self._status)
        if self._children >= 0:
            os.close(self._children)


def descendants(pid: int) -> set[int]:
    """All that descend from a process, by way of those that are there."""
    found: set[int] = set()
    wanted = [pid]
    while wanted:
        new = set(processes.children(wanted.pop())) - found
        found |= new
        wanted += new
    return found


def _used(status: bytes) -> int:
    """Bytes by the file `status` of a process; 0: it is gone, or the kernel is too old to tell."""
    if found := _STATUS.search(status):
        swapped = _SWAP.search(status)
        parts = (found[1], found[3], swapped[1] if swapped else 0)
        return sum(map(int, parts)) * _KB
    return 0


def _has_threads(status: bytes) -> bool:
    found = _THREADS.search(status)
    return found is not None and found[1] != b"1"


def _exactly(pid: int) -> int:
    """Bytes of a process: of what others have, too, its part."""
    status = _read(f"/proc/{pid}/status")
    most = _used(status)
    parts = {
        name: int(size) * _KB for name, size in _PSS.findall(_read(f"/proc/{pid}/smaps_rollup"))
    }
    if b"Pss_Anon" in parts:
        return parts[b"Pss_Anon"] + parts.get(b"Pss_Shmem", 0) + parts.get(b"SwapPss", 0)
    if b"Pss" in parts and (found := _STATUS.search(status)):
        # Before Linux 5.9. It has no more of files' pages than all that it sees of these.
        apart = max(0, parts[b"Pss"] - int(found[2]) * _KB)
        return min(most, apart + parts.get(b"SwapPss", 0))
    return most


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _READ)
    except OSError:
        return b""
    finally:
        os.close(fd)
