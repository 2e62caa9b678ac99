"""Durations as people write them: in configurations, and where they say how long a task takes."""

from __future__ import annotations

import math
import re
from typing import Any

_UNITS_S = {
    "ms": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "w": 604800.0,
    "week": 604800.0,
}

#: What a wrong duration's error ends with.
EXAMPLES = "write for example 90, '30 min', '1h30m' or '01:30:00'"

#: Days, then hours, minutes and seconds, as Slurm writes them: 2-12:30:00.
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+(?:\.\d+)?))?")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)")
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+")


def parse_duration(value: Any) -> float:
    """Seconds of a duration: a number of seconds, '1h30m', '30 min', '01:30:00', '2-12:00:00'.

    Two numbers with a colon are minutes and seconds, as for Slurm and PBS; days before hours are
    written with a dash: '1-06' is thirty hours.

    Raises:
        ValueError: it is none; the text names the ways to write one.

    >>> parse_duration("1h30m"), parse_duration("12:30"), parse_duration("2-12:00:00")
    (5400.0, 750.0, 216000.0)
    """
    if isinstance(value, bool) or value is None:
        raise ValueError(f"{value!r} is not a duration; {EXAMPLES}")
    if isinstance(value, (int, float)):
        return finite(float(value), value)
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.200} is not a duration; {EXAMPLES}")
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return finite(float(text), value)
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return finite(_clock_seconds(clock, value), value)
    return finite(_worded_seconds(text, value), value)


def _clock_seconds(match: re.Match[str], value: object) -> float:
    days, first, second, third = match.groups()
    if days is not None:  # days-hours[:minutes[:seconds]]
        parts = [float(first), float(second or 0), float(third or 0)]
    elif third is not None:
        parts = [float(first), float(second), float(third)]
    else:
        parts = [0.0, float(first), float(second)]
    hours, minutes, seconds = parts
    if (seconds >= 60 and second is not None) or (minutes >= 60 and (days or third is not None)):
        raise ValueError(f"{value!r} has a field of 60 or more; {EXAMPLES}")
    return float(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


def _worded_seconds(text: str, value: object) -> float:
    total, at = 0.0, 0
    for match in _PART.finditer(text):
        if text[at : match.start()].strip(" ,"):
            break
        unit = match[2].lower()
        factor = _UNITS_S.get(unit) or _UNITS_S.get(unit.removesuffix("s"))
        if factor is None:
            raise ValueError(
                f"{value!r}: {match[2]!r} is no unit of time (s, min, h, d); {EXAMPLES}"
            )
        total += float(match[1]) * factor
        at = match.end()
    if at == 0 or text[at:].strip():
        raise ValueError(f"{value!r} is not a duration; {EXAMPLES}")
    return total


def finite(number: float, value: object) -> float:
    """The number, which was written as this value.

    Raises:
        ValueError: it is negative, infinite or no number.
    """
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} must be a finite number, 0 or more")
    return number
