"""Managers that end, vanish, stop for a while, or are of another version: M1, M2, M6, M7, M11."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import quantiles

import msgspec
import psutil
import pytest

from fxhpc import FuncXClient
from fxhpc.forwarder.attach import module_environment
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import InterchangeSpec
from fxhpc.testing.endpoint import RunningEndpoint
from tests.faults.figures import record_figure
from tests.process.homes import TestHome
from tests.waiting import eventually

#: Seconds between heartbeats here; three may be missed.
BEAT_S = 0.8


def hold(directory: str, index: int) -> int:
    """What the tests run: it says that it runs, and waits until it may go on. Returns its pid."""
    import os as os_
    import time as time_

    me = os_.getpid()
    open(os_.path.join(directory, f"begun-{index}-{me}-{time_.monotonic():.4f}"), "w").close()
    while not any(os_.path.exists(os_.path.join(directory, name)) for name in ("go", f"go-{me}")):
        time_.sleep(0.005)
    open(os_.path.join(directory, f"ended-{me}"), "w").close()
    return me


class Runs:
    """What `hold` has left in its directory: runs of tasks, in the order of their beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def begun(self) -> list[tuple[int, int, float]]:
        """Index, pid and when, of all."""
        found = []
        for name in os.listdir(self.path):
            if name.startswith("begun-"):
                _, index, pid, at = name.split("-")
                found.append((int(index), int(pid), float(at)))
        return sorted(found, key=lambda run: run[2])

    def go(self, pid: int = 0) -> None:
        """Let all of them end, or the one in this process."""
        (self.path / (f"go-{pid}" if pid else "go")).touch()


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Where tasks say that they run."""
    return Runs(tmp_path / "runs")


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint with short heartbeats, and no managers yet."""
    endpoint = RunningEndpoint(home.path, "midway", managers=0, workers=1)
    endpoint.start_interchange(InterchangeSpec(heartbeat_s=BEAT_S))
    yield endpoint
    for process in [*endpoint.managers, endpoint.interchange]:
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
    endpoint.stop()


def submit(client: FuncXClient, endpoint: RunningEndpoint, runs: Runs, count: int) -> list[str]:
    function = client.register_function(hold)
    batch = client.create_batch()
    for index in range(count):
        batch.add(str(runs.path), index, endpoint_id=endpoint.endpoint_id, function_id=function)
    ids = client.batch_run(batch)
    assert isinstance(ids, list)
    return ids


