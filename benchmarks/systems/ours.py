"""fxhpc, in the ways that it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.systems import PATIENCE_S, WORKERS, Futures, Mapped, System

_DURABLE = ("throughput", "scale", "memory", "fsync")


class _Client(System):
    """FuncXClient of a home: everything is in the store when a call returns."""

    def prepare(self) -> None:
        from fxhpc import FuncXClient

        self.make = FuncXClient

    def start(self, workers: int = WORKERS) -> None:
        self.fxc = self.make(workers=workers, **self.options)
        self.functions: dict[Any, str] = {}

    def registered(self, function: Callable[..., Any]) -> str:
        if function not in self.functions:
            self.functions[function] = self.fxc.register_function(function)
        return self.functions[function]

    def results(self, handle: Any) -> list[Any]:
        found = self.fxc.get_batch_result(handle, timeout=PATIENCE_S)
        return [found[task_id]["result"] for task_id in handle]

    def stop(self) -> None:
        self.fxc.close()


class BatchRun(_Client):
    """create_batch, add, batch_run, get_batch_result."""

    name = "fxhpc batch_run, durable"
    rows = (*_DURABLE, "payload", "shared")
    quick_rows = (*_DURABLE, "payload")

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        function_id = self.registered(function)
        batch = self.fxc.create_batch()
        for value in values:
            batch.add(*first, value, endpoint_id="local", function_id=function_id)
        return self.fxc.batch_run(batch)


class MapRun(_Client):
    """map_run, get_batch_result."""

    name = "fxhpc map_run, durable"
    rows = ("throughput", "fsync")
    quick_rows = ("throughput",)

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        function_id = self.registered(function)
        return self.fxc.map_run(values, endpoint_id="local", function_id=function_id)


class ChunkedMapRun(MapRun):
    """map_run(chunksize=), results(); the number of chunks is 32, as people choose it."""

    name = "fxhpc map_run, chunked, durable"
    tasks = (100_000, 100_000)

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        function_id, size = self.registered(function), max(1, len(values) // 32)
        return self.fxc.map_run(
            values, endpoint_id="local", function_id=function_id, chunksize=size
        )

    def results(self, handle: Any) -> list[Any]:
        return list(handle.results(PATIENCE_S))


class RunLoop(_Client):
    """A loop of run(); for the round trip run() and get_result()."""

    name = "fxhpc loop of run(), durable"
    tasks = (1_000, 10_000)
    rows = ("throughput", "latency", "start", "fsync")

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        function_id, run = self.registered(function), self.fxc.run
        where = {"endpoint_id": "local", "function_id": function_id}
        return [run(*first, value, **where) for value in values]

    def call(self, function: Callable[..., Any], value: Any) -> Any:
        function_id = self.registered(function)
        task_id = self.fxc.run(value, endpoint_id="local", function_id=function_id)
        return self.fxc.get_result(task_id, timeout=PATIENCE_S)


class AnotherClient(RunLoop):
    """As before, on a home whose forwarder another process's client has started."""

    name = "fxhpc run(), attaching another"
    rows = ("start",)

    def prepare(self) -> None:
        import subprocess
        import sys

        first = (
            "import sys; from fxhpc import FuncXClient; fxc = FuncXClient(workers=2); "
            "f = fxc.register_function(abs); "
            "fxc.get_result(fxc.run(-1, endpoint_id='local', function_id=f), timeout=60); "
            "print('ready', flush=True); sys.stdin.read()"
        )
        self.first = subprocess.Popen(
            [sys.executable, "-c", first], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.first.stdout is not None
        self.first.stdout.readline()
        super().prepare()

    def stop(self) -> None:
        super().stop()
        self.first.communicate()


class EmbeddedExecutor(Futures):
    """Executor(): forwarder and interchange in a thread of this process."""

    name = "fxhpc Executor, embedded"
    rows = (
        *("throughput", "latency", "payload", "shared", "sleepers", "mixed", "scale", "memory"),
        *("queued", "start", "idle", "death"),
    )

    def prepare(self) -> None:
        from fxhpc import Executor

        self.make = Executor

    def start(self, workers: int = WORKERS) -> None:
        self.executor = self.make(max_workers=workers, **self.options)


class HomeExecutor(EmbeddedExecutor):
    """Executor(endpoint_id="local"): through the home's forwarder and its store."""

    name = "fxhpc Executor, home, durable"
    rows = (
        *("throughput", "latency", "payload", "shared", "sleepers", "scale", "memory", "queued"),
        *("start", "idle", "death", "fsync"),
    )
    quick_rows = (
        *("throughput", "latency", "payload", "shared", "scale", "memory", "queued"),
        *("start", "idle", "death", "fsync"),
    )

    def start(self, workers: int = WORKERS) -> None:
        self.executor = self.make(max_workers=workers, endpoint_id="local", **self.options)


class TwoManagers(EmbeddedExecutor):
    """An endpoint of its own with two managers, which share its workers."""

    name = "fxhpc Executor, two managers"
    rows = ("mixed",)

    def start(self, workers: int = WORKERS) -> None:
        provider = {"type": "LocalProvider", "init_blocks": 2, "min_blocks": 2, "max_blocks": 2}
        engine = {"max_workers_per_node": workers // 2, "provider": provider}
        self.executor = self.make(config={"engine": engine}, **self.options)


class ExecutorMap(Mapped):
    """Executor().map with chunks."""

    name = "fxhpc Executor.map, chunked"
    rows = ("throughput",)

    def prepare(self) -> None:
        from fxhpc import Executor

        self.make = Executor

    def start(self, workers: int = WORKERS) -> None:
        self.executor = self.make(max_workers=workers)


class SlowReader(_Client):
    """A batch whose results are read one after the other, slower than they are made."""

    name = "fxhpc batch_run, a slow reader"
    rows = ("reader",)

    submit = BatchRun.submit


class SlowEcho(RunLoop):
    """As many bytes go in as come out, by run()."""

    name = "fxhpc loop of run(), in and out, a slow reader"
    rows = ("reader",)


ALL: tuple[type[System], ...] = (
    BatchRun,
    MapRun,
    ChunkedMapRun,
    RunLoop,
    AnotherClient,
    EmbeddedExecutor,
    HomeExecutor,
    TwoManagers,
    ExecutorMap,
    SlowReader,
    SlowEcho,
)
