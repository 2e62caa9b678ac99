"""How much a store's files take, counted without asking its forwarder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from fxhpc.forwarder.home import Home


@dataclass
class Sizes:
    """Bytes of a store's files."""

    used: int = 0  # of the store, its log and its payload files
    aside: int = 0  # of copies and damaged stores beside it
    names: list[str] = field(default_factory=list)  # of these


def sizes(home: Home) -> Sizes:
    """Count them. Files that go meanwhile count as nothing."""
    found = Sizes()
    for path in sorted(home.store.parent.glob("store.db*")):
        size = _size(path)
        if ".damaged-" in path.name or path.name.endswith(".bak"):
            found.aside += size
            found.names.append(path.name)
        elif not path.name.endswith(".reserve"):
            found.used += size
    for folder in (home.store.parent / "payloads", home.spill):
        for place, _, names in os.walk(folder):
            found.used += sum(_size(Path(place, name)) for name in names)
    return found


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
