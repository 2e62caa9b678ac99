"""Keeps forks of this process out of what its other threads are in the middle of.

A forked child has the one thread that forked. What the others held, it finds held for ever: the
locks of a library (SQLite's allocator), or the end of a pipe whose reader waits for its closing.
What is such is done `with forks.none:`, and a fork waits until it is done.
"""

from __future__ import annotations

import os
import threading
from collections import Counter

from fxhpc.interrupts import HeldBeyond

#: Seconds that a fork waits at most: a disk may hang, and whoever forks may be waited for.
LIMIT_S = 2.0


class _None:
    """While any thread is inside, others do not fork. May be entered again by who is inside.

    To be used for what is short, and calls no code of users.
    """

    def __init__(self) -> None:
        self._forget_all()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self.before, after_in_parent=self.after, after_in_child=self._forget_all
            )

    def _forget_all(self) -> None:
        """Also for a child, which none of these threads is in."""
        self._condition = threading.Condition()  # over an RLock: a signal's handler may fork
        self._inside: Counter[int] = Counter()  # threads, and how often they have entered
        self._forks = 0  # that are waited for, or happen

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._condition:
            waits = self._forks and me not in self._inside
            if waits and not self._condition.wait_for(lambda: not self._forks, LIMIT_S):
                self._forks = 0  # Ctrl-C came as `after` was called, it seems
            self._inside[me] += 1

    def __exit__(self, *exc: object) -> None:
        me = threading.get_ident()
        with self._condition:
            self._inside[me] -= 1
            if self._inside[me] <= 0:  # a child that was forked inside was never in
                del self._inside[me]
            if self._forks:
                self._condition.notify_all()

    def before(self) -> None:
        """A thread is about to fork: wait until no other is inside, and let none in."""
        me = threading.get_ident()
        with HeldBeyond(), self._condition:
            self._forks += 1
            self._condition.wait_for(lambda: not self._inside.keys() - {me}, LIMIT_S)

    def after(self) -> None:
        """It has forked, or failed to."""
        with HeldBeyond(), self._condition:
            self._forks = max(0, self._forks - 1)
            self._condition.notify_all()


none = _None()
