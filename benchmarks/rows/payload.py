"""How fast bytes go there and back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import processes, work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.systems import System

_LIMIT = 64 * 2**20


class Payload(Row):
    """Echoes of 1 MB and of 10 MB."""

    name = "payload"
    title = "Payload"
    about = (
        "Tasks that return the bytes that they are given, all different; MB of arguments a second, "
        "while as much comes back: all submitted at once, and one after the other. Two workers."
    )
    peak_memory = True

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for megabytes, count in ((1, 100), (10, 16)):
            for system in systems:
                settings = {"bytes": megabytes * 10**6, "tasks": count // 2 if quick else count}
                yield Case(system, f"{megabytes} MB", settings)

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        size, count = int(settings["bytes"]), int(settings["tasks"])
        if system.needs == "fxhpc":
            system.options["max_payload"] = _LIMIT
        system.prepare()
        system.start()
        assert system.results(system.submit(work.noop, range(10))) == list(range(10))
        payloads = [os.urandom(size) for _ in range(count)]
        assert system.call(work.echo, payloads[0]) == payloads[0]
        cpu = processes.cpu_seconds()
        began = time.perf_counter()
        found = system.results(system.submit(work.echo, payloads))
        elapsed = time.perf_counter() - began
        cpu = processes.cpu_seconds() - cpu
        if found != payloads:
            raise SystemExit("what came back is not what was sent")
        del found
        few = payloads[: max(4, count // 5)]
        began = time.perf_counter()
        for data in few:
            system.call(work.echo, data)
        alone = time.perf_counter() - began
        system.stop()
        return {
            "mb_s": size * count / elapsed / 1e6,
            "alone_mb_s": size * len(few) / alone / 1e6,
            "cpu_ms_mb": cpu * 1e3 / (size * count / 1e6),
        }

    def show(self, found: Found) -> str:
        figures = {"mb_s": "MB/s, at once", "alone_mb_s": "MB/s, one by one"}
        figures |= {"cpu_ms_mb": "CPU ms/MB", "peak_mb": "peak MB"}
        return plain_table(found, "size", figures)
