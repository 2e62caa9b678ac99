"""How long a home's forwarder is looked for: when again, and when calls fail. No I/O, no clock."""

from __future__ import annotations

_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)  # between attempts to open the link
_STAYED_S = 1.0  # a forwarder that attached this client and lived for less counts as stillborn
_STILLBORN = 5  # such forwarders in a row until the next ones are waited for
_NEXT_S, _NEXT_LAST_S = 0.5, 5.0  # how long: doubling
_WARNING_S, _STILLBORN_WARNING_S = 10.0, 60.0


class Patience:
    """What became of a connection's attempts to find a forwarder that stays.

    Args:
        limit_s: seconds without a forwarder that are waited.
        now: since when it is looked for. All times are those of one monotonic clock.

    Attributes:
        retry_at: when the next attempt is due.
        failures: attempts in a row that found none.
        stillborn: forwarders in a row that died as soon as they had started.
    """

    def __init__(self, limit_s: float, now: float) -> None:
        self.retry_at = 0.0
        self.failures = 0
        self.stillborn = 0
        self._limit_s = limit_s
        self._since = now
        self._attached_at = now

    def begin(self, now: float) -> None:
        """From now on one is looked for."""
        self._since = now
        self.failures = 0

    def attached(self, now: float) -> None:
        """One has taken this client."""
        self._attached_at = now
        self.failures = 0

    def lost(self, now: float, was_attached: bool) -> None:
        """One is gone. The next attempt is due at once, or later if they die as they start."""
        if was_attached and now - self._attached_at >= _STAYED_S:
            self.stillborn = 0
            self.begin(now)
        else:
            self.stillborn += 1
        self.retry_at = 0.0
        if self.none_stays:
            doublings = min(self.stillborn - _STILLBORN, 10)
            self.retry_at = now + min(_NEXT_S * 2**doublings, _NEXT_LAST_S)

    def missed(self, now: float) -> float:
        """An attempt has found none; return the seconds for which there is none."""
        self.retry_at = now + _RETRY_S[min(self.failures, len(_RETRY_S) - 1)]
        self.failures += 1
        return now - self._since

    def is_over(self, now: float) -> bool:
        """Whether calls have waited long enough."""
        return now - self._since >= self._limit_s

    @property
    def none_stays(self) -> bool:
        """Whether forwarders start only to die."""
        return self.stillborn >= _STILLBORN

    @property
    def warning_s(self) -> float:
        """Seconds between warnings that one is gone."""
        return _STILLBORN_WARNING_S if self.none_stays else _WARNING_S
