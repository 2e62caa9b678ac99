"""The systems that are measured beside each other, all with two workers and through one interface.

A system is made, started, given work and stopped in a process of its own. `submit` hands over one
call for each value and returns what `results` makes the list of results from.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

WORKERS = 2

_PATIENCE_S = 600.0


class System:
    """What a system says of itself, and what most have in common.

    Attributes:
        name: as `--only` and the tables have it.
        needs: the module that must be installed for it.
        share: of the number of tasks that were asked for, this many times as many are measured:
            fewer for the slow, more for those that end before a clock has told anything.
        rows: which tables it is in: "throughput", "latency".
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "fxhpc"
    share: ClassVar[float] = 1.0
    rows: ClassVar[tuple[str, ...]] = ("throughput", "latency")

    def prepare(self) -> None:
        """What is done before the constructor is timed: imports."""

    def start(self) -> None:
        """Make it, as far as its users would before their first task."""
        raise NotImplementedError

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        """Hand over one call for each value."""
        raise NotImplementedError

    def results(self, handle: Any) -> list[Any]:
        """The results of what was submitted, when all are there."""
        raise NotImplementedError

    def call(self, function: Callable[..., Any], value: Any) -> Any:
        """One call, there and back."""
        return self.results(self.submit(function, [value]))[0]

    def stop(self) -> None:
        """End it, and all its processes."""
        raise NotImplementedError


class _Futures(System):
    """A system with `concurrent.futures`."""

    executor: Any

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        submit = self.executor.submit
        return [submit(function, value) for value in values]

    def results(self, handle: Any) -> list[Any]:
        return [future.result() for future in handle]

    def stop(self) -> None:
        self.executor.shutdown()


