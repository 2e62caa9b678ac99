"""When another block may be tried: failures in a row back off and pause, success forgets them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from fxhpc.interchange.blocks.scaling import TRIES
from fxhpc.units import format_duration

#: Seconds until the next block after a failure, doubled for each in a row, and at most.
FIRST_S, LONGEST_S = 10.0, 600.0

#: Seconds until one block is tried although scaling is paused, doubled for each, and at most.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1800.0, 4 * 3600.0

#: Failures that are remembered for people.
REMEMBERED = 3


class Failure(NamedTuple):
    """A block that failed: which, why in words, and when."""

    block: int
    why: str
    at: float


class Backoff:
    """How the blocks of late have fared.

    Args:
        remedy: what people do when what they failed of is mended.

    Attributes:
        failures: blocks that failed since one registered, in a row.
        proven: a block has registered.
        last: what happened to the last one that failed, in words; empty after a success.
        recent: the last ones that failed, whatever came after them.
        trouble: why the batch system could not be reached when it was asked for a block last.
    """

    def __init__(self, remedy: str) -> None:
        self._remedy = remedy
        self.failures = 0
        self.proven = False
        self.last = ""
        self.recent: deque[Failure] = deque(maxlen=REMEMBERED)
        self.trouble = ""
        self._troubles = 0
        self._pauses = 0
        self._paused_until: float | None = None
        self._not_before = 0.0
        self._short = 0
        self._short_until = 0.0

    @property
    def paused(self) -> bool:
        """Whether no blocks are asked for until somebody acts, but for one now and then."""
        return self._paused_until is not None

    def may_submit(self, now: float) -> bool:
        """Whether a block may be asked for."""
        until = max(self._not_before, self._short_until, self._paused_until or 0.0)
        return now >= until

    def failed(self, block: int, why: str, now: float, *, fatal: bool = False) -> None:
        """A block was refused, or ended before it was of use.

        Args:
            block: its number.
            why: what happened, in words.
            fatal: another one would end the same way.
        """
        self.failures += 1
        self._remember(block, why, now)
        if fatal or self.failures >= TRIES:
            if self._paused_until is None or now >= self._paused_until:
                pause = min(FIRST_PAUSE_S * 2**self._pauses, LONGEST_PAUSE_S)
                self._paused_until = now + pause
                self._pauses += 1
        else:
            wait = min(FIRST_S * 2 ** (self.failures - 1), LONGEST_S)
            self._not_before = max(self._not_before, now + wait)

    def short_lived(self, block: int, why: str, now: float) -> None:
        """A block ended by itself just after it had become of use. Its success counts less each
        time: so blocks that cannot live do not follow each other for ever.
        """
        self._short = min(self._short + 1, 30)
        self._short_until = now + min(FIRST_S * 2 ** (self._short - 1), LONGEST_S)
        self._remember(block, why, now)
        if self._short >= TRIES:
            self.failures = max(self.failures, TRIES - 1)
            self.failed(block, why, now)

    def _remember(self, block: int, why: str, now: float) -> None:
        self.last = why
        failure = Failure(block, why, now)
        if failure not in self.recent:
            self.recent.append(failure)

    def lived(self) -> None:
        """A block has lived for as long as one may expect."""
        self._short = 0
        self._short_until = 0.0

    def unreachable(self, why: str, now: float) -> None:
        """The batch system could not be asked: no block is to blame."""
        self._troubles = min(self._troubles + 1, 30)
        self.trouble = why
        wait = min(FIRST_S * 2 ** (self._troubles - 1), LONGEST_S)
        self._not_before = max(self._not_before, now + wait)

    def reached(self) -> None:
        """The batch system has taken a block."""
        self._troubles = 0
        self.trouble = ""

    def answers(self, now: float) -> None:
        """The batch system answers again, other questions too: a long wait is cut short."""
        if self.trouble and not self.failures:
            self._not_before = min(self._not_before, now + FIRST_S)

    def succeeded(self) -> None:
        """A block's manager has registered."""
        self.proven = True
        self.failures = self._pauses = 0
        self.last = ""
        self._paused_until = None
        self._not_before = 0.0

    def reason(self, now: float) -> str:
        """Why no block is asked for now; empty if nothing speaks against it."""
        if self._paused_until is not None:
            failed = f"{self.failures} failed block" + "s" * (self.failures != 1)
            words = f"scaling is paused after {failed}: {_sentence(self.last)}; fix it, then: "
            words += self._remedy
            left = self._paused_until - now
            if left > 0:
                words += f" (one block is tried in {_minutes(left)})"
            return words
        if self.trouble:
            return f"the batch system cannot be reached, it is asked again: {self.trouble}"
        return self.last


def _sentence(text: str) -> str:
    return text.rstrip(". \n")


def _minutes(seconds: float) -> str:
    """Rounded up, so that a report changes once a minute."""
    if seconds <= 60:
        return "a minute"
    return format_duration(-(-seconds // 60) * 60)
