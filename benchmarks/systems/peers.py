"""Peers that are packages: loky and joblib, executorlib, Parsl, Dask, Ray. All with two workers."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.systems import WORKERS, Futures, System

_MOST = ("throughput", "latency", "payload", "shared", "memory", "start", "idle")


class Loky(Futures):
    """loky.ProcessPoolExecutor, which joblib is built on."""

    name = "loky"
    needs = "loky"
    environment = "joblib"
    versions = ("loky",)
    tasks = (5_000, 20_000)
    rows = _MOST
    quick_rows = ("throughput", "latency")

    def prepare(self) -> None:
        from loky import ProcessPoolExecutor

        self.make = ProcessPoolExecutor

    def start(self, workers: int = WORKERS) -> None:
        self.executor = self.make(max_workers=workers)


class Joblib(System):
    """joblib.Parallel, which makes chunks by itself and has no futures."""

    name = "joblib.Parallel, chunked"
    needs = "joblib"
    environment = "joblib"
    versions = ("joblib", "loky")
    tasks = (100_000, 100_000)
    rows = ("throughput",)

    def prepare(self) -> None:
        import joblib

        self.joblib = joblib

    def start(self, workers: int = WORKERS) -> None:
        self.parallel = self.joblib.Parallel(n_jobs=workers)

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        delayed = self.joblib.delayed(function)
        return self.parallel(delayed(*first, value) for value in values)

    def results(self, handle: Any) -> list[Any]:
        return list(handle)

    def stop(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown()


class Executorlib(Futures):
    """executorlib's SingleNodeExecutor; its workers stay, as in the others."""

    name = "executorlib"
    needs = "executorlib"
    environment = "executorlib"
    versions = ("executorlib", "pyzmq")
    tasks = (2_000, 10_000)
    rows = _MOST
    quick_rows = ("throughput", "latency")

    def prepare(self) -> None:
        from executorlib import SingleNodeExecutor

        self.make = SingleNodeExecutor

    def start(self, workers: int = WORKERS) -> None:
        # With dependencies between tasks it looks every 10 ms whether there is something to send.
        self.executor = self.make(
            max_workers=workers, block_allocation=True, disable_dependencies=True
        )


class ParslHTEX(System):
    """Parsl's HighThroughputExecutor behind its DataFlowKernel, as its users have it."""

    name = "Parsl HTEX"
    needs = "parsl"
    environment = "parsl"
    versions = ("parsl", "pyzmq")
    tasks = (500, 3_000)
    rows = (*_MOST, "sleepers", "death")
    quick_rows = ("throughput",)

    def prepare(self) -> None:
        import parsl

        self.parsl = parsl
        self.apps: dict[Any, Any] = {}

    def start(self, workers: int = WORKERS) -> None:
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        executor = HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            max_workers_per_node=workers,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        config = Config(
            executors=[executor],
            run_dir=os.path.join(os.environ["FXHPC_HOME"], "parsl"),
            initialize_logging=False,
            strategy="none",
            usage_tracking=0,
            retries=2,
        )
        self.parsl.load(config)

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        app = self.apps.get(function)
        if app is None:
            app = self.apps[function] = self.parsl.python_app(function)
        return [app(*first, value) for value in values]

    def results(self, handle: Any) -> list[Any]:
        return [future.result() for future in handle]

    def stop(self) -> None:
        self.parsl.dfk().cleanup()
        self.parsl.clear()
        time.sleep(0.2)


class Dask(System):
    """Dask's Client of a LocalCluster: a process for each worker, one thread each."""

    name = "Dask distributed"
    needs = "distributed"
    environment = "dask"
    versions = ("distributed",)
    tasks = (500, 3_000)
    rows = (*_MOST, "sleepers", "death")
    quick_rows = ("throughput",)

    def prepare(self) -> None:
        import distributed

        self.distributed = distributed

    def start(self, workers: int = WORKERS) -> None:
        self.cluster = self.distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address=None,
            processes=True,
            local_directory=os.environ["FXHPC_HOME"],
        )
        self.client = self.distributed.Client(self.cluster)

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        submit = self.client.submit
        return [submit(function, *first, value, pure=False) for value in values]

    def results(self, handle: Any) -> list[Any]:
        return list(self.client.gather(handle))

    def stop(self) -> None:
        self.client.close()
        self.cluster.close()


class Ray(System):
    """Ray's remote functions on a cluster that is this host."""

    name = "Ray"
    needs = "ray"
    environment = "ray"
    versions = ("ray",)
    tasks = (1_000, 5_000)
    rows = (*_MOST, "sleepers", "death")
    quick_rows = ("throughput",)

    def prepare(self) -> None:
        import ray

        self.ray = ray
        self.remote: dict[Any, Any] = {}

    def start(self, workers: int = WORKERS) -> None:
        self.ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        # Its sockets would have too long names below the home.
        self.session = self.ray._private.worker._global_node.get_session_dir_path()

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        remote = self.remote.get(function)
        if remote is None:
            remote = self.remote[function] = self.ray.remote(function)
        return [remote.remote(*first, value) for value in values]

    def results(self, handle: Any) -> list[Any]:
        return list(self.ray.get(handle))

    def stop(self) -> None:
        self.ray.shutdown()
        shutil.rmtree(self.session, ignore_errors=True)


ALL: tuple[type[System], ...] = (Loky, Joblib, Executorlib, ParslHTEX, Dask, Ray)
