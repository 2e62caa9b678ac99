"""Decides when a limited worker is looked at next: soon if it may be over its limit soon.

No I/O. A look costs little, and there may be a hundred such workers on a node; but a task fills a
gigabyte in less than a second.
"""

from __future__ import annotations

from typing import NamedTuple

#: Seconds between two looks: near the limit, and far from it.
SHORTEST_S, LONGEST_S = 0.01, 0.2

#: Bytes that a process fills in a second, at most. One that has been seen to be faster is expected
#: to be so again.
FILL_BYTES_S = 2 * 2**30

#: Looks at which a worker used no more than before double the time until the next, so often.
_DOUBLINGS = 3


class Over(NamedTuple):
    """A worker is over its limit."""

    worker: int
    used: int  # bytes, with all that it has started
    limit: int
    killed: bool = False  # the kernel has killed it for that, or what it has started
    before: int = 0  # bytes that it used when it was last looked at before it began what it is at


class Nearing:
    """What is known of a worker's use of memory.

    Args:
        limit: bytes.
        now: seconds, of a monotonic clock.

    Attributes:
        used: bytes, at the last look.
        at: when that was.
        due: when it is to be looked at next.
    """

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.used = 0
        self.at = now
        self.due = now
        self._quiet = 0

    def note(self, used: int, now: float, least_s: float = 0.0) -> None:
        """It was looked at.

        Args:
            used: bytes; more than the limit, if it was found not to be over it after all.
            least_s: until the next look, since this one was dear.
        """
        grown = used - self.used
        # A few pages come and go in each task.
        self._quiet = 0 if grown > self.limit >> 8 else min(self._quiet + 1, _DOUBLINGS)
        speed = FILL_BYTES_S
        if self.used and now > self.at:
            speed = max(speed, int(2 * grown / (now - self.at)))
        soon_s = max(SHORTEST_S, (self.limit - used) / speed) * 2**self._quiet
        self.used, self.at = used, now
        self.due = now + max(min(LONGEST_S, soon_s), least_s)
