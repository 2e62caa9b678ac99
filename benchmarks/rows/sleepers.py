"""Tasks that sleep: how much of the workers' time is theirs, and who waits behind whom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks import processes, work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.systems import System


class Sleepers(Row):
    """Tasks of 10 ms on 2, 8 and 32 workers."""

    name = "sleepers"
    title = "Sleepers"
    about = "Tasks that sleep 10 ms: the share of the workers' time that they sleep."

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for workers in (2, 8, 32):
            for system in systems:
                count = workers * (100 if quick else 250)
                if system.environment:
                    count = min(count, 800)  # of 32 workers some get little
                settings = {"workers": workers, "tasks": count, "seconds": 0.01}
                yield Case(system, f"{workers}", settings)

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        workers, count = int(settings["workers"]), int(settings["tasks"])
        seconds = float(settings["seconds"])
        system.prepare()
        system.start(workers)
        # All workers are there, and it is known how long such a task takes.
        system.results(system.submit(work.sleep, [seconds] * (8 * workers)))
        cpu = processes.cpu_seconds()
        began = time.perf_counter()
        system.results(system.submit(work.sleep, [seconds] * count))
        elapsed = time.perf_counter() - began
        cpu = processes.cpu_seconds() - cpu
        system.stop()
        return {"share": seconds * count / workers / elapsed, "cpu_us": cpu / count * 1e6}

    def show(self, found: Found) -> str:
        return plain_table(found, "workers", {"share": "share", "cpu_us": "CPU us/task"})


class Mixed(Row):
    """One long task among a thousand short ones."""

    name = "mixed"
    title = "Mixed durations"
    about = (
        "One task of 10 s (4 s if quick) among 1,000 of 1 ms, on two workers: seconds until the "
        "last short one has ended, which one worker does in 1.06 s at best, and until all have."
    )

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            settings = {"tasks": 1_000, "long": 4.0 if quick else 10.0, "at": 300}
            yield Case(system, "", settings, 3)

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        count, at = int(settings["tasks"]), int(settings["at"])
        system.prepare()
        system.start()
        system.results(system.submit(work.noop, range(20)))
        seconds = [0.001] * count
        seconds.insert(at, float(settings["long"]))
        began = time.perf_counter()
        futures = system.submit(work.sleep, seconds)
        long = futures.pop(at)
        for future in futures:
            future.result()
        short = time.perf_counter() - began
        long.result()
        elapsed = time.perf_counter() - began
        system.stop()
        return {"short_s": short, "all_s": elapsed}

    def show(self, found: Found) -> str:
        return plain_table(found, "", {"short_s": "short ones, s", "all_s": "all, s"})
