"""What identifies a task: a stream's 90 random bits and an index, shown as one UUID.

A UUID of version 8 (RFC 9562, section 5.8) leaves 122 bits to its maker. The first 90 name a
*stream*, the last 32 count the tasks of it. Its first twelve bytes, version and variant
included, are therefore the same for every task of a stream: fxhpc keeps these twelve bytes as
the stream's name, so that an id is made by a counter and taken apart by slicing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence

#: What `local` is called: the tutorial's endpoint.
LOCAL_ENDPOINT = "4b116d3c-1703-4f8f-9f6f-39921e5864df"

#: Bytes of a stream's name: 90 random bits, 4 of version, 2 of variant.
STREAM_BYTES = 12

#: Tasks that a stream can number.
STREAM_TASKS = 2**32


def new_stream() -> bytes:
    """A stream's name: 12 bytes, of which 90 bits are random."""
    raw = bytearray(os.urandom(STREAM_BYTES))
    raw[6] = 0x80 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return bytes(raw)


def stream_prefix(stream: bytes) -> str:
    """The text that the ids of all tasks of a stream begin with: 28 characters."""
    text = stream.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:24]}"


def task_id(stream: bytes, index: int) -> str:
    """The public id of a task, a UUID of 36 characters."""
    return f"{stream_prefix(stream)}{index:08x}"


def task_ids(stream: bytes, indices: Iterable[int]) -> list[str]:
    """The public ids of many tasks of one stream."""
    prefix = stream_prefix(stream)
    return [f"{prefix}{index:08x}" for index in indices]


def parse_task_id(text: str | uuid.UUID) -> tuple[bytes, int]:
    """The stream and the index of a task.

    Raises:
        ValueError: the text is no UUID, or one that no fxhpc client made.
    """
    raw = parse_uuid(text).bytes
    if raw[6] >> 4 != 8 or raw[8] >> 6 != 2:
        raise ValueError(f"{text} is a UUID, but not that of a task")
    return raw[:STREAM_BYTES], int.from_bytes(raw[STREAM_BYTES:], "big")


def parse_uuid(text: str | uuid.UUID) -> uuid.UUID:
    """A UUID from its text, or itself.

    Raises:
        ValueError: the text is no UUID.
    """
    if isinstance(text, uuid.UUID):
        return text
    if not isinstance(text, str):
        raise ValueError(f"an id is a UUID or its text, not {type(text).__name__} {text!r}")
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a UUID") from None


def new_id() -> str:
    """A random UUID, as a string: for functions and endpoints."""
    return str(uuid.uuid4())


def to_ranges(indices: Iterable[int]) -> list[int]:
    """Indices as first, count, first, count, ...: what a message or a row says of many tasks.

    >>> to_ranges([0, 1, 2, 7])
    [0, 3, 7, 1]
    """
    ranges: list[int] = []
    first = last = -2
    ordered = sorted(indices)
    if ordered and ordered == list(range(ordered[0], ordered[0] + len(ordered))):
        return [ordered[0], len(ordered)]  # as they mostly are
    for index in ordered:
        if index == last + 1:
            last = index
            continue
        if last >= 0:
            ranges += (first, last - first + 1)
        first = last = index
    if last >= 0:
        ranges += (first, last - first + 1)
    return ranges


def from_ranges(ranges: Sequence[int]) -> list[int]:
    """The indices that `to_ranges` packed, in ascending order."""
    indices: list[int] = []
    for first, count in zip(ranges[::2], ranges[1::2], strict=True):
        indices.extend(range(first, first + count))
    return indices
