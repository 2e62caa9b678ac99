"""How people write durations and sizes in a configuration, and what they mean in numbers."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from fxhpc.durations import parse_duration
from fxhpc.units import parse_size


def clock(seconds: float) -> str:
    """A duration as batch systems take it, HH:MM:SS.

    >>> clock(90061)
    '25:01:01'
    """
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02d}"


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
