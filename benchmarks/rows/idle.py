"""What a system costs that has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks import processes, work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.systems import System


class Idle(Row):
    """Memory, processor time and wake-ups of everything, with two workers."""

    name = "idle"
    title = "Idle"
    about = (
        "Everything for two workers, the process that uses it included, some seconds after its "
        "last task: proportional set size, share of a core, and voluntary context switches."
    )

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            yield Case(system, "", {"seconds": 4.0 if quick else 10.0}, 2)

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        seconds = float(settings["seconds"])
        system.prepare()
        system.start()
        system.results(system.submit(work.noop, range(100)))
        time.sleep(2.0)
        pss = processes.memory_bytes()
        count = len(processes.family())
        # Looking is this process's own work: what it takes is measured, and taken off.
        began, looking = processes.busy_seconds(), -processes.busy_seconds()
        looking += processes.busy_seconds()
        wakes = processes.wake_ups()
        began = processes.busy_seconds()
        time.sleep(seconds)
        busy = processes.busy_seconds() - began - looking
        wakes = processes.wake_ups() - wakes
        system.stop()
        return {
            "mb": pss / 1e6,
            "processes": count,
            "cpu_percent": max(0.0, busy) / seconds * 100,
            "wakes_s": wakes / seconds,
        }

    def show(self, found: Found) -> str:
        figures = {"mb": "MB", "processes": "processes", "cpu_percent": "% of a core"}
        figures |= {"wakes_s": "wake-ups/s"}
        return plain_table(found, "", figures)
