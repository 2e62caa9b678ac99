"""A large argument that many tasks have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import processes, work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row, check
from benchmarks.systems import System

_SIZE = 4 * 10**6

#: Submitted at a time, so that a system that copies the argument can be stopped.
_SLICE = 50

#: Seconds between two looks at what the system has taken.
_LOOK_S = 0.3


class Shared(Row):
    """`submit(f, large, i)` with 4 MB that are always the same."""

    name = "shared"
    title = "A shared argument"
    about = (
        "`submit(f, large, i)` with the same 4 MB for each task; two workers. A system that is at "
        "2.5 GB is given no more tasks, and what it was given is measured."
    )
    peak_memory = True

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            ours = system.needs == "fxhpc"
            count = (500 if quick else 10_000) if ours else (50 if quick else 200)
            yield Case(system, "", {"tasks": count, "bytes": _SIZE, "most": 2.5e9})

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        count, large = int(settings["tasks"]), os.urandom(int(settings["bytes"]))
        system.prepare()
        system.start()
        assert system.results(system.submit(work.noop, range(10))) == list(range(10))
        handles: list[tuple[list[int], Any]] = []
        cpu = processes.cpu_seconds()
        began = looked = time.perf_counter()
        for first in range(0, count, _SLICE):
            values = list(range(first, min(count, first + _SLICE)))
            handles.append((values, system.submit(work.look_at, values, large)))
            if time.perf_counter() - looked > _LOOK_S:
                if processes.memory_bytes() + _files() > settings["most"]:
                    break
                looked = time.perf_counter()
        for values, handle in handles:
            check(system.results(handle), values)
        elapsed = time.perf_counter() - began
        cpu = processes.cpu_seconds() - cpu
        done = sum(len(values) for values, _ in handles)
        disk = _files()
        system.stop()
        return {
            "tasks": done,
            "rate": done / elapsed,
            "cpu_us": cpu / done * 1e6,
            "disk_mb": disk / 1e6,
        }

    def show(self, found: Found) -> str:
        figures = {"tasks": "tasks", "rate": "tasks/s", "cpu_us": "CPU us/task"}
        figures |= {"disk_mb": "store MB", "peak_mb": "peak MB"}
        return plain_table(found, "", figures)


def _files() -> int:
    """Bytes in the home."""
    total = 0
    for path in Path(os.environ["FXHPC_HOME"]).rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except OSError:
            pass
    return total
