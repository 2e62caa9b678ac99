"""Whether SQLite has read its write-ahead log to the end, or has left out commits after damage.

SQLite ends at the first frame whose checksum is wrong and says nothing: what was committed after it
is gone, and is to be told.
"""

from __future__ import annotations

import os
import struct

_HEADER = struct.Struct(">IIII8sII")  # magic, version, page size, checkpoint, salts, checksums
_FRAME = struct.Struct(">II8sII")  # page, pages after a commit (else 0), salts, checksums
_MAGIC = (0x377F0682, 0x377F0683)


def last_commit(path: str) -> tuple[int, bool]:
    """The number of the last frame that ends a commit, as the log at `path` was written.

    Also whether the log's own header can be read; without it SQLite reads nothing of the log.
    Only while nothing in this process has the database open: closing the file drops its locks.
    """
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            if size < _HEADER.size + _FRAME.size:
                return 0, True
            header = file.read(_HEADER.size)
            magic, _, page, _, salts, first, second = _HEADER.unpack(header)
            order = ">" if magic & 1 else "<"
            if magic not in _MAGIC or _checksum(header[:24], order) != (first, second):
                return 0, False
            last, number = 0, 0
            while True:
                number += 1
                frame = file.read(_FRAME.size)
                if len(frame) < _FRAME.size:
                    return last, True
                _, committed, frame_salts, _, _ = _FRAME.unpack(frame)
                # A process that was killed between a frame's header and its page had told nobody.
                is_there = file.seek(page, os.SEEK_CUR) <= size
                if frame_salts == salts and committed and is_there:
                    last = number
    except FileNotFoundError:
        return 0, True


def _checksum(data: bytes, order: str) -> tuple[int, int]:
    first = second = 0
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for low, high in zip(words[::2], words[1::2], strict=True):
        first = (first + low + second) & 0xFFFFFFFF
        second = (second + high + first) & 0xFFFFFFFF
    return first, second
