"""How people write durations and sizes in a configuration, and what they mean in numbers."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from fxhpc.durations import finite, parse_duration

_SIZE_EXAMPLES = "write for example 4GB, '512 MiB' or a number of"

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


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
        return int(finite(float(value), value) * unit)
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
