"""A task that leaves a line in a file for each run of it."""

from __future__ import annotations

import time
from pathlib import Path


def note(path: str, index: int, seconds: float = 0.005) -> int:
    """Note a number, and take a moment."""
    with open(path, "a") as file:
        file.write(f"{index}\n")
    time.sleep(seconds)
    return index * 2


def lines(path: Path) -> list[str]:
    """What is noted there so far."""
    return path.read_text().split() if path.exists() else []