class _Mapped(System):
    """A system with a chunked `map`; the number of chunks is 32, as people choose it."""

    share = 10.0
    rows = ("throughput",)
    executor: Any

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        return self.executor.map(function, values, chunksize=max(1, len(values) // 32))

    def results(self, handle: Any) -> list[Any]:
        return list(handle)

    def stop(self) -> None:
        self.executor.shutdown()


# --- fxhpc ----------------------------------------------------------------------------------------


class _Client(System):
    """FuncXClient of a home: everything is in the store when a call returns."""

    def prepare(self) -> None:
        from fxhpc import FuncXClient

        self.make = FuncXClient

    def start(self) -> None:
        self.fxc = self.make(workers=WORKERS)
        self.functions: dict[Any, str] = {}

    def registered(self, function: Callable[..., Any]) -> str:
        if function not in self.functions:
            self.functions[function] = self.fxc.register_function(function)
        return self.functions[function]

    def results(self, handle: Any) -> list[Any]:
        found = self.fxc.get_batch_result(handle, timeout=_PATIENCE_S)
        return [found[task_id]["result"] for task_id in handle]

    def stop(self) -> None:
        self.fxc.close()


class BatchRun(_Client):
    """create_batch, add, batch_run, get_batch_result."""

    name = "fxhpc batch_run, durable"
    rows = ("throughput",)

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        function_id = self.registered(function)
        batch = self.fxc.create_batch()
        for value in values:
            batch.add(value, endpoint_id="local", function_id=function_id)
        return self.fxc.batch_run(batch)


class MapRun(_Client):
    """map_run, get_batch_result."""

    name = "fxhpc map_run, durable"
    rows = ("throughput",)

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        function_id = self.registered(function)
        return self.fxc.map_run(values, endpoint_id="local", function_id=function_id)


class RunLoop(_Client):
    """A loop of run(); for the round trip run() and get_result()."""

    name = "fxhpc loop of run(), durable"
    share = 0.2

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        function_id, run = self.registered(function), self.fxc.run
        return [run(value, endpoint_id="local", function_id=function_id) for value in values]

    def call(self, function: Callable[..., Any], value: Any) -> Any:
        function_id = self.registered(function)
        task_id = self.fxc.run(value, endpoint_id="local", function_id=function_id)
        return self.fxc.get_result(task_id, timeout=_PATIENCE_S)


class AnotherClient(RunLoop):
    """As before, on a home whose forwarder another process's client has started."""

    name = "fxhpc run(), attaching another"
    rows = ("latency",)

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


class EmbeddedExecutor(_Futures):
    """Executor(): forwarder and interchange in a thread of this process."""

    name = "fxhpc Executor, embedded"

    def prepare(self) -> None:
        from fxhpc import Executor

        self.make = Executor

    def start(self) -> None:
        self.executor = self.make(max_workers=WORKERS)


class HomeExecutor(EmbeddedExecutor):
    """Executor(endpoint_id="local"): through the home's forwarder and its store."""

    name = "fxhpc Executor, home, durable"

    def start(self) -> None:
        self.executor = self.make(max_workers=WORKERS, endpoint_id="local")


class ExecutorMap(_Mapped):
    """Executor().map with chunks."""

    name = "fxhpc Executor.map, chunked"

    def prepare(self) -> None:
        from fxhpc import Executor

        self.make = Executor

    def start(self) -> None:
        self.executor = self.make(max_workers=WORKERS)


# --- peers ----------------------------------------------------------------------------------------


class ProcessPool(_Futures):
    """The standard library's ProcessPoolExecutor."""

    name = "ProcessPoolExecutor"
    needs = "concurrent"

    def prepare(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.make = ProcessPoolExecutor

    def start(self) -> None:
        self.executor = self.make(max_workers=WORKERS)


class ProcessPoolMap(_Mapped):
    """ProcessPoolExecutor.map with chunks."""

    name = "ProcessPoolExecutor.map, chunked"
    needs = "concurrent"

    def prepare(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.make = ProcessPoolExecutor

    def start(self) -> None:
        self.executor = self.make(max_workers=WORKERS)


class Pool(System):
    """The standard library's multiprocessing.Pool, by apply_async."""

    name = "multiprocessing.Pool"
    needs = "multiprocessing"

    def prepare(self) -> None:
        import multiprocessing

        self.make = multiprocessing.Pool

    def start(self) -> None:
        self.pool = self.make(WORKERS)

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        return [self.pool.apply_async(function, (value,)) for value in values]

    def results(self, handle: Any) -> list[Any]:
        return [result.get() for result in handle]

    def stop(self) -> None:
        self.pool.close()
        self.pool.join()


class PoolMap(Pool):
    """multiprocessing.Pool.map with chunks."""

    name = "multiprocessing.Pool.map, chunked"
    share = 10.0
    rows = ("throughput",)

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        return self.pool.map_async(function, values, chunksize=max(1, len(values) // 32))

    def results(self, handle: Any) -> list[Any]:
        return list(handle.get())


class ParslHTEX(System):
    """Parsl's HighThroughputExecutor behind its DataFlowKernel, as its users have it."""

    name = "Parsl HTEX"
    needs = "parsl"
    share = 0.2

    def prepare(self) -> None:
        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        self.parsl = parsl
        executor = HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            max_workers_per_node=WORKERS,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        self.config = Config(
            executors=[executor],
            run_dir=os.path.join(os.environ["FXHPC_HOME"], "parsl"),
            initialize_logging=False,
            strategy="none",
            usage_tracking=0,
        )
        self.apps: dict[Any, Any] = {}

    def start(self) -> None:
        self.parsl.load(self.config)

    def submit(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        app = self.apps.get(function)
        if app is None:
            app = self.apps[function] = self.parsl.python_app(function)
        return [app(value) for value in values]

    def results(self, handle: Any) -> list[Any]:
        return [future.result() for future in handle]

    def stop(self) -> None:
        self.parsl.dfk().cleanup()
        self.parsl.clear()
        time.sleep(0.2)


ALL: tuple[type[System], ...] = (
    BatchRun,
    MapRun,
    RunLoop,
    AnotherClient,
    EmbeddedExecutor,
    HomeExecutor,
    ExecutorMap,
    ProcessPool,
    ProcessPoolMap,
    Pool,
    PoolMap,
    ParslHTEX,
)


def chosen(row: str, only: str) -> tuple[list[type[System]], list[str]]:
    """The systems of a table whose names contain one of the words, and lines on what is missing."""
    words = [word.strip().lower() for word in only.split(",") if word.strip()]
    found, notes = [], []
    for system in ALL:
        if row not in system.rows:
            continue
        if words and not any(word in system.name.lower() for word in words):
            continue
        if importlib.util.find_spec(system.needs) is None:
            notes.append(f"{system.name}: not installed")
            continue
        found.append(system)
    return found, notes
