"""The figures that fxhpc is to reach: the least that may be, and what it is after."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from benchmarks.report import growth, table, told
from benchmarks.rows import Found

_BATCH, _MAP_RUN = "fxhpc batch_run, durable", "fxhpc map_run, chunked, durable"
_EMBEDDED, _HOME = "fxhpc Executor, embedded", "fxhpc Executor, home, durable"
_MAP, _LOOP = "fxhpc Executor.map, chunked", "fxhpc loop of run(), durable"
_ANOTHER, _TWO = "fxhpc run(), attaching another", "fxhpc Executor, two managers"
_SLOW = "fxhpc batch_run, a slow reader"


class Floor(NamedTuple):
    """A figure of a system and a label, its floor and its goal; smaller is better if so said."""

    row: str
    system: str
    label: str
    figure: str
    what: str
    floor: float
    goal: float
    smaller: bool = True


FLOORS = (
    Floor("throughput", _BATCH, "", "rate", "tasks/s", 50_000, 150_000, False),
    Floor("throughput", _EMBEDDED, "", "rate", "tasks/s", 40_000, 120_000, False),
    Floor("throughput", _HOME, "", "rate", "tasks/s", 30_000, 80_000, False),
    Floor("throughput", _MAP, "", "rate", "tasks/s", 300_000, 2_000_000, False),
    Floor("throughput", _MAP_RUN, "", "rate", "tasks/s", 300_000, 2_000_000, False),
    Floor("throughput", _LOOP, "", "rate", "tasks/s", 3_000, 8_000, False),
    Floor("throughput", _BATCH, "", "cpu_us", "CPU us/task", 40, 15),
    Floor("throughput", _EMBEDDED, "", "cpu_us", "CPU us/task", 40, 15),
    Floor("throughput", _HOME, "", "cpu_us", "CPU us/task", 40, 15),
    Floor("latency", _EMBEDDED, "", "p50_ms", "p50 ms", 0.8, 0.4),
    Floor("latency", _EMBEDDED, "", "p99_ms", "p99 ms", 4, 2),
    Floor("latency", _HOME, "", "p50_ms", "p50 ms", 1.2, 0.7),
    Floor("latency", _HOME, "", "p99_ms", "p99 ms", 5, 3),
    Floor("latency", _LOOP, "", "p50_ms", "p50 ms", 1.2, 0.7),
    Floor("latency", _LOOP, "", "p99_ms", "p99 ms", 5, 3),
    *(
        Floor("payload", system, size, "mb_s", f"MB/s of {size}", 120, 400, False)
        for system in (_EMBEDDED, _HOME, _BATCH)
        for size in ("1 MB", "10 MB")
    ),
    Floor("shared", _HOME, "", "disk_mb", "MB stored", 100, 100),
    *(
        Floor("sleepers", _EMBEDDED, workers, "share", f"share, {workers} workers", *bounds, False)
        for workers, bounds in (("2", (0.94, 0.97)), ("32", (0.92, 0.95)))
    ),
    Floor("mixed", _EMBEDDED, "", "short_s", "s for the short ones", 2.0, 1.3),
    Floor("mixed", _TWO, "", "short_s", "s for the short ones", 2.0, 1.3),
    Floor("memory", _BATCH, "", "bytes", "bytes/task", 1_000, 500),
    Floor("memory", _EMBEDDED, "", "bytes", "bytes/task", 1_000, 500),
    Floor("memory", _HOME, "", "bytes", "bytes/task", 1_000, 500),
    Floor("queued", _EMBEDDED, "1,000,000", "bytes", "bytes/task", 1_000, 500),
    Floor("queued", _HOME, "1,000,000", "bytes", "bytes/task", 1_000, 500),
    Floor("reader", _SLOW, "", "largest_mb", "MB, largest process", 500, 500),
    Floor("start", _EMBEDDED, "", "start_s", "s", 0.6, 0.3),
    Floor("start", _HOME, "", "start_s", "s", 0.9, 0.45),
    Floor("start", _LOOP, "", "start_s", "s", 0.9, 0.45),
    Floor("start", _ANOTHER, "", "start_s", "s", 0.3, 0.15),
    Floor("idle", _EMBEDDED, "", "mb", "MB", 110, 70),
    Floor("idle", _EMBEDDED, "", "cpu_percent", "% of a core", 1, 0.2),
    Floor("idle", _HOME, "", "mb", "MB", 110, 70),
    Floor("idle", _HOME, "", "cpu_percent", "% of a core", 1, 0.2),
    Floor("death", _EMBEDDED, "", "again_s", "s", 0.1, 0.03),
    Floor("death", _HOME, "", "again_s", "s", 0.1, 0.03),
)


def against_floors(found: dict[str, Found]) -> str:
    """What was measured beside what is to be reached, as a table; by row."""
    lines = []
    for floor in FLOORS:
        values = _values(found.get(floor.row, {}), floor)
        if not values:
            continue
        middle = statistics.median(values)
        sign = -1 if floor.smaller else 1
        reached = (
            "goal"
            if sign * middle >= sign * floor.goal
            else "floor"
            if sign * middle >= sign * floor.floor
            else "**below**"
        )
        bounds = [f"{bound:,.10g}" for bound in (floor.floor, floor.goal)]
        lines.append([floor.row, floor.system, floor.what, told(values), *bounds, reached])
    lines += _growth(found.get("scale", {}))
    header = ["row", "system", "figure", "measured", "floor", "goal", "reached"]
    return table(header, lines) if lines else ""


def _values(found: Found, floor: Floor) -> list[float]:
    for (system, label), values in found.items():
        if system == floor.system and floor.label in ("", label):
            return values.get(floor.figure, [])
    return []


def _growth(found: Found) -> list[list[str]]:
    """The cost of a task among the most against that of one among the fewest."""
    costs: dict[str, list[list[float]]] = {}
    for (system, _), values in found.items():
        costs.setdefault(system, []).append(values["cpu_us"])
    lines = []
    for system, of_system in costs.items():
        times = growth(of_system[-1], of_system[0])
        reached = "goal" if times <= 1.1 else "floor" if times <= 1.3 else "**below**"
        lines.append(["scale", system, "x CPU/task", f"{times:.2f}", "1.3", "1.1", reached])
    return lines
