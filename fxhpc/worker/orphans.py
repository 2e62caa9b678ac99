"""Buries what tasks leave behind and nobody else can: processes that have lost their own parents.

A worker adopts them, so that they end with it. When they end before, they stay zombies until it
asks how they ended, and enough of these use up the host's pids. Those that a task may still ask
for are left alone: the processes that an object in this interpreter stands for.
"""

from __future__ import annotations

import gc
import os
import time

#: So many children are left alone: the usual task has one or two, and waits for them.
LEFT = 64

#: Seconds between two looks.
LOOK_S = 1.0


class Orphans:
    """Looks now and then how many children there are, and buries the dead if they are many."""

    def __init__(self) -> None:
        self._children = f"/proc/self/task/{os.getpid()}/children"
        self.look_at = 0.0  #: the next look is wanted then, by time.perf_counter()

    def look(self) -> None:
        """Bury those that have ended, if there are too many children."""
        began = time.perf_counter()
        found = self._found()
        if len(found) > LEFT:
            awaited = _awaited()
            for pid in found:
                if pid not in awaited:
                    _bury(pid)
        now = time.perf_counter()
        # Where many live on, looking costs little of the time, however much it costs.
        self.look_at = now + max(LOOK_S, 100 * (now - began))

    def _found(self) -> list[int]:
        try:
            with open(self._children, encoding="ascii") as file:
                return list(map(int, file.read().split()))
        except (OSError, ValueError):
            return []  # not Linux, or a kernel without this file


def _awaited() -> set[int]:
    """The processes that an object stands for: of subprocess, of multiprocessing."""
    found: set[int] = set()
    for one in gc.get_objects():
        if type(one).__name__ == "Popen":  # a library may have one of its own, as loky has
            try:
                pid = one.pid
            except Exception:
                continue  # whatever it is, it stands for no process
            if isinstance(pid, int):
                found.add(pid)
    return found


def _bury(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
