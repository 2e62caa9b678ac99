"""How long after the death of a worker its task runs again."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.rows.work_folder import gate
from benchmarks.systems import System

_PATIENCE_S = 60.0


class Death(Row):
    """SIGKILL for the worker that runs a task."""

    name = "death"
    title = "Death of a worker"
    about = (
        "The worker that runs a task is killed: seconds until the task runs again, in a system "
        "that does so. ProcessPoolExecutor, loky and executorlib fail it instead, "
        "multiprocessing.Pool never ends it."
    )

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            ours = system.needs == "fxhpc"
            yield Case(system, "", {"kills": 5 if ours else 1})

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        system.prepare()
        system.start()
        system.results(system.submit(work.noop, range(50)))
        times = []
        for _ in range(int(settings["kills"])):
            with gate() as path:
                marks = path.with_name("marks")
                path.rename(f"{marks}.gate")
                handle = system.submit(work.mark, [str(marks)])
                pid, _ = _line(marks, 0)
                killed = time.monotonic()
                os.kill(pid, signal.SIGKILL)
                _, began = _line(marks, 1)
                times.append(began - killed)
                Path(f"{marks}.gate").unlink()
                system.results(handle)
        system.stop()
        return {"again_s": statistics.median(times), "longest_s": max(times)}

    def show(self, found: Found) -> str:
        figures = {"again_s": "until it runs again, s", "longest_s": "the longest, s"}
        return plain_table(found, "", figures)


def _line(marks: Path, number: int) -> tuple[int, float]:
    """Who began the task as the first, the second, ..., and when."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        lines = marks.read_text().splitlines(keepends=True) if marks.exists() else []
        if len(lines) > number and lines[number].endswith("\n"):
            pid, began = lines[number].split()
            return int(pid), float(began)
        time.sleep(0.001)
    raise SystemExit(f"the task did not begin within {_PATIENCE_S:.0f} s")
