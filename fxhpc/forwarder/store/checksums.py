"""Checksums of the store's rows: a disk that gives back other bytes than it took is found out.

SQLite checks its log, and not its tables: a flipped bit within a row would be run, or delivered.
"""

from __future__ import annotations

import zlib


def stream_checksum(stream: bytes, info: bytes) -> int:
    """The checksum of a stream's row, but for its owner, which changes."""
    return zlib.crc32(info, zlib.crc32(stream))


def submission_checksum(
    row: int, stream: bytes, first: int, count: int, shared: bytes | None, payloads: bytes
) -> int:
    """The checksum of a row of submissions, with the encoded payloads."""
    numbers = f"{row} {first} {count} ".encode()
    return zlib.crc32(payloads, zlib.crc32(stream + numbers + (shared or b"")))


def result_checksum(row: int, stream: bytes, ranges: bytes, outcomes: bytes) -> int:
    """The checksum of a row of results, with the encoded ranges and outcomes."""
    return zlib.crc32(outcomes, zlib.crc32(b"%d " % row + stream + ranges))


def matches(checksum: int | None, data: bytes) -> bool:
    """Whether a large payload is what was stored; one of an older store has no checksum."""
    return checksum is None or zlib.crc32(data) == checksum
