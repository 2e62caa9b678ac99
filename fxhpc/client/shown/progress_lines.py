"""How far some tasks are, as a line of text, and where such lines are shown. No clock, no tasks."""

from __future__ import annotations

import html
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from fxhpc.printable import in_one_line
from fxhpc.protocol import states

#: Tasks by state, as `TaskGroup.counts` has them; PENDING where it is not known in which one.
Counts = Mapping[str, int]
PENDING = "pending"

#: Seconds that the speed is measured over.
_LATELY_S = 60.0

_ENDED = {
    states.FAILED: "failed",
    states.CANCELLED: "cancelled",
    states.UNKNOWN: "not known here",
}


def ended(counts: Counts) -> int:
    """How many have ended, or will not."""
    waiting = states.PENDING | {PENDING}
    return sum(count for state, count in counts.items() if state not in waiting)


class Speed:
    """How many end in a second."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._seen: deque[tuple[float, int]] = deque()  # lately

    def note(self, at: float, count: int) -> None:
        """So many had ended at this time, in seconds."""
        self._first = self._first or (at, count)
        self._seen.append((at, count))
        while len(self._seen) > 2 and self._seen[1][0] <= at - _LATELY_S:
            self._seen.popleft()

    @property
    def lately(self) -> float:
        """Tasks in a second, in the last minute; 0 if that is not known."""
        return self._since(self._seen[0]) if self._seen else 0.0

    @property
    def mean(self) -> float:
        """Tasks in a second, in all the time; 0 if that is not known."""
        return self._since(self._first) if self._first else 0.0

    def _since(self, then: tuple[float, int]) -> float:
        (begun, before), (at, count) = then, self._seen[-1]
        return max(0.0, (count - before) / (at - begun)) if at > begun else 0.0


def line(counts: Counts, elapsed_s: float, rate: float, label: str = "") -> str:
    """How far they are, in words.

    >>> line({"success": 40, "failed": 2, "running": 8, "waiting-for-nodes": 50}, 21.0, 2.0)
    '42 of 100 ended (42 %), 2 failed, 8 running; 0:21, 2/s, about 0:29 left'
    """
    total, over = sum(counts.values()), ended(counts)
    share = f" ({over * 100 // total} %)" if total else ""
    words = [f"{over:,} of {total:,} ended{share}"]
    words += [f"{counts[state]:,} {word}" for state, word in _ENDED.items() if counts.get(state)]
    if counts.get(states.RUNNING):
        words.append(f"{counts[states.RUNNING]:,} running")
    times = [clock(elapsed_s)]
    if rate > 0:
        times.append(f"{_rounded(rate)}/s")
        if over < total:
            times.append(f"about {clock((total - over) / rate)} left")
    told = f"{', '.join(words)}; {', '.join(times)}"
    return f"{in_one_line(label)}: {told}" if label else told


def clock(seconds: float) -> str:
    """Seconds as people write them.

    >>> clock(75), clock(3 * 86400 + 60)
    ('1:15', '3 d 0:01:00')
    """
    minutes, rest = divmod(math.floor(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.2g}"


class Display(Protocol):
    """Where lines are shown.

    Attributes:
        every_s: seconds from one to the next.
    """

    every_s: float

    def show(self, text: str, share: float) -> None:
        """Show a line in the place of the last one.

        Args:
            share: of what has ended, from 0 to 1.
        """

    def end(self) -> None:
        """The last line stays."""


class Terminal:
    """One line that is written again and again."""

    every_s = 0.2

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._length = 0

    def show(self, text: str, share: float) -> None:
        """Write over the last line, what is left of it too."""
        room = max(10, _columns(self._file) - 1)
        if len(text) > room:
            text = text[: room - 3] + "..."
        _write(self._file, "\r" + text.ljust(min(self._length, room)))
        self._length = len(text)

    def end(self) -> None:
        """Leave the line."""
        _write(self._file, "\n")


class Log:
    """A file that people read later: a line now and then."""

    every_s = 30.0

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def show(self, text: str, share: float) -> None:
        """Write one more line."""
        _write(self._file, f"fxhpc: {text}\n")

    def end(self) -> None:
        """It is written."""


def _write(file: TextIO, text: str) -> None:
    try:
        file.write(text)
    except UnicodeEncodeError:  # a label that the terminal has no letters for
        file.write(text.encode("ascii", "backslashreplace").decode())
    file.flush()


def _columns(file: TextIO) -> int:
    try:
        found = os.get_terminal_size(file.fileno()).columns
    except (OSError, ValueError, AttributeError):
        found = 0
    return found or shutil.get_terminal_size().columns


class Notebook:
    """A cell's output that is replaced.

    Args:
        display: `IPython.display.display`.
    """

    every_s = 0.5

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None

    def show(self, text: str, share: float) -> None:
        """Show a bar and the line."""
        shown = {
            "text/plain": text,
            "text/html": f'<progress value="{share:.4f}" max="1"></progress> {html.escape(text)}',
        }
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def end(self) -> None:
        """The output stays."""


class Nothing:
    """There is nowhere to show anything."""

    every_s = 30.0

    def show(self, text: str, share: float) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Nothing was shown."""
