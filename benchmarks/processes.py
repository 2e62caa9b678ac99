"""Processor time, memory and wake-ups of a process and all below it, read in /proc: Linux alone.

Without any package: the peers' environments have none of ours.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def family(pid: int | None = None) -> list[int]:
    """A process, this one if nothing is said, and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir(_PROC):
        if entry.isdigit() and (found := _stat(int(entry))):
            parents.setdefault(int(found[1]), []).append(int(entry))
    members = [os.getpid() if pid is None else pid]
    for one in members:
        members += parents.get(one, [])
    return members


def cpu_seconds() -> float:
    """Processor time of this process and all below it, those that have ended among them."""
    total = 0
    for pid in family():
        if found := _stat(pid):
            total += sum(map(int, found[11:15]))
    return total / _TICK


def busy_seconds() -> float:
    """The same in nanoseconds' resolution, of what lives alone."""
    total = 0
    for task in _tasks(family()):
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            pass
    return total / 1e9


def wake_ups(pids: list[int] | None = None) -> int:
    """How often all threads of these processes, by default of this one and all below it, have gone
    to sleep by themselves.
    """
    total = 0
    for task in _tasks(family() if pids is None else pids):
        try:
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total


def memory_bytes(pid: int | None = None) -> int:
    """Proportional set size of a process and all below it."""
    return sum(pss_bytes(one) for one in family(pid))


def steady_memory_bytes() -> int:
    """That of this process and all below it, once it no longer changes."""
    before = memory_bytes()
    now = before
    for _ in range(50):
        time.sleep(0.2)
        now = memory_bytes()
        if abs(now - before) < 100_000:
            break
        before = now
    return now


def pss_bytes(pid: int) -> int:
    """Proportional set size of one process: what it shares counts by its share. 0: it is gone."""
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def peak_bytes(pid: int) -> int:
    """The largest resident set that a process ever had. 0: it is gone."""
    try:
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def by_kind() -> dict[str, list[int]]:
    """This process and all below it by what they are: "client", "forwarder", "worker", ..."""
    found: dict[str, list[int]] = {}
    for pid in family():
        try:
            title = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        kind = title.split()[1] if title.startswith("fxhpc: ") else "other"
        found.setdefault("client" if pid == os.getpid() else kind, []).append(pid)
    return found


def end_all(patience_s: float = 3.0) -> None:
    """Whatever is still below this process ends."""
    until = time.monotonic() + patience_s
    while len(family()) > 1 and time.monotonic() < until:
        _reap()
        time.sleep(0.02)
    for pid in family()[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    until = time.monotonic() + patience_s
    while len(family()) > 1 and time.monotonic() < until:
        _reap()
        time.sleep(0.02)


class Peak:
    """Looks now and then how much memory a process and all below it have, in a thread."""

    def __init__(self, pid: int, every_s: float = 0.25) -> None:
        self.bytes = 0
        self._pid = pid
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Look no more: the most that was seen."""
        self._ended.set()
        self._thread.join()
        return self.bytes

    def _look(self) -> None:
        while not self._ended.wait(self._every_s):
            self.bytes = max(self.bytes, memory_bytes(self._pid))


def _stat(pid: int) -> list[str] | None:
    """What /proc/PID/stat has after the name: state, parent, ..., utime at 11."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _tasks(pids: list[int]) -> list[Path]:
    found: list[Path] = []
    for pid in pids:
        try:
            found += (_PROC / str(pid) / "task").iterdir()
        except OSError:
            pass
    return found


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
