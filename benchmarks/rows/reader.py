"""The memory of every process while large results come faster than they are read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import work
from benchmarks.report import plain_table
from benchmarks.rows import Case, Figures, Found, Row
from benchmarks.rows.queued import headings, sizes
from benchmarks.systems import PATIENCE_S, System
from benchmarks.systems.ours import SlowEcho


class _Different(Sequence[bytes]):
    """Bytes that are not the same twice, made when they are asked for.

    Args:
        count: how often.
        size: how many bytes.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if index >= self._count:
            raise IndexError(index)
        return index.to_bytes(8, "little") * (self._size // 8)


class Reader(Row):
    """Results of 1 MB, read one by one with a pause between them."""

    name = "reader"
    title = "Large payloads and a slow reader"
    about = (
        "Tasks whose results have 1 MB each, and whose arguments have as much where that is said; "
        "they are read one by one, 5 ms after another. MB of each kind of process at the end, and "
        "the most that one of them ever had."
    )
    limit_s = 900.0

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        for system in systems:
            count = 300 if quick else 5_000
            settings = {"tasks": count, "bytes": 10**6, "pause": 0.005}
            yield Case(system, f"{count:,}", settings, 1)

    def environ(self, settings: dict[str, Any], home: str) -> dict[str, str]:
        return {"FXHPC_STORE_MAX_BYTES": str(200 * 10**9)}  # the reader is measured, not the limit

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        count, size = int(settings["tasks"]), int(settings["bytes"])
        system.prepare()
        system.start()
        system.results(system.submit(work.noop, range(20)))
        began = time.perf_counter()
        fxc: Any = system.fxc  # type: ignore[attr-defined]  # clients alone are in this row
        if isinstance(system, SlowEcho):
            handle = system.submit(work.echo, _Different(count, size))
        else:
            handle = system.submit(work.make, [size] * count)
        for task_id in handle:
            assert len(fxc.get_result(task_id, timeout=PATIENCE_S)) == size
            time.sleep(settings["pause"])
        figures = {"mb_s": size * count / (time.perf_counter() - began) / 1e6, **sizes()}
        system.stop()
        return figures

    def show(self, found: Found) -> str:
        return plain_table(found, "results", {"mb_s": "MB/s", **headings()})
