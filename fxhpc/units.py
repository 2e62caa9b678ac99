"""Sizes and durations for people: how they are shown in messages."""

from __future__ import annotations

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
