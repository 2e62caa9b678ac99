"""What a worker keeps from task to task, what is run in it first, and libraries that mind forks."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fxhpc
from fxhpc import Executor, errors
from tests.waiting import LIMIT

loaded: list[Any] = []
device: Any = None


def load(*given: Any) -> None:
    loaded.append((os.getpid(), *given))
    os.environ["FXHPC_TEST_LOADED"] = "yes"
    os.chdir("/")


def state(seconds: float = 0.0) -> tuple[int, list[Any], str | None, str]:
    time.sleep(seconds)
    return os.getpid(), list(loaded), os.environ.get("FXHPC_TEST_LOADED"), os.getcwd()


def fail() -> None:
    raise LookupError("no model there")


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kept(seconds: float = 0.0) -> tuple[int, int, int]:
    """This process, the one that made the kept value, and how often it was made here."""

    def make() -> tuple[int, int]:
        loaded.append("made")
        return os.getpid(), loaded.count("made")

    time.sleep(seconds)
    return (os.getpid(), *fxhpc.keep("value", make))


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """One for all tests that need no more than a worker."""
    with Executor(1) as executor:
        yield executor


def test_an_initializer_runs_once_in_each_worker() -> None:
    with Executor(2, initializer=load, initargs=("model", 3)) as executor:
        found = list(executor.map(state, [0.02] * 8, timeout=LIMIT))
        found += executor.map(state, [0.0] * 8, chunksize=4, timeout=LIMIT)
        assert len({pid for pid, *_ in found}) == 2
        for pid, given, variable, cwd in found:
            assert given == [(pid, "model", 3)]
            assert (variable, cwd) == ("yes", "/")


def test_a_failing_initializer_fails_its_tasks_and_no_others() -> None:
    with Executor(1, initializer=fail) as executor:
        for future in (executor.submit(state), *executor.map(state, [0, 0], chunksize=2).futures):
            with pytest.raises(
                errors.InitializerFailed, match=r"fail of this Ex.*no model"
            ) as info:
                future.result(LIMIT)
            assert "in fail" in str(info.value.__cause__)
        with pytest.raises(ValueError, match=r"submit_to_registered_function.*initializer"):
            executor.submit_to_registered_function("4b116d3c-1703-4f8f-9f6f-39921e5864df")


def test_an_initializer_that_ends_its_worker() -> None:
    with Executor(1, initializer=be_killed, retries=1) as executor:
        error = executor.submit(state).exception(LIMIT)
    assert isinstance(error, errors.WorkerDied)
    assert "SIGKILL" in str(error)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"initializer": 3}, r"initializer=3: it is a function"),
        ({"initializer": load, "initargs": 5}, r"initargs=5: it is a tuple"),
        ({"initializer": load, "initargs": "ab"}, r"initargs='ab': it is a tuple"),
    ],
)
def test_what_is_no_initializer(given: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.UsageError, match=words):
        Executor(1, **given)


def test_a_kept_value_stays_while_its_worker_lives(executor: Executor) -> None:
    first = executor.submit(kept).result(LIMIT)
    assert first[0] == first[1]
    assert executor.submit(kept).result(LIMIT) == first
    os.kill(first[0], signal.SIGKILL)
    pid, maker, times = executor.submit(kept).result(LIMIT)
    assert pid == maker != first[0]
    assert times == 1


def test_details_are_what_the_task_itself_finds(executor: Executor) -> None:
    def work() -> tuple[int, float, float]:
        started, cpu = time.time(), time.process_time()
        data = bytearray(b"x") * (64 * 2**20)
        while time.process_time() - cpu < 0.05:
            pass
        del data
        return os.getpid(), started, time.time()

    executor.submit(state).result(LIMIT)  # it has imported this module now
    future = executor.submit(work)
    pid, started, ended = future.result(LIMIT)
    details = future.details  # type: ignore[attr-defined]
    assert details["worker_pid"] == pid
    assert details["host"] == os.uname().nodename
    assert started - 0.5 < details["started"] <= started
    assert ended <= details["ended"] < ended + 0.5
    assert 0.05 <= details["cpu_s"] < details["ran_s"] + 0.05
    assert details["peak_memory"] > 64 * 2**20
    assert details["python"] == sys.version.partition(" ")[0]
    assert details["fxhpc"] == fxhpc.__version__
    assert "attempt" not in details
    (call,) = executor.map(time.sleep, [0.02], chunksize=2).futures
    assert call.result(LIMIT) is None
    assert call.details["chunk_ran_s"] >= 0.02  # type: ignore[attr-defined]
    assert call.details["worker_pid"] == pid  # type: ignore[attr-defined]
    short = executor.submit(os.getpid)
    assert short.result(LIMIT) == pid
    assert short.details == {}  # type: ignore[attr-defined]


def test_attempts_of_a_task_that_ended_well_after_all(executor: Executor, tmp_path: Path) -> None:
    def die_once(path: str) -> int:
        if not os.path.exists(path):
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 5

    future = executor.submit(die_once, str(tmp_path / "died"))
    assert future.result(LIMIT) == 5
    details = future.details  # type: ignore[attr-defined]
    assert details["attempt"] == 2
    (story,) = details["attempts"]
    assert "SIGKILL" in story


# --- libraries that mind what process they are in -------------------------------------------------


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("native") / "native.so"
    source = Path(__file__).parent / "native.c"
    command = ["gcc", "-O1", "-fopenmp", "-shared", "-fPIC", "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    return str(target)


def set_threads(count: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(count)


def in_openmp(library: str) -> int:
    """Threads of a parallel region."""
    count: int = ctypes.CDLL(library).threads()
    return count


def in_numpy() -> dict[str, Any]:
    """A product that takes several threads, and how many there are by then."""
    import numpy

    matrix = numpy.arange(250_000, dtype=float).reshape(500, 500) / 1e6
    product = matrix @ matrix
    return {"trace": float(product.trace()), "threads": len(os.listdir("/proc/self/task"))}


def as_in_a_fresh_interpreter(function: Callable[..., Any], *given: Any) -> tuple[Any, Any]:
    """What a function gives here, twice, and what in an interpreter that has just been started."""
    found = [function(*given) for _ in range(2)]
    assert found[0] == found[1]
    program = (
        f"import sys, json; sys.path[:] = {sys.path!r}\n"
        f"from {function.__module__} import {function.__name__} as function\n"
        f"print(json.dumps(function(*{given!r})))"
    )
    fresh = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return found[0], json.loads(fresh.stdout)


def test_openmp_is_as_in_a_fresh_interpreter(executor: Executor, native: str) -> None:
    here, fresh = executor.submit(as_in_a_fresh_interpreter, in_openmp, native).result(LIMIT)
    assert here == fresh
    assert here == len(os.sched_getaffinity(0))


def test_numpy_is_as_in_a_fresh_interpreter() -> None:
    with Executor(1) as executor:  # whose worker has no threads of other libraries
        here, fresh = executor.submit(as_in_a_fresh_interpreter, in_numpy).result(LIMIT)
    assert here == fresh


def test_a_library_that_is_loaded_first_finds_the_variables_of_an_initializer(native: str) -> None:
    with Executor(1, initializer=set_threads, initargs=(3,)) as executor:
        assert executor.submit(in_openmp, native).result(LIMIT) == 3


def in_mpi() -> dict[str, Any]:
    from mpi4py import MPI  # which initialises MPI, once in a process

    world = MPI.COMM_WORLD
    return {"ranks": world.Get_size(), "sum": world.allreduce(7), "version": MPI.Get_version()}


@pytest.fixture
def mpi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mpi4py from its wheel finds Debian's MPICH, whose library has a name of its own there."""
    (path,) = Path("/usr/lib").glob("*/libmpich.so.12")
    (tmp_path / "libmpi.so.12").symlink_to(path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))


@pytest.mark.usefixtures("mpi")
def test_mpi_is_as_in_a_fresh_interpreter() -> None:
    with Executor(1) as executor:
        here, fresh = executor.submit(as_in_a_fresh_interpreter, in_mpi).result(LIMIT)
    assert (here["ranks"], here["sum"]) == (1, 7)
    assert json.loads(json.dumps(here)) == fresh


def open_device(library: str) -> None:
    global device
    device = ctypes.CDLL(library)
    assert device.open_device() == 0


def use_device(seconds: float) -> tuple[int, int]:
    time.sleep(seconds)
    return os.getpid(), device.use_device()


def test_each_worker_has_a_driver_of_its_own(native: str) -> None:
    with Executor(2, initializer=open_device, initargs=(native,)) as executor:
        users = list(executor.map(use_device, [0.02] * 8, timeout=LIMIT))
    assert len(set(users)) == 2
    assert all(pid == owner for pid, owner in users)
