"""What the tasks of the benchmarks do: next to nothing, wait, or make something large."""

from __future__ import annotations

import os
import time
from typing import Any


def noop(x: int) -> int:
    """One int in, one int out."""
    return x


def hold(path: str) -> None:
    """Keep a worker busy until the file is gone."""
    while os.path.exists(path):
        time.sleep(0.01)


def sleep(seconds: float) -> float:
    """Take so long."""
    time.sleep(seconds)
    return seconds


def echo(data: bytes) -> bytes:
    """As much in as out."""
    return data


def make(size: int) -> bytes:
    """So many bytes out."""
    return bytes(size)


def look_at(large: Any, index: int) -> int:
    """One number of something large that many tasks have as an argument."""
    return int(large[index % len(large)]) * 0 + index


def mark(path: str) -> int:
    """Write down who began when, and wait until the file beside it is gone."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {time.monotonic()!r}\n")
    hold(f"{path}.gate")
    return os.getpid()
