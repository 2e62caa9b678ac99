"""Control groups of the kernel, one for each limited worker: made, entered, read and removed."""

from __future__ import annotations

import os
from pathlib import Path

from fxhpc.cores import memory_cgroups
from fxhpc.manager.resources.trees import descendants

#: Before the pid of the manager whose groups these are, and the number of a worker.
_PREFIX = "fxhpc-"
#: The group of all but the limited workers, where version 2 wants one.
_REST = "rest"

_KILLS = b"oom_kill"  # of the counters


class Group:
    """The group of one worker.

    Args:
        folder: its directory.
        limit: bytes.

    Attributes:
        folder: its directory.

    Raises:
        OSError: it cannot be limited, or the kernel does not count what it kills for that.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        if (folder / "memory.max").exists():
            self._peak, counter = "memory.peak", "memory.events"
            _write(folder / "memory.max", limit)
            _try(folder / "memory.swap.max", 0)
            _try(folder / "memory.oom.group", 1)
        else:
            self._peak, counter = "memory.max_usage_in_bytes", "memory.oom_control"
            _write(folder / "memory.limit_in_bytes", limit)
            _try(folder / "memory.memsw.limit_in_bytes", limit)
        self._counter = os.open(folder / counter, os.O_RDONLY | os.O_CLOEXEC)
        self._kills = self._read_kills()
        if self._kills < 0:
            os.close(self._counter)
            raise OSError(f"{folder / counter} has no {_KILLS.decode()}")

    def enter(self, pid: int) -> None:
        """Have a process in it, and what it starts from now on.

        Raises:
            OSError: it is gone, or not allowed.
        """
        _write(self.folder / "cgroup.procs", pid)

    def has_killed(self) -> bool:
        """Whether the kernel has killed a process of it, because it had reached its limit."""
        return self._read_kills() > self._kills

    def forgive(self) -> None:
        """What it has killed until now does not count."""
        self._kills = self._read_kills()

    def used(self) -> int:
        """Bytes that it has used at most."""
        text = _text(self.folder / self._peak).strip()
        return int(text) if text.isdigit() else 0

    def close(self) -> None:
        """Let go of it."""
        os.close(self._counter)

    def _read_kills(self) -> int:
        try:
            text = os.pread(self._counter, 4096, 0)
        except OSError:
            return -1
        for line in text.splitlines():
            name, _, value = line.partition(b" ")
            if name == _KILLS and value.strip().isdigit():
                return int(value)
        return -1


class Groups:
    """The groups of one manager, below its own.

    Args:
        own: the group that this process is in; None: what the kernel says.
        in_job: it belongs to a batch job: version 2 has one tree of groups for all, by which batch
            systems find what belongs to a job, so that nobody else may change it there.
    """

    def __init__(self, own: Path | None = None, in_job: bool = False) -> None:
        if own is None:
            own = next(iter(memory_cgroups()), None)
        self._own = own
        self._in_job = in_job
        self._usable: bool | None = None  # not tried yet
        self._rest: Path | None = None
        if own is not None:
            _remove_left_behind(own)
        self._left: list[Path] = []  # that somebody was still in when they were to be removed

    def make(self, number: int, pid: int, limit: int) -> Group | None:
        """A group of so many bytes, in which this process is from now on. None: not allowed here.

        Args:
            number: of the worker, whose pid it is.
        """
        if self._own is None:
            return None
        if self._usable is None:
            self._usable = self._prepare(self._own)
        if not self._usable:
            return None
        folder = self._own / f"{_PREFIX}{os.getpid()}-{number}"
        try:
            folder.mkdir()
        except OSError:
            self._usable = False
            return None
        group: Group | None = None
        try:
            group = Group(folder, limit)
            group.enter(pid)
        except OSError:
            self._usable = False
            if group is not None:
                group.close()
            _remove(folder)
            return None
        return group

    def remove(self, group: Group) -> None:
        """Remove a group: now if nobody is in it, else when that is so."""
        group.close()
        self._left = [folder for folder in [*self._left, group.folder] if not _remove(folder)]

    def close(self) -> None:
        """Leave the groups as they were found, when no limited worker is there any more."""
        self._left = [folder for folder in self._left if not _remove(folder)]
        rest, self._rest = self._rest, None
        if rest is not None and self._own is not None:
            _try(self._own / "cgroup.subtree_control", "-memory")
            for pid in _text(rest / "cgroup.procs").split():
                _try(self._own / "cgroup.procs", pid)
            _remove(rest)
        self._usable = None

    def _prepare(self, own: Path) -> bool:
        """Whether groups can be made here."""
        if not os.access(own, os.W_OK):
            return False
        if not (own / "cgroup.subtree_control").exists():
            return (own / "memory.limit_in_bytes").exists()
        if self._in_job:
            return False
        if "memory" in _text(own / "cgroup.subtree_control").split():
            return True
        if "memory" not in _text(own / "cgroup.controllers").split():
            return False
        return self._make_way(own)

    def _make_way(self, own: Path) -> bool:
        """Version 2 limits groups below this one when nobody is in it: have a group for all.

        Only if they are all this manager's own: nobody else is moved.
        """
        pids = _text(own / "cgroup.procs").split()
        if not {os.getpid(), *descendants(os.getpid())}.issuperset(map(int, pids)):
            return False
        rest = own / f"{_PREFIX}{os.getpid()}-{_REST}"
        try:
            rest.mkdir()
            for pid in pids:
                _write(rest / "cgroup.procs", pid)
            _write(own / "cgroup.subtree_control", "+memory")
        except OSError:
            for pid in pids:
                _try(own / "cgroup.procs", pid)
            _remove(rest)
            return False
        self._rest = rest
        return True


def _remove_left_behind(own: Path) -> None:
    """Remove the groups of managers that were killed."""
    for folder in own.glob(f"{_PREFIX}[0-9]*-*"):
        pid = folder.name[len(_PREFIX) :].partition("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            _remove(folder)


def _remove(folder: Path) -> bool:
    """Whether it is gone. If somebody is in it when this manager ends, the next one removes it."""
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True


def _write(path: Path, value: object) -> None:
    path.write_text(str(value))


def _try(path: Path, value: object) -> None:
    try:
        _write(path, value)
    except OSError:
        pass  # this kernel does not have it, or does not count that


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