def results(client: FuncXClient, ids: list[str]) -> list[int]:
    client.wait(ids, timeout=60)
    found = client.get_batch_result(ids)
    return [found[name]["result"] for name in ids]


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def gone(endpoint: RunningEndpoint, number: int) -> float:
    """When this many managers and one more were gone, as the interchange noted it; 0: not yet."""
    lines = [
        line for line in endpoint.directory.log.read_text().splitlines() if " is gone: " in line
    ]
    if len(lines) <= number:
        return 0.0
    return datetime.strptime(lines[number][:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def test_m01_a_manager_that_is_told_to_end_gives_its_tasks_back(
    client: FuncXClient, endpoint: RunningEndpoint, runs: Runs
) -> None:
    """SIGTERM: it ends well, what it had runs elsewhere, and nothing counts against a task."""
    first = endpoint.start_manager()
    ids = submit(client, endpoint, runs, 3)
    eventually(lambda: len(runs.begun()) == 1)
    endpoint.start_manager()
    eventually(lambda: len(runs.begun()) == 2)
    at = time.monotonic()
    first.terminate()
    assert first.wait(20) == 0
    record_figure("M1", "SIGTERM until the manager has ended", time.monotonic() - at, "s")
    runs.go()
    assert len(set(results(client, ids))) == 1
    again = [index for index, _, _ in runs.begun()]
    assert len(again) == 4, "only what ran there has run again"
    log = endpoint.directory.log.read_text()
    assert "killed" not in log


def test_m02_a_killed_manager_leaves_no_worker_and_its_tasks_run_elsewhere(
    client: FuncXClient, endpoint: RunningEndpoint, runs: Runs
) -> None:
    """SIGKILL with eight busy workers: they end with it, and its tasks are queued at once."""
    endpoint._workers = 8
    first = endpoint.start_manager()
    ids = submit(client, endpoint, runs, 8)
    eventually(lambda: len(runs.begun()) == 8)
    family = descendants(first)
    assert len(family) >= 9, "a seed and eight workers"
    endpoint.start_manager()
    eventually(lambda: client.get_endpoint_status(endpoint.endpoint_id)["logs"][0]["managers"] == 2)
    at = time.monotonic()
    first.kill()
    _, alive = psutil.wait_procs(family, timeout=10)
    orphans_s = time.monotonic() - at
    assert not alive
    eventually(lambda: len(runs.begun()) > 8)
    again_s = runs.begun()[8][2] - at
    record_figure("M2", "the manager's death until its workers are gone", orphans_s, "s")
    record_figure("M2", "the manager's death until a task of it runs again", again_s, "s")
    assert orphans_s < 10
    assert again_s < 10
    runs.go()
    assert len(results(client, ids)) == 8
    assert len(runs.begun()) == 16


@pytest.mark.load
def test_m02_twenty_managers_are_killed(
    client: FuncXClient, endpoint: RunningEndpoint, runs: Runs
) -> None:
    """The same over and over: how long it takes until tasks run elsewhere."""
    took: list[float] = []
    noticed: list[float] = []
    endpoint._workers = 2
    # More retries than it is killed: it is there to be lost.
    function = client.register_function(hold)
    manager = endpoint.start_manager()
    for number in range(20):
        batch = client.create_batch()
        batch.add(str(runs.path), number, endpoint_id=endpoint.endpoint_id, function_id=function)
        ids = client.batch_run(batch)
        eventually(lambda number=number: runs.begun() and runs.begun()[-1][0] == number)
        pid = runs.begun()[-1][1]
        following = endpoint.start_manager()
        eventually(
            lambda: client.get_endpoint_status(endpoint.endpoint_id)["logs"][0]["managers"] == 2
        )
        before = len(runs.begun())
        at, wall = time.monotonic(), time.time()
        manager.kill()
        manager.wait()
        noticed.append(eventually(lambda number=number: gone(endpoint, number)) - wall)
        eventually(lambda before=before: len(runs.begun()) > before)
        index, again, when = runs.begun()[-1]
        assert index == number
        assert again != pid
        took.append(when - at)
        runs.go(again)
        assert results(client, list(ids)) == [again]
        manager = following
    cuts = quantiles(noticed, n=100)
    record_figure("M2", "death until it is noticed, median of 20", cuts[49], "s")
    record_figure("M2", "death until it is noticed, worst of 20", max(noticed), "s")
    cuts = quantiles(took, n=100)
    record_figure("M2", "death until the task runs again, median of 20", cuts[49], "s")
    record_figure("M2", "death until the task runs again, worst of 20", max(took), "s")
    assert cuts[49] < 10


def test_m06_a_manager_that_stood_still_for_too_long_may_still_be_first(
    client: FuncXClient, endpoint: RunningEndpoint, runs: Runs
) -> None:
    """SIGSTOP beyond the heartbeats: its task runs elsewhere; then it comes back with the result
    of the first attempt, which counts, and the second attempt is ended.
    """
    first = endpoint.start_manager()
    ids = submit(client, endpoint, runs, 1)
    ((_, pid, _),) = eventually(runs.begun)
    endpoint.start_manager()
    at = time.monotonic()
    first.send_signal(signal.SIGSTOP)
    eventually(lambda: len(runs.begun()) == 2)
    record_figure(
        "M6", f"SIGSTOP until its task runs elsewhere, 3 x {BEAT_S} s", runs.begun()[1][2] - at, "s"
    )
    second = runs.begun()[1][1]
    runs.go(pid)
    eventually(lambda: (runs.path / f"ended-{pid}").exists())
    first.send_signal(signal.SIGCONT)
    assert results(client, ids) == [pid]
    eventually(lambda: not psutil.pid_exists(second), within=20)
    eventually(lambda: client.get_endpoint_status(endpoint.endpoint_id)["logs"][0]["managers"] == 2)


def test_m07_managers_go_on_while_the_interchange_stands_still(
    client: FuncXClient, endpoint: RunningEndpoint, runs: Runs
) -> None:
    """SIGSTOP of the interchange beyond the heartbeats: tasks end meanwhile, nothing is lost, and
    nothing runs twice.
    """
    manager = endpoint.start_manager()
    runs.go()
    warm = submit(client, endpoint, runs, 1)
    results(client, warm)
    (runs.path / "go").unlink()
    ids = submit(client, endpoint, runs, 2)
    eventually(lambda: len(runs.begun()) == 2)
    assert endpoint.interchange is not None
    endpoint.interchange.send_signal(signal.SIGSTOP)
    log = endpoint.directory.path / "manager-0.log"
    eventually(lambda: "silent" in log.read_text() or "lost" in log.read_text(), within=20)
    runs.go()
    eventually(lambda: len(runs.begun()) >= 2)
    assert manager.poll() is None
    endpoint.interchange.send_signal(signal.SIGCONT)
    assert len(results(client, ids)) == 2
    assert len(runs.begun()) == 3, "none ran twice"
    assert manager.poll() is None


_OTHER_VERSION = """
import runpy, sys
import msgspec
from fxhpc.manager.core import Manager
register = Manager._register
def other(self):
    return msgspec.structs.replace(
        register(self), protocol=99, oldest_protocol=98, version="99.0")
Manager._register = other
sys.argv = ["manager"]
runpy.run_module("fxhpc.manager", run_name="__main__")
"""


def test_m11_a_manager_of_another_version_is_refused_and_others_go_on(
    client: FuncXClient, endpoint: RunningEndpoint, runs: Runs
) -> None:
    """It is told, and tells, both versions; it ends, and it alone."""
    endpoint.start_manager()
    runs.go()
    results(client, submit(client, endpoint, runs, 1))
    directory = endpoint.directory
    log = directory.path / "other.log"
    spec = ManagerSpec(
        endpoint=b"",
        workers=1,
        address_file=str(directory.managers_address),
        key_file=str(directory.manager_key),
        log_file=str(log),
    )
    at = time.monotonic()
    other = subprocess.run(
        [sys.executable, "-c", _OTHER_VERSION],
        input=msgspec.msgpack.encode(spec),
        cwd="/",
        env=module_environment(),
        timeout=30,
    )
    record_figure("M11", "start of a manager until it has been refused", time.monotonic() - at, "s")
    assert other.returncode != 0
    for told in (log.read_text(), directory.log.read_text()):
        assert "is fxhpc 99.0 (protocol 99), this interchange is fxhpc" in told
        assert "install the same version on both" in told
    assert len(results(client, submit(client, endpoint, runs, 3))) == 3
