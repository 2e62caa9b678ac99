"""Watches what limited workers and all that they have started use of memory: who is over, and by
how much.

Where this process may make control groups, each limited worker has one, and the kernel keeps the
limit. Elsewhere, as in most batch jobs, what they use is looked at: seldom far from the limit, a
hundred times a second near it.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable

from fxhpc.manager.resources.groups import Group, Groups
from fxhpc.manager.resources.nearing import SHORTEST_S, Nearing, Over
from fxhpc.manager.resources.trees import Tree

#: Where a worker is only looked at, its process gets no more private memory than twice its limit
#: and this: what fills memory faster than anybody looks then gets a MemoryError. It is not the
#: limit itself, since here what was asked for counts and not what is used.
SPARE_BYTES = 512 * 2**20

#: Of the manager's time, the part that looks at a worker may take.
_SHARE = 0.05

#: Looks that would be due within this part of the time that one waits for, are made with it.
_TOGETHER = 0.25

log = logging.getLogger("fxhpc.manager")


class _Exact(threading.Thread):
    """Looks exactly, which may take seconds, while the manager goes on."""

    def __init__(self, tree: Tree, limit: int) -> None:
        super().__init__(name="fxhpc-memory", daemon=True)
        self._tree = tree
        self._limit = limit
        self.used = 0
        self.took_s = 0.0

    def run(self) -> None:
        begin = time.monotonic()
        self.used = self._tree.exact(self._limit)
        self.took_s = time.monotonic() - begin


class _Watched:
    """One limited worker: in a group, or only looked at.

    Attributes:
        before: bytes that it used when it was last looked at before it began what it is at.
    """

    def __init__(self, limit: int, now: float, group: Group | None, tree: Tree | None) -> None:
        self.before = 0
        self.nearing = Nearing(limit, now)
        self.group = group
        self.tree = tree
        self.told = False
        self._task = 0  # that it was at, at the last look
        self._exact: _Exact | None = None

    def over(self, now: float, task: int) -> tuple[int, bool] | None:
        """What it uses, and whether the kernel has killed for that; None: it is below its limit.

        Args:
            task: that it is at. What another did before is not laid to this one.
        """
        is_same = self.is_at(task)
        if self.group is not None and self.group.has_killed():
            if is_same:
                return max(self.group.used(), self.nearing.limit), True
            self.group.forgive()  # who has lost a process by that has dealt with it
        if self.tree is not None:
            return self._looked_at(self.tree, now, is_same)
        return None

    def is_at(self, task: int) -> bool:
        """Note what it is at; whether it was at that at the last look."""
        if task == self._task:
            return True
        self._task, self.before = task, self.nearing.used
        return False

    def _looked_at(self, tree: Tree, now: float, is_same: bool) -> tuple[int, bool] | None:
        limit = self.nearing.limit
        if self._exact is None:
            begin = time.monotonic()
            used = tree.estimate(now)
            self.nearing.note(used, now, (time.monotonic() - begin) / _SHARE)
            if used > limit and self.group is None:
                self._exact = _Exact(tree, limit)
                self._exact.start()
                self.nearing.due = now + SHORTEST_S
        elif self._exact.is_alive():
            self.nearing.due = now + SHORTEST_S
        else:
            exact, self._exact = self._exact, None
            if exact.used > limit and is_same:
                return exact.used, False
            # What its processes share counts for each of them in an estimate.
            self.nearing.note(self.nearing.used, now, exact.took_s)
        return None


class Limits:
    """The limited workers of a manager.

    Args:
        groups: where their groups are made; None: they are looked at.
    """

    def __init__(self, groups: Groups | None) -> None:
        self._groups = groups
        self._watched: dict[int, _Watched] = {}
        self._due = float("inf")

    def watch(self, worker: int, pid: int, limit: int, now: float, *, grouped: bool = True) -> None:
        """Begin, before the worker runs anything.

        Args:
            limit: bytes, of the process with this pid and all that it will have started.
            grouped: it may have a control group here; who is in a container has one of that.
        """
        self.forget(worker)
        group: Group | None = None
        if grouped and self._groups is not None:
            group = self._groups.make(worker, pid, limit)
        tree: Tree | None = None
        try:
            tree = Tree(pid)
            if group is None:
                _stop_short_of(pid, 2 * limit + SPARE_BYTES)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it is gone already, which its parent tells
        except OSError as error:
            if group is None:
                log.warning("nobody looks how much memory worker %d uses: %s", worker, error)
        self._watched[worker] = _Watched(limit, now, group, tree)
        self._due = min(self._due, now)

    def look(self, now: float, task_of: Callable[[int], int] = lambda worker: 0) -> list[Over]:
        """Those that are over their limits, each once.

        Args:
            task_of: which task a worker is at: a number that changes with the task.
        """
        if now < self._due:
            return []
        found: list[Over] = []
        soon = float("inf")
        for worker, watched in self._watched.items():
            if watched.told:
                continue
            nearing = watched.nearing
            is_due = nearing.due <= now + _TOGETHER * (nearing.due - nearing.at)
            if is_due and (over := watched.over(now, task_of(worker))):
                watched.told = True
                found.append(Over(worker, over[0], nearing.limit, over[1], watched.before))
                continue
            soon = min(soon, nearing.due)
        self._due = soon
        return found

    def ended(self, worker: int, task: int = 0) -> Over | None:
        """A worker's process has ended: whether the kernel has killed it, or what it had started,
        for its limit. It is not watched any more.

        Args:
            task: that it was at, see `look`.
        """
        watched = self._watched.pop(worker, None)
        if watched is None:
            return None
        over: Over | None = None
        if watched.group is not None and watched.group.has_killed():
            limit = watched.nearing.limit
            watched.is_at(task)
            used = max(watched.group.used(), limit)
            over = Over(worker, used, limit, killed=True, before=watched.before)
        if watched.group is not None and self._groups is not None:
            self._groups.remove(watched.group)
        if watched.tree is not None:
            watched.tree.close()
        return over

    def forget(self, worker: int) -> None:
        """Do not watch it any more."""
        self.ended(worker)

    def wait_s(self, now: float) -> float:
        """After how many seconds a look is wanted; infinite: nobody is watched."""
        return max(0.0, self._due - now)

    def close(self) -> None:
        """All workers are gone."""
        for worker in list(self._watched):
            self.forget(worker)
        if self._groups is not None:
            self._groups.close()


def _stop_short_of(pid: int, size: int) -> None:
    """Give this process, and what it will start, no more private memory than that."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
    for bound in (soft, hard):
        if bound != resource.RLIM_INFINITY:
            size = min(size, bound)
    resource.prlimit(pid, resource.RLIMIT_DATA, (size, hard))
