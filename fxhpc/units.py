"""Sizes and durations for people: how they are shown in messages, and how sizes are written."""

from __future__ import annotations

import math
import re
from typing import Any

#: The tutorial's limit on arguments and on results, in bytes of what is sent.
DEFAULT_PAYLOAD_LIMIT = 5 * 1024 * 1024

#: Payloads above this many bytes travel as frames, and lie in the store as rows, of their own.
LARGE_PAYLOAD = 64 * 1024


def format_bytes(size: int) -> str:
    """A size as people read it.

    >>> format_bytes(5 * 1024 * 1024)
    '5.0 MB'
    """
    if size < 1024:
        return f"{size} bytes"
    value = float(size)
    for unit in ("KB", "MB", "GB"):
        value /= 1024
        if value < 1024 or unit == "GB":
            return f"{value:.1f} {unit}"
    raise AssertionError("unreachable")


def format_duration(seconds: float) -> str:
    """A duration as people read it.

    >>> format_duration(93)
    '1 min 33 s'
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


_SIZE_EXAMPLES = "write for example 4GB, '512 MiB' or a number of"
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


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
        return int(_finite(float(value), wrong) * unit)
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


def _finite(number: float, wrong: str) -> float:
    if not math.isfinite(number) or number < 0:
        raise ValueError(wrong)
    return number
