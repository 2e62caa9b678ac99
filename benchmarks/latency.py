"""How long one call takes, there and back, and how long until the first result, beside the peers.

    python benchmarks/latency.py --tasks 500 --repeats 3

The round trip is measured one call after the other in a system that is idle and warm. The start
runs from the constructor to the first result; imports are told beside it.
"""

from __future__ import annotations

import argparse
import time

import work
from common import Figures, main, table, told
from systems import System


def measure(system: System, options: argparse.Namespace) -> Figures:
    """Round trip p50 and p99 in milliseconds, import and start in seconds."""
    count = max(50, int(options.tasks * min(1.0, system.share * 2)))
    clock = time.perf_counter
    began = clock()
    system.prepare()
    imported = clock() - began
    began = clock()
    system.start()
    try:
        assert system.call(work.noop, 7) == 7
        started = clock() - began
        for n in range(20):
            system.call(work.noop, n)
        trips = []
        for n in range(count):
            began = clock()
            system.call(work.noop, n)
            trips.append(clock() - began)
    finally:
        system.stop()
    trips.sort()
    return {
        "calls": count,
        "p50_ms": trips[count // 2] * 1e3,
        "p99_ms": trips[count * 99 // 100] * 1e3,
        "start_s": started,
        "import_s": imported,
    }


def show(found: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> str:
    """The table."""
    header = ["system", "calls", "p50 ms", "p99 ms", "constructor to first result s", "imports s"]
    rows = [
        [
            name,
            f"{figures['calls'][0]:,.0f}",
            told(figures["p50_ms"], 2),
            told(figures["p99_ms"], 2),
            told(figures["start_s"], 2),
            # The other client's start is in what this one's imports took.
            "-" if "another" in name else told(figures["import_s"], 2),
        ]
        for name, figures in found.items()
    ]
    return table(header, rows)


if __name__ == "__main__":
    main("latency", "round trip and start", measure, show, default_tasks=500)
