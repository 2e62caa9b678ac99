"""Whether a task costs more where there are more of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.report import table, told
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.rows.throughput import timed
from benchmarks.systems import System


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
                yield Case(system, f"{count:,}", {"tasks": count}, 1 if count > 100_000 else 1000)

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        return timed(system, int(settings["tasks"]))

    def show(self, found: Found) -> str:
        header = ["system", "tasks", "us/task", "x", "CPU us/task", "x", "peak MB"]
        rows = []
        first: dict[str, dict[str, float]] = {}
        for (system, label), values in found.items():
            now = {name: statistics.median(values[name]) for name in ("wall_us", "cpu_us")}
            base = first.setdefault(system, now)
            cells = [system, label]
            for name in ("wall_us", "cpu_us"):
                cells += [told(values[name], 1), f"{now[name] / max(base[name], 1e-9):.2f}"]
            rows.append([*cells, told(values.get("peak_mb"), 0)])
        return table(header, rows)
