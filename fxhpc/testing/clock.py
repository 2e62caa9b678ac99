"""A clock that stands still until a test moves it."""

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
