"""A file that tasks look at."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def gate() -> Iterator[Path]:
    """A file that is there, in a folder of its own: `work.hold` waits until it is gone."""
    with tempfile.TemporaryDirectory(prefix="fxhpc-benchmark-") as folder:
        path = Path(folder, "gate")
        path.touch()
        yield path
