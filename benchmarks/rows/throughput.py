"""How many tasks a second, and what they cost of processor and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import processes, work
from benchmarks.report import ratio, table, told
from benchmarks.rows import Case, Figures, Found, Row, check
from benchmarks.systems import System

_WARM_UP = 200


class Throughput(Row):
    """No-op tasks, from the first submission to the last result read, in a system that is warm."""

    name = "throughput"
    title = "Throughput"
    about = (
        "No-op tasks, one int in, one int out, two workers; from the first submission to the last "
        "result read. Those named durable have stored every task before it ran, and every result "
        "before it was read."
    )
    peak_memory = True
    peers_once = False

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            # A map is over before a processor's clock has told much: there are several.
            rounds = 5 if "chunked" in system.name else 1
            yield Case(system, "", {"tasks": system.tasks[0 if quick else 1], "rounds": rounds})

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        return timed(system, int(settings["tasks"]), int(settings["rounds"]))

    def show(self, found: Found) -> str:
        peer = found.get(("Parsl HTEX", ""))
        header = ["system", "tasks", "tasks/s", "x HTEX", "CPU us/task", "peak MB"]
        rows = [
            [
                system,
                f"{values['tasks'][0]:,.0f}",
                told(values["rate"]),
                ratio(values, peer, "rate"),
                told(values["cpu_us"]),
                told(values.get("peak_mb"), 0),
            ]
            for (system, _), values in found.items()
        ]
        return table(header, rows)


def timed(system: System, count: int, rounds: int = 1) -> Figures:
    """Tasks a second and microseconds of processor time for each, of all processes.

    Args:
        count: tasks in a round.
        rounds: one after the other; the middle one's rate is told, and the mean of what they cost.
    """
    system.prepare()
    system.start()
    warm = list(range(_WARM_UP))
    check(system.results(system.submit(work.noop, warm)), warm)
    values = list(range(count))
    cpu, times = processes.cpu_seconds(), []
    for _ in range(rounds):
        began = time.perf_counter()
        found = system.results(system.submit(work.noop, values))
        times.append(time.perf_counter() - began)
        check(found, values)
    cpu = (processes.cpu_seconds() - cpu) / rounds
    elapsed = statistics.median(times)
    system.stop()
    return {
        "tasks": count,
        "rate": count / elapsed,
        "cpu_us": cpu / count * 1e6,
        "wall_us": elapsed / count * 1e6,
    }
