"""How long until a system has given its first result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks import work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.systems import System


class Start(Row):
    """From the constructor to the first result."""

    name = "start"
    title = "Starting and attaching"
    about = "From the constructor to the first result, two workers; imports come on top of it."

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            yield Case(system, "", {})

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        clock = time.perf_counter
        began = clock()
        system.prepare()
        imported = clock() - began
        began = clock()
        system.start()
        assert system.call(work.noop, 7) == 7
        started = clock() - began
        system.stop()
        # The other client's start is in what this one's imports took.
        figures = {"start_s": started}
        return figures if "attaching" in system.name else {**figures, "import_s": imported}

    def show(self, found: Found) -> str:
        figures = {"start_s": "constructor to first result, s", "import_s": "imports, s"}
        return plain_table(found, "", figures)
