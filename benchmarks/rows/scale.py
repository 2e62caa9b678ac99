"""Whether a task costs more where there are more of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.report import Values, growth, table, told
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.rows.throughput import timed
from benchmarks.systems import System

#: So many tasks at least are measured in all.
_TASKS = 100_000


class Scale(Row):
    """The throughput of 10,000, 100,000 and 1,000,000 tasks."""

    name = "scale"
    title = "Scale"
    about = (
        "As throughput, with more and more tasks at once; the cost of a task is compared with that "
        "of one of the fewest."
    )
    peak_memory = True

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            for count in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000):
                yield Case(system, f"{count:,}", {"tasks": count})

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        # A process's time is told in ticks of 10 ms: 1 us for each of 10,000 tasks, and there are
        # six processes. So few tasks are measured more than once.
        tasks = int(settings["tasks"])
        return timed(system, tasks, rounds=max(1, _TASKS // tasks))

    def show(self, found: Found) -> str:
        header = ["system", "tasks", "us/task", "x", "CPU us/task", "x", "peak MB"]
        rows = []
        first: dict[str, Values] = {}
        for (system, label), values in found.items():
            fewest = first.setdefault(system, values)
            cells = [system, label]
            for name in ("wall_us", "cpu_us"):
                cells += [told(values[name], 1), f"{growth(values[name], fewest[name]):.2f}"]
            rows.append([*cells, told(values.get("peak_mb"), 0)])
        return table(header, rows)
