"""How people write durations and sizes in a configuration, and what they mean in numbers."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

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
_DURATION_EXAMPLES = "write for example 90, '30 min', '1h30m' or '01:30:00'"
_SIZE_EXAMPLES = "write for example 4GB, '512 MiB' or a number of"

#: Days, then hours, minutes and seconds, as Slurm writes them: 2-12:30:00.
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+(?:\.\d+)?))?")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)")
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+")
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


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
        raise ValueError(f"is not a duration; {_DURATION_EXAMPLES}")
    if isinstance(value, (int, float)):
        return _sane(float(value), value)
    if not isinstance(value, str):
        raise ValueError(f"is not a duration; {_DURATION_EXAMPLES}")
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return _sane(float(text), value)
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return _sane(_clock_seconds(clock, value), value)
    return _sane(_worded_seconds(text, value), value)


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
        raise ValueError(f"{value!r} has a field of 60 or more; {_DURATION_EXAMPLES}")
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
                f"{value!r}: {match[2]!r} is no unit of time (s, min, h, d); {_DURATION_EXAMPLES}"
            )
        total += float(match[1]) * factor
        at = match.end()
    if at == 0 or text[at:].strip():
        raise ValueError(f"{value!r} is not a duration; {_DURATION_EXAMPLES}")
    return total


def _sane(number: float, value: object) -> float:
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} must be a finite number, 0 or more")
    return number


def clock(seconds: float) -> str:
    """A duration as batch systems take it, HH:MM:SS.

    >>> clock(90061)
    '25:01:01'
    """
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02d}"


def parse_size(value: Any, unit: int = 1, unit_name: str = "bytes") -> int:
    """Bytes of a size: '4GB', '512 MiB', or a plain number in `unit`s. A KB is 1,024 bytes.

    Raises:
        ValueError: it is none; the text names the ways to write one.

    >>> parse_size("512 MiB"), parse_size(4, 2**30)
    (536870912, 4294967296)
    """
    wrong = f"{value!r} is not a size; {_SIZE_EXAMPLES} {unit_name}"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(wrong)
    if not isinstance(value, str):
        return int(_sane(float(value), value) * unit)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(wrong)
    letters = match[2].lower()
    if not letters:
        return int(float(match[1]) * unit)
    power = _POWERS.get(letters.removesuffix("b").removesuffix("i"))
    if power is None or letters in ("i", "ib"):
        raise ValueError(wrong)
    return int(float(match[1]) * 1024**power)


def _gigabytes(value: Any) -> int:
    return parse_size(value, 2**30, "GB")


def _whole_gigabytes(value: Any) -> int:
    size = _gigabytes(value)
    whole = math.ceil(size / 2**30)
    if whole < 1:
        raise ValueError(f"{value!r}: at least 1 GB")
    return whole


_DURATION_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}],
    "examples": [90, "30 min", "1h30m", "01:30:00", "2-12:00:00"],
}
_SIZE_SCHEMA = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}

#: Seconds.
Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
#: Bytes; a plain number is bytes.
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({**_SIZE_SCHEMA, "examples": [5242880, "5MB"]}),
]
#: Bytes; a plain number is GB, as Parsl has it.
Memory = Annotated[
    int, BeforeValidator(_gigabytes), WithJsonSchema({**_SIZE_SCHEMA, "examples": [4, "4GB"]})
]
#: Whole GB, rounded up, as Parsl's providers have it.
Gigabytes = Annotated[
    int,
    BeforeValidator(_whole_gigabytes),
    WithJsonSchema({**_SIZE_SCHEMA, "examples": [128, "128GB"]}),
]
