"""The memory of every process while very many tasks wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import processes, work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.rows.work_folder import gate
from benchmarks.systems import WORKERS, System

#: As `processes.by_kind` has them; what an embedded Executor hosts is in "client".
KINDS = ("client", "forwarder", "interchange", "manager", "worker")


class Queued(Row):
    """A million tasks in the queue."""

    name = "queued"
    title = "Every process with very many tasks queued"
    about = (
        "MB (proportional set size) of each kind of process, and the most that one of them had as "
        "its resident set, while no task begins."
    )
    limit_s = 400.0

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            count = 200_000 if quick else 1_000_000
            yield Case(system, f"{count:,}", {"tasks": count}, 1)

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        count = int(settings["tasks"])
        system.prepare()
        system.start()
        system.results(system.submit(work.noop, range(200)))
        with gate() as path:
            system.submit(work.hold, [str(path)] * WORKERS)
            before = processes.steady_memory_bytes()
            waiting = system.submit(work.noop, range(count))
            grown = processes.steady_memory_bytes() - before
            figures = {"tasks": count, "bytes": grown / count, **sizes()}
            assert not waiting[-1].done()
            # Its tasks are of no interest: all processes are ended.
        return figures

    def show(self, found: Found) -> str:
        return plain_table(found, "tasks", {"bytes": "bytes/task", **headings()})


def sizes() -> Figures:
    """MB of each kind of process, and the largest resident set of one that ever was."""
    figures: Figures = {}
    for kind, pids in processes.by_kind().items():
        figures[f"{kind}_mb"] = sum(map(processes.pss_bytes, pids)) / 1e6
        figures[f"{kind}_peak"] = max(map(processes.peak_bytes, pids)) / 1e6
    figures["largest_mb"] = max(value for name, value in figures.items() if "_peak" in name)
    return figures


def headings() -> dict[str, str]:
    """Of what `sizes` has, as columns."""
    return {
        **{f"{kind}_mb": kind for kind in KINDS},
        "largest_mb": "largest, peak",
    }
