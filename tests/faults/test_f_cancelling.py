"""F11: cancelling in every state that a task can be in, by ids and by group."""

from __future__ import annotations

import concurrent.futures as cf
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fxhpc import Executor, FuncXClient
from fxhpc.errors import TaskCancelled, TaskGroupNotFound
from fxhpc.ids import new_id, new_stream, task_id
from fxhpc.testing.endpoint import RunningEndpoint
from tests.faults.figures import record_figure
from tests.process.homes import TestHome
from tests.waiting import eventually


def double(x: int) -> int:
    return 2 * x


def hold(path: str, index: int) -> int:
    """Run until its file is removed; a child that has left its session runs as long."""
    import os
    import subprocess
    import time

    child = subprocess.Popen(["setsid", "sleep", "1000"])
    with open(f"{path}/{index}.part", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(f"{path}/{index}.part", f"{path}/{index}")
    while os.path.exists(f"{path}/{index}"):
        time.sleep(0.01)
    child.kill()
    return index


def pids(directory: Path, index: int) -> list[int]:
    """The worker that runs a task, and the child that it has started."""
    path = directory / str(index)
    eventually(path.exists)
    return [int(word) for word in path.read_text().split()]


def status(client: FuncXClient, task: str) -> str:
    return str(client.get_task(task)["status"])


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    with RunningEndpoint(home.path, "midway", workers=1) as endpoint:
        yield endpoint


def test_f11_queued_running_ended_twice_and_unknown(
    client: FuncXClient, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    """F11: what is queued ends at once; what runs only with `interrupt`, and then its worker and
    all that it has started; what has ended keeps its value; each answer says which, and is the
    same when it is asked for again. The worker is replaced."""
    here = endpoint.endpoint_id
    function, quick = client.register_function(hold), client.register_function(double)
    ended = client.run(4, endpoint_id=here, function_id=quick)
    assert client.get_result(ended, timeout=60) == 8
    runs, *queued = [
        client.run(str(tmp_path), index, endpoint_id=here, function_id=function)
        for index in range(3)
    ]
    worker, child = pids(tmp_path, 0)
    unknown = task_id(new_stream(), 0)
    for _ in range(2):
        assert client.cancel([ended, runs, *queued]) == {
            ended: False,
            runs: False,
            queued[0]: True,
            queued[1]: True,
        }
    assert status(client, runs) == "running"
    began = time.monotonic()
    assert client.cancel(runs, interrupt=True) is True
    record_figure("F11", "interrupt of a running task, answered", time.monotonic() - began, "s")
    eventually(lambda: not psutil.pid_exists(worker) and not psutil.pid_exists(child))
    record_figure("F11", "until it and what it started are gone", time.monotonic() - began, "s")
    assert client.cancel(runs, interrupt=True) is True
    assert client.cancel(ended, interrupt=True) is False
    assert client.get_result(ended) == 8
    for task in (runs, *queued):
        with pytest.raises(TaskCancelled):
            client.get_result(task)
    assert client.get_result(client.run(1, endpoint_id=here, function_id=quick), timeout=60) == 2
    assert client.cancel(unknown) is False
    assert client.cancel([]) == {}


def test_f11_by_group_whoever_has_submitted(
    client: FuncXClient, endpoint: RunningEndpoint, tmp_path: Path, home: TestHome
) -> None:
    """F11: a group is cancelled as a whole: a batch's, an Executor's, and single calls."""
    here = endpoint.endpoint_id
    function, quick = client.register_function(hold), client.register_function(double)
    batch = client.create_batch(task_group_id=new_id())
    batch.add(0, endpoint_id=here, function_id=quick)
    for index in range(2):
        batch.add(str(tmp_path), index, endpoint_id=here, function_id=function)
    ended, first, second = client.batch_run(batch)
    other = client.run(3, endpoint_id=here, function_id=quick)
    pids(tmp_path, 0)
    with Executor(endpoint_id=here, client=client, task_group_id=batch.task_group_id) as executor:
        future = executor.submit(double, 1)
        eventually(lambda: future.stored)  # type: ignore[attr-defined]
        told = client.cancel(task_group_id=executor.task_group_id)
        assert isinstance(told, dict)
        assert told == {ended: False, first: False, second: True, future.task_id: True}
        with pytest.raises(cf.CancelledError):
            future.result(timeout=60)
    said = home.run(
        "group.py",
        """
        import sys
        from fxhpc.cli.main import main
        main(["task", "cancel", "--group", sys.argv[1].upper(), "--interrupt"])
        """,
        batch.task_group_id,
    )
    assert "1 task cancelled" in said
    assert client.get_result(other, timeout=60) == 6
    assert status(client, first) == "cancelled"
    assert client.get_result(ended) == 0
    for nobodys in (new_id(), "nonsense"):
        with pytest.raises(TaskGroupNotFound, match=nobodys):
            client.cancel(task_group_id=nobodys)


def test_f11_before_the_endpoint_ever_came_while_forwarders_die_after_the_client_is_gone(
    client: FuncXClient, home: TestHome, tmp_path: Path
) -> None:
    """F11: cancelling needs no endpoint, no client that submitted, and no forwarder that lives."""
    with RunningEndpoint(home.path, "midway", managers=0) as endpoint:
        here = endpoint.endpoint_id
    script = home.start(
        "submit.py",
        """
        import sys
        from fxhpc import FuncXClient
        def double(x):
            return 2 * x
        fxc = FuncXClient()
        function = fxc.register_function(double)
        print(*fxc.map_run(range(5), endpoint_id=sys.argv[1], function_id=function), flush=True)
        sys.stdin.read()
        """,
        here,
    )
    assert script.stdout is not None
    ids = script.stdout.readline().split()
    script.kill()
    script.wait()
    assert client.cancel(ids[0]) is True
    os.kill(home.forwarder().pid, signal.SIGKILL)
    assert client.cancel(ids[:2]) == {ids[0]: True, ids[1]: True}
    with RunningEndpoint(home.path, "midway") as endpoint:
        rest = {task: client.get_result(task, timeout=60) for task in ids[2:]}
        assert list(rest.values()) == [4, 6, 8]
    assert {status(client, task) for task in ids[:2]} == {"cancelled"}


def test_f11_while_the_interchange_is_away_the_worker_is_free_when_it_is_back(
    client: FuncXClient, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    """F11: a running task that is cancelled while its interchange is dead never comes back as a
    value, and does not keep its worker."""
    here = endpoint.endpoint_id
    function, quick = client.register_function(hold), client.register_function(double)
    task = client.run(str(tmp_path), 0, endpoint_id=here, function_id=function)
    worker, child = pids(tmp_path, 0)
    eventually(lambda: status(client, task) == "running")
    assert endpoint.interchange is not None
    endpoint.interchange.kill()
    endpoint.interchange.wait()
    eventually(lambda: status(client, task) != "running")
    assert client.cancel(task, interrupt=True) is True
    endpoint.start_interchange()
    after = client.run(5, endpoint_id=here, function_id=quick)
    assert client.get_result(after, timeout=60) == 10
    eventually(lambda: not psutil.pid_exists(worker) and not psutil.pid_exists(child))
    assert status(client, task) == "cancelled"


def test_f11_a_hundred_thousand_in_one_call(client: FuncXClient, home: TestHome) -> None:
    """F11: very many ids in one call, of an endpoint that is away."""
    with RunningEndpoint(home.path, "midway", managers=0) as endpoint:
        here = endpoint.endpoint_id
    function = client.register_function(double)
    ids = client.map_run(range(100_000), endpoint_id=here, function_id=function)
    began = time.monotonic()
    told = client.cancel(ids)
    took = time.monotonic() - began
    record_figure("F11", "100,000 ids in one call", took, "s")
    assert isinstance(told, dict)
    assert len(told) == len(ids)
    assert all(told.values())
    began = time.monotonic()
    again = client.cancel(task_group_id=client.session_task_group_id)
    record_figure("F11", "and once more, by their group", time.monotonic() - began, "s")
    assert again == told


def test_f11_futures_keep_the_semantics_of_the_standard_library(
    client: FuncXClient, tmp_path: Path
) -> None:
    """F11: `Future.cancel()` ends what is queued; a running future is not cancelled, nor one that
    has ended; what was cancelled never becomes a value."""
    with Executor(client=client) as executor:
        running = [executor.submit(hold, str(tmp_path), index) for index in range(2)]
        for index in range(2):
            pids(tmp_path, index)
        eventually(lambda: all(future.running() for future in running))
        queued = [executor.submit(double, index) for index in range(1000)]
        began = time.monotonic()
        assert all(future.cancel() for future in queued)
        record_figure("F11", "Future.cancel, each", (time.monotonic() - began) / 1000 * 1e6, "us")
        assert not running[0].cancel()
        done, rest = cf.wait([*queued, *running], timeout=0)
        assert (done, rest) == (set(queued), set(running))
        for index in range(2):
            (tmp_path / str(index)).unlink()
        assert [future.result(timeout=60) for future in running] == [0, 1]
        assert not running[0].cancel()
        assert all(future.cancelled() and future.cancel() for future in queued)
        assert executor.submit(double, 3).result(timeout=60) == 6
