"""A condition that Ctrl-C leaves neither taken for good nor released twice."""

from __future__ import annotations

import operator
import threading

from fxhpc import interrupts


class Condition(threading.Condition):
    """`threading.Condition`, but `with` takes its lock itself.

    The base class does so in methods of Python, where Ctrl-C may come when the lock was just taken,
    or is about to be released. `with` looks both up before it enters, and calls them without any
    Python in between; that costs less, too.
    """

    def wait(self, timeout: float | None = None) -> bool:
        """Wait to be notified; False also if it is worth another look, see `interrupts.acquire`."""
        return super().wait(interrupts.LOOK_S if timeout is None else timeout)

    def renew(self) -> None:
        """This is a forked child: who held it is not here, unless this thread did; nobody waits."""
        if not self._is_owned():  # type: ignore[attr-defined]
            self._at_fork_reinit()  # type: ignore[attr-defined]

    __enter__ = property(operator.attrgetter("_lock.__enter__"))
    __exit__ = property(operator.attrgetter("_lock.__exit__"))
