"""What the tasks of the benchmarks do: nothing, or wait. A module, which all peers can load."""

from __future__ import annotations

import os
import time


def noop(x: int) -> int:
    """One int in, one int out."""
    return x


def hold(path: str) -> None:
    """Keep a worker busy until the file is gone."""
    while os.path.exists(path):
        time.sleep(0.01)
