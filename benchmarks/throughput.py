"""How many tasks a second, at what cost of processor and memory, beside the peers in one run.

    python benchmarks/throughput.py --tasks 10000 --repeats 3

A task is `work.noop`: one int in, one int out, on two workers. The time runs from the first
submission to the last result read, in a system that is warm. Those named durable have stored
every task before it ran, and every result before it was read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import work
from common import Figures, cpu_seconds, main, memory_bytes, ratio, table, told
from systems import WORKERS, System

_WARM_UP = 200


def measure(system: System, options: argparse.Namespace) -> Figures:
    """tasks/s, CPU in microseconds a task, and memory in bytes a task outstanding."""
    count = int(options.tasks * system.share)
    system.prepare()
    system.start()
    try:
        check(system.results(system.submit(work.noop, range(_WARM_UP))))
        memory = _memory_per_task(system, min(count, 20_000))
        values = list(range(count))
        cpu = cpu_seconds()
        began = time.perf_counter()
        found = system.results(system.submit(work.noop, values))
        elapsed = time.perf_counter() - began
        cpu = cpu_seconds() - cpu
        check(found)
    finally:
        system.stop()
    return {"tasks": count, "rate": count / elapsed, "cpu_us": cpu / count * 1e6, "bytes": memory}


def _memory_per_task(system: System, count: int) -> float:
    """What all processes grow by for each task that waits, while others hold the workers."""
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder, "gate")
        gate.touch()
        holding = system.submit(work.hold, [str(gate)] * WORKERS)
        before = memory_bytes()
        waiting = system.submit(work.noop, range(count))
        grown = memory_bytes() - before
        gate.unlink()
        system.results(holding)
        check(system.results(waiting))
    return grown / count


def check(found: list[int]) -> None:
    """A system that is quick and wrong is not measured."""
    if found != list(range(len(found))):
        raise SystemExit("results are missing, or not in the order of their tasks")


def show(found: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> str:
    """The table."""
    peer = found.get("Parsl HTEX")
    header = ["system", "tasks", "tasks/s", "x HTEX", "CPU us/task", "bytes/task outstanding"]
    rows = [
        [
            name,
            f"{figures['tasks'][0]:,.0f}",
            told(figures["rate"]),
            ratio(figures, peer, "rate"),
            told(figures["cpu_us"], 0 if min(figures["cpu_us"]) >= 10 else 1),
            told(figures["bytes"]),
        ]
        for name, figures in found.items()
    ]
    return table(header, rows)


if __name__ == "__main__":
    main("throughput", "tasks/s, CPU and memory per task", measure, show, default_tasks=10_000)
