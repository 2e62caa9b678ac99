"""What a worker runs for `Executor.map` and `map_run` with chunks: many calls in one task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def run_chunk(function: Callable[..., Any], *rows: tuple[Any, ...]) -> list[Any]:
    """The values of the function for each row of arguments; its exception is the chunk's."""
    return [function(*row) for row in rows]
