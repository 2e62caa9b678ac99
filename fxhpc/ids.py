"""What identifies a task: a stream's 90 random bits and an index, shown as one UUID.

A UUID of version 8 (RFC 9562, section 5.8) leaves 122 bits to its maker. The first 90 name a
*stream*, the last 32 count the tasks of it. Its first twelve bytes, version and variant
included, are therefore the same for every task of a stream: fxhpc keeps these twelve bytes as
the stream's name, so that an id is made by a counter and taken apart by slicing.

A task may be a *chunk* of calls, each of which has an id as well. Their stream's name says how many
calls a chunk has, and the last 32 bits of their ids count the calls: so nothing has to be looked up
to know which task makes a call. The last bit of a name tells, with fourteen that are always the
same; streams of other tasks have a 0 there. The fifteen bits before it are the number of calls.
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

#: In the names of streams of chunks: the variant's two bits, and fourteen that are ours. So that of
#: the names that were made before there were chunks, one in 32,768 is taken for such.
_CHUNKS = b"\xa7\xc5"

#: Calls that a chunk can have.
CHUNK_CALLS = 2**15 - 1


def new_stream(calls: int = 0, bits: bytes = b"") -> bytes:
    """A stream's name: 12 bytes, of which 89 bits are random.

    Args:
        calls: of each of its tasks, the last of which may have fewer: 60 bits are random then.
            0: its tasks are calls, as nearly all are.
        bits: at least 12 bytes to make it of, instead of random ones.
    """
    raw = bytearray(bits[:STREAM_BYTES] or os.urandom(STREAM_BYTES))
    raw[6] = 0x80 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    raw[11] &= 0xFE
    if calls:
        raw[8:10] = _CHUNKS
        raw[10:] = (calls << 1 | 1).to_bytes(2, "big")
    return bytes(raw)


def calls_of(stream: bytes) -> int:
    """How many calls each task of a stream makes; 0: it is one call."""
    if stream[11] & 1 and stream[8:10] == _CHUNKS and stream[6] >> 4 == 8:
        return (stream[10] << 8 | stream[11]) >> 1
    return 0


def stream_prefix(stream: bytes) -> str:
    """The text that the ids of all tasks of a stream begin with: 28 characters."""
    text = stream.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:24]}"


def locate(stream: bytes, number: int) -> tuple[int, int]:
    """The index of the task that an id's last 32 bits name, and which call of it, or -1."""
    calls = calls_of(stream)
    return divmod(number, calls) if calls else (number, -1)


def task_id(stream: bytes, index: int, call: int = 0) -> str:
    """The public id of a task, a UUID of 36 characters.

    Args:
        call: which one of a chunk's calls. A chunk itself goes by the id of its first.
    """
    if calls := calls_of(stream):
        index = index * calls + call
    return f"{stream_prefix(stream)}{index:08x}"


def task_ids(stream: bytes, indices: Iterable[int]) -> list[str]:
    """The public ids of many tasks of one stream; of one of chunks, those of its calls."""
    prefix = stream_prefix(stream)
    return [f"{prefix}{index:08x}" for index in indices]


def parse_task_id(text: str | uuid.UUID) -> tuple[bytes, int]:
    """The stream and the index of a task; of the call of a chunk, which one it is in its stream.

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
