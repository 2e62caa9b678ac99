"""What a user declares of tasks: how long they may take, and how much of their output is kept."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from fxhpc import errors
from fxhpc.durations import EXAMPLES, parse_duration

#: Bytes of stdout, and of stderr, that `capture_output=True` keeps; and the most that can be kept.
CAPTURE_BYTES = 64 * 1024
MAX_CAPTURE_BYTES = 2**20

_KNOWN = (
    "'walltime': how long a task takes at most, in seconds or as '90m' or '01:30:00'. It is not "
    "started in a block that ends sooner, and is ended if it takes longer"
)


class Declared(NamedTuple):
    """What the tasks of a stream are declared to be."""

    walltime_s: float = 0.0  # 0: nobody knows
    capture: int = 0  # bytes of stdout, and of stderr, that are kept


NOTHING_DECLARED = Declared()


class Declaring:
    """What `Executor` and `FuncXClient` let users say of the tasks that they submit next.

    Attributes:
        declared: the same, as streams have it.
    """

    declared: Declared = NOTHING_DECLARED
    _specification: Mapping[str, Any] | None = None

    @property
    def resource_specification(self) -> Mapping[str, Any] | None:
        """What the next tasks need: `{"walltime": seconds, or "90m", or "01:30:00"}`."""
        return self._specification

    @resource_specification.setter
    def resource_specification(self, specification: Mapping[str, Any] | None) -> None:
        self.declared = self.declared._replace(walltime_s=walltime_of(specification))
        self._specification = specification

    @property
    def capture_output(self) -> int:
        """Bytes of stdout, and of stderr, that are kept of each of the next tasks."""
        return self.declared.capture

    @capture_output.setter
    def capture_output(self, capture: bool | int | None) -> None:
        self.declared = self.declared._replace(capture=capture_bytes(capture))


def walltime_of(specification: Mapping[str, Any] | None) -> float:
    """Seconds that a task takes at most, by a resource_specification; 0 if it does not say.

    Raises:
        UsageError: it is no dictionary, has a key that nobody knows here, or no duration.
    """
    if specification is None:
        return 0.0
    if not isinstance(specification, Mapping):
        raise errors.UsageError(
            f"resource_specification is a dictionary, not {type(specification).__name__}; "
            f"it may have {_KNOWN}."
        )
    unknown = [repr(key) for key in specification if key != "walltime"]
    if unknown:
        raise errors.UsageError(
            f"resource_specification has {', '.join(unknown)}, which fxhpc does not know. "
            f"It knows {_KNOWN}."
        )
    given = specification.get("walltime")
    if given is None:
        return 0.0
    try:
        # NumPy's integers are no int; a duration is one.
        is_whole = hasattr(given, "__index__") and not isinstance(given, bool)
        seconds = parse_duration(operator.index(given) if is_whole else given)
    except (TypeError, ValueError) as error:
        raise errors.UsageError(f"resource_specification: 'walltime' {error}.") from None
    if seconds <= 0:
        raise errors.UsageError(
            f"resource_specification: 'walltime' is {given!r}, and must be more than 0; {EXAMPLES}."
        )
    return seconds


def capture_bytes(capture_output: bool | int | None) -> int:
    """Bytes of a task's stdout, and of its stderr, that are kept.

    Args:
        capture_output: True for 64 KB, or a number of bytes of at most 1 MB.

    Raises:
        UsageError: it is something else.
    """
    if capture_output is None or capture_output is False:
        return 0
    if capture_output is True:
        return CAPTURE_BYTES
    try:
        size = operator.index(capture_output)  # NumPy's, too
    except TypeError:
        size = -1
    if not 0 <= size <= MAX_CAPTURE_BYTES:
        raise errors.UsageError(
            f"capture_output is {capture_output!r}; it is True (the last {CAPTURE_BYTES:,} bytes "
            f"of stdout and of stderr are kept) or a number of bytes up to {MAX_CAPTURE_BYTES:,}."
        )
    return size
