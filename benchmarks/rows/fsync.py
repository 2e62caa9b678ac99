"""How much a disk matters on which each synchronisation takes 10 ms."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import table, told
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.rows.throughput import timed
from benchmarks.systems import System
from tests.faults.slow_disk import slow_disk


class Fsync(Row):
    """The throughput of what is durable, with and without a slow disk."""

    name = "fsync"
    title = "A slow disk"
    about = (
        "As throughput, where each fsync takes 10 ms longer: a library that is loaded before all "
        "others (gcc builds it) does that."
    )

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            for ms in (0, 10):
                tasks = system.tasks[0 if quick else 1] // (1 if system.tasks[0] > 1_000 else 5)
                settings = {"tasks": tasks, "ms": ms}
                yield Case(system, f"{ms} ms", settings)

    def environ(self, settings: dict[str, Any], home: str) -> dict[str, str]:
        if not settings["ms"]:
            return {}
        environ, _ = slow_disk(Path(home), int(settings["ms"]))
        return environ

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        return timed(system, int(settings["tasks"]))

    def show(self, found: Found) -> str:
        rows = []
        for (system, label), values in found.items():
            quick = statistics.median(found.get((system, "0 ms"), values)["rate"])
            rate = statistics.median(values["rate"])
            rows.append([system, label, told(values["rate"]), f"{quick / rate:.2f}"])
        return table(["system", "fsync longer by", "tasks/s", "slower by x"], rows)
