"""Tells whether the kernel killed a worker because memory ran out, by its counters of kills."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fxhpc.cores import memory_cgroups
from fxhpc.units import format_bytes

#: Seconds between two looks at the counters. A kill is noticed if it was within the last one or
#: two of them, so that one of long ago explains no death of now.
LOOK_S = 5.0

#: Limits above this are none: what version 1 says where nothing is limited.
_NO_LIMIT = 2**60

_COUNTER = "oom_kill"


class OomKills:
    """Compares the kernel's counters now with those of some seconds ago.

    The counter of the own cgroup says that a process of this job was killed. That of the machine is
    asked where there is none, or the worker was moved to another cgroup.

    Args:
        folders: the own cgroup, then those above it.
        machine: the file with the machine's counter.
    """

    def __init__(
        self, folders: Sequence[Path] | None = None, machine: Path = Path("/proc/vmstat")
    ) -> None:
        self._folders = list(memory_cgroups() if folders is None else folders)
        self._counters = [_Counter([machine])]
        if self._folders:
            own = self._folders[0]
            self._counters.insert(0, _Counter([own / "memory.events", own / "memory.oom_control"]))
        self._looked = float("-inf")

    def look(self, now: float) -> None:
        """Note the counters, if that was not done for a while."""
        if now - self._looked >= LOOK_S:
            self._looked = now
            for counter in self._counters:
                counter.look()

    def evidence(self) -> str:
        """What shows that a process killed just now was killed for memory: a sentence; or empty."""
        risen = [counter.take() for counter in self._counters]
        if self._folders and risen[0]:
            return (
                f"The kernel killed a process of its cgroup {self._folders[0]} at that time, "
                f"because memory ran out{self._limit()}."
            )
        if risen[-1]:
            return "The kernel killed a process of that host at that time, because memory ran out."
        return ""

    def _limit(self) -> str:
        limits = [(limit, folder) for folder in self._folders if (limit := _limit_of(folder))]
        if not limits:
            return ""
        limit, folder = min(limits)
        names = ("memory.peak", "memory.max_usage_in_bytes")
        peak = max((_number_in(folder / name) for name in names), default=0)
        used = f", most used {format_bytes(peak)}" if peak else ""
        return f" (limit {format_bytes(limit)}{used})"


class _Counter:
    """One counter of kills, and what it was at the last two looks."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._before = self._newer = self._read()

    def look(self) -> None:
        self._before, self._newer = self._newer, self._read()

    def take(self) -> bool:
        """Whether there was a kill that explains no death yet; it explains one from now on."""
        risen = self._read() > self._before
        if risen:
            self._before += 1
            self._newer = max(self._newer, self._before)
        return risen

    def _read(self) -> int:
        for path in self._files:
            for line in _text(path).splitlines():
                name, _, value = line.partition(" ")
                if name == _COUNTER and value.strip().isdigit():
                    return int(value)
        return 0


def _limit_of(folder: Path) -> int:
    limits = [_number_in(folder / name) for name in ("memory.max", "memory.limit_in_bytes")]
    return next((limit for limit in limits if 0 < limit < _NO_LIMIT), 0)


def _number_in(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
