"""How calls of a chunk ended, one behind the other as bytes: what is kept when their worker dies.

The worker writes such a *record* for each call that has ended, the manager of a dead one reads
them, the interchange hands them on with the chunk when that runs again, and adds which calls
workers have died at. Only workers look into them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

#: Of these records, what goes with a chunk that runs again, in bytes. The calls of others are made
#: again.
CHUNK_BYTES = 32 * 2**20

#: Bytes of them that an interchange holds for all its chunks.
ALL_BYTES = 256 * 2**20

#: What a record is: the packed value of a call, or its packed exception; what the chunk has
#: printed, a packed `Output`, if that is wanted; or, without data, that a worker died at this call.
VALUE, ERROR, PRINTED, SUSPECT = range(4)

# The place of the call in its chunk, which of these it is, bytes that follow.
_HEAD = struct.Struct("<IBQ")


def record(call: int, kind: int, data: bytes) -> bytes:
    """One record. Of PRINTED, the call does not matter."""
    return _HEAD.pack(call, kind, len(data)) + data


def records(data: bytes | memoryview) -> Iterator[tuple[int, int, bytes]]:
    """The call, kind and data of each record that is there as a whole."""
    view, at = memoryview(data), 0
    while at + _HEAD.size <= len(view):
        call, kind, size = _HEAD.unpack_from(view, at)
        at += _HEAD.size
        if size > len(view) - at:
            return  # its worker was killed while it wrote this
        yield call, kind, bytes(view[at : at + size])
        at += size


def whole(data: bytes) -> bytes:
    """Without the end of it that is no whole record."""
    end = 0
    while end + _HEAD.size <= len(data):
        following = end + _HEAD.size + _HEAD.unpack_from(data, end)[2]
        if following > len(data):
            break
        end = following
    return data[:end]
