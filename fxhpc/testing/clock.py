"""Clocks that stand still until a test moves them."""

from __future__ import annotations


class FakeClock:
    """Monotonic time in seconds, for everything that is told the time.

    Args:
        now: where it starts.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time: so that it can stand in for `time.monotonic`."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Let time pass; returns the new time.

        Raises:
            ValueError: the time would go backwards, which a monotonic clock never does.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self.now += seconds
        return self.now


class HostClock:
    """The monotonic clock of one host: it began at a moment of its own, and may have stood still.

    Args:
        clock: the time that passes for everybody.
        ahead_s: how far it is ahead of that.
    """

    def __init__(self, clock: FakeClock, ahead_s: float = 0.0) -> None:
        self._clock = clock
        self._ahead_s = ahead_s

    def __call__(self) -> float:
        """The time on this host."""
        return self._clock() + self._ahead_s

    def stand_still(self, seconds: float) -> None:
        """The host was suspended for so long, and its clock with it.

        To be called when that time has passed for everybody else, and before this clock is read.
        """
        self._ahead_s -= seconds
