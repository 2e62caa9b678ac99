"""What the standard library has: ProcessPoolExecutor and multiprocessing.Pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.systems import WORKERS, Futures, Mapped, System


class ProcessPool(Futures):
    """ProcessPoolExecutor.submit."""

    name = "ProcessPoolExecutor"
    needs = "concurrent"
    versions = ()
    tasks = (5_000, 20_000)
    rows = (
        *("throughput", "latency", "payload", "shared", "sleepers", "mixed", "memory", "start"),
        "idle",
    )
    quick_rows = ("throughput", "latency", "payload", "sleepers", "memory", "start")

    def prepare(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.make = ProcessPoolExecutor

    def start(self, workers: int = WORKERS) -> None:
        self.executor = self.make(max_workers=workers)


class ProcessPoolMap(Mapped):
    """ProcessPoolExecutor.map with chunks."""

    name = "ProcessPoolExecutor.map, chunked"
    needs = "concurrent"
    versions = ()
    rows = ("throughput",)

    prepare = ProcessPool.prepare
    start = ProcessPool.start


class Pool(System):
    """multiprocessing.Pool, by apply_async."""

    name = "multiprocessing.Pool"
    needs = "multiprocessing"
    versions = ()
    tasks = (10_000, 100_000)
    rows = ("throughput", "latency", "payload", "shared", "memory", "start", "idle")
    quick_rows = ("throughput", "latency")

    def prepare(self) -> None:
        import multiprocessing

        self.make = multiprocessing.Pool

    def start(self, workers: int = WORKERS) -> None:
        self.pool = self.make(workers)

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        return [self.pool.apply_async(function, (*first, value)) for value in values]

    def results(self, handle: Any) -> list[Any]:
        return [result.get() for result in handle]

    def stop(self) -> None:
        self.pool.close()
        self.pool.join()


class PoolMap(Pool):
    """multiprocessing.Pool.map with chunks."""

    name = "multiprocessing.Pool.map, chunked"
    tasks = (100_000, 100_000)
    rows = ("throughput",)
    quick_rows = None

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        return self.pool.map_async(function, values, chunksize=max(1, len(values) // 32))

    def results(self, handle: Any) -> list[Any]:
        return list(handle.get())


ALL: tuple[type[System], ...] = (ProcessPool, ProcessPoolMap, Pool, PoolMap)
