"""How long one call takes, there and back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks import work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.systems import System


class Latency(Row):
    """Calls one after the other."""

    name = "latency"
    title = "Round trip"
    about = "One call after the other, in a system that is idle and warm, two workers."

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            yield Case(system, "", {"calls": 200 if quick else 500})

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        count, clock = int(settings["calls"]), time.perf_counter
        system.prepare()
        system.start()
        for n in range(20):
            assert system.call(work.noop, n) == n
        trips = []
        for n in range(count):
            began = clock()
            system.call(work.noop, n)
            trips.append(clock() - began)
        system.stop()
        trips.sort()
        return {
            "calls": count,
            "p50_ms": trips[count // 2] * 1e3,
            "p99_ms": trips[count * 99 // 100] * 1e3,
        }

    def show(self, found: Found) -> str:
        return plain_table(found, "", {"calls": "calls", "p50_ms": "p50 ms", "p99_ms": "p99 ms"})
