"""What a task that waits costs of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import processes, work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row, check
from benchmarks.rows.work_folder import gate
from benchmarks.systems import WORKERS, System


class Memory(Row):
    """How much all processes grow by for each task outstanding."""

    name = "memory"
    title = "Memory of a task outstanding"
    about = (
        "No-op tasks that wait while others hold both workers: how much the proportional set size "
        "of all processes grows by for each."
    )

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            yield Case(system, "", {"tasks": min(system.tasks[1], 20_000)})

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        count = int(settings["tasks"])
        system.prepare()
        system.start()
        system.results(system.submit(work.noop, range(200)))
        with gate() as path:
            holding = system.submit(work.hold, [str(path)] * WORKERS)
            before = processes.steady_memory_bytes()
            waiting = system.submit(work.noop, range(count))
            grown = processes.steady_memory_bytes() - before
            Path(path).unlink()
            system.results(holding)
            check(system.results(waiting), list(range(count)))
        system.stop()
        return {"tasks": count, "bytes": grown / count}

    def show(self, found: Found) -> str:
        return plain_table(found, "", {"tasks": "tasks", "bytes": "bytes/task"})
