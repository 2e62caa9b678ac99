"""What a disk may hold once its power has gone: what was synchronised, anything of the rest."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tests.faults.faulty_disk import Change

#: What a disk writes whole or not at all.
SECTOR = 512


def rebuild(changes: Sequence[Change], source: random.Random, directory: Path) -> None:
    """Make the files as the disk may have them when its power goes after these changes.

    What was written before a file's last synchronisation is there. Of what came later some of the
    writes are, in any order, some in part, and the others not. Names are durable at once: file
    systems with a journal write them with the first synchronisation of a new file.
    """
    last = {change.path: at for at, change in enumerate(changes) if change.what == "s"}
    kept = source.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    files: dict[str, bytearray] = {}
    for at, change in enumerate(changes):
        if change.what == "u":
            files.pop(change.path, None)
            continue
        content = files.setdefault(change.path, bytearray())
        sure = at < last.get(change.path, -1)
        if change.what == "t" and (sure or source.random() < kept):
            content[change.offset :] = bytes(max(0, change.offset - len(content)))
        elif change.what == "w" and (sure or source.random() < kept):
            torn = not sure and source.random() < 0.3
            for start in range(0, len(change.data), SECTOR):
                if not torn or source.random() < 0.5:
                    _put(content, change.offset + start, change.data[start : start + SECTOR])
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
