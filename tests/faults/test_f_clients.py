"""F5, F6: an endpoint that is away for long; clients that die, stand still, or never read."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from fxhpc import FuncXClient
from fxhpc.testing.endpoint import RunningEndpoint
from tests.faults.figures import record_figure
from tests.process.homes import TestHome, finish
from tests.waiting import eventually


def note(path: str, index: int) -> int:
    with open(path, "a") as file:  # one short write: lines of two workers do not mix
        file.write(f"{index}\n")
    return index


def large(size: int) -> bytes:
    return bytes(size)


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize(
    "count", [5_000, pytest.param(100_000, marks=pytest.mark.load)], ids=["few", "many"]
)
def test_f05_what_waits_for_an_endpoint_is_drained_in_order(
    home: TestHome, client: FuncXClient, tmp_path: Path, count: int
) -> None:
    """F5: tasks for an endpoint that is away wait, and say for what; they run in their order, but
    for what a worker was sent ahead, when it is there, each once."""
    notes = tmp_path / "notes"
    with RunningEndpoint(home.path, "midway", managers=0) as endpoint:
        here = endpoint.endpoint_id
    function = client.register_function(note)
    batch = client.create_batch()
    for index in range(count):
        batch.add(str(notes), index, endpoint_id=here, function_id=function)
    ids = client.batch_run(batch)
    told = client.get_task(ids[-1])
    assert told["status"] == "waiting-for-ep"
    assert "midway" in told["reason"]
    assert client.get_endpoint_status(here)["status"] == "offline"
    with RunningEndpoint(home.path, "midway", workers=1):
        eventually(lambda: _lines(notes), within=60)
        began = time.monotonic()
        client.wait(ids, timeout=600)
        record_figure("F5", f"{count:,} drained", count / (time.monotonic() - began), "tasks/s")
    ran = [int(line) for line in _lines(notes)]
    assert sorted(ran) == list(range(count))
    # What was sent ahead and taken back comes a little later.
    assert max(ran[: count // 4]) < min(ran[-count // 4 :])
    found = client.get_batch_result(ids)
    assert [found[task]["result"] for task in ids] == list(range(count))


SUBMITTER = """
    import sys, time
    from fxhpc import Executor, FuncXClient

    def note(path, index):
        import time
        with open(path, "a") as file:
            file.write(f"{index}\\n")
        if index < 2:
            time.sleep(0.5)
        return index

    path, here, kind = sys.argv[1:]
    fxc = FuncXClient()
    if kind == "batch":
        function = fxc.register_function(note)
        batch = fxc.create_batch()
        for index in range(40):
            batch.add(path, index, endpoint_id=here, function_id=function)
        print(*fxc.batch_run(batch), batch.task_group_id, flush=True)
    else:
        executor = Executor(client=fxc, endpoint_id=here)
        futures = [executor.submit(note, path, index) for index in range(40)]
        while not futures[-1].stored:
            time.sleep(0.01)
        print(*(future.task_id for future in futures), "-", flush=True)
    sys.stdin.read()
"""


def test_f06_a_new_client_has_the_results_of_one_that_was_killed(
    home: TestHome, client: FuncXClient, tmp_path: Path
) -> None:
    """F6: the client is killed after it has submitted; its tasks go on at their endpoint, and
    another client has their results by their ids, or finds them by their group. None runs again."""
    notes = tmp_path / "notes"
    with RunningEndpoint(home.path, "midway", workers=2) as endpoint:
        script = home.start("one.py", SUBMITTER, str(notes), endpoint.endpoint_id, "batch")
        assert script.stdout is not None
        *ids, group = script.stdout.readline().split()
        script.kill()
        script.wait()
        began = time.monotonic()
        assert [client.get_result(task, timeout=60) for task in ids] == list(range(40))
        record_figure("F6", "40 results, to another client", time.monotonic() - began, "s")
        assert {one["task_id"] for one in client.tasks() if one["group"] == group} == set(ids)
    assert sorted(map(int, _lines(notes))) == list(range(40))


def test_f06_the_queued_work_of_a_killed_executor_ends(
    home: TestHome, client: FuncXClient, tmp_path: Path
) -> None:
    """F6: an Executor's work ends with its process: what had not begun never does."""
    notes = tmp_path / "notes"
    with RunningEndpoint(home.path, "midway", workers=2) as endpoint:
        here = endpoint.endpoint_id
        script = home.start("one.py", SUBMITTER, str(notes), here, "executor")
        assert script.stdout is not None
        *ids, _ = script.stdout.readline().split()
        eventually(lambda: len(_lines(notes)) >= 2)
        script.kill()
        script.wait()
        eventually(lambda: client.get_batch_result(ids)[ids[0]]["status"] == "unknown")
        function = client.register_function(note)
        client.get_result(
            client.run(str(notes), 99, endpoint_id=here, function_id=function), timeout=60
        )
    assert {int(line) for line in _lines(notes)} <= {0, 1, 2, 3, 99}


READER = """
    import sys
    from fxhpc import Executor, FuncXClient

    def large(size):
        return bytes(size)

    count, size = map(int, sys.argv[1:])
    with FuncXClient() as fxc, Executor(client=fxc, max_payload=2 * size) as executor:
        futures = [executor.submit(large, size) for _ in range(count)]
        futures[0].result()  # its own manager is there
        print("submitted", flush=True)
        assert sum(len(future.result()) for future in futures) == count * size
        print("all there")
"""


@pytest.mark.parametrize(
    ("count", "size"),
    [(300, 500_000), pytest.param(3000, 500_000, marks=pytest.mark.load)],
    ids=["few", "many"],
)
def test_f06_a_client_that_stands_still_costs_no_memory_and_slows_nobody(
    home: TestHome, client: FuncXClient, count: int, size: int
) -> None:
    """A client is stopped (SIGSTOP) with results on their way: the forwarder keeps a bounded part
    of them in memory, others are served as before, and it has all of them when it goes on."""
    function = client.register_function(large)
    client.get_result(client.run(1, endpoint_id="local", function_id=function), timeout=60)
    script = home.start("reader.py", READER, str(count), str(size))
    assert script.stdout is not None
    assert script.stdout.readline() == "submitted\n"
    os.kill(script.pid, signal.SIGSTOP)
    forwarder = psutil.Process(home.forwarder().pid)
    peak, trips = 0, []

    def all_ended() -> bool:
        nonlocal peak
        began = time.monotonic()
        task = client.run(1, endpoint_id="local", function_id=function)
        assert client.get_result(task, timeout=60) == b"\0"
        trips.append(time.monotonic() - began)
        peak = max(peak, forwarder.memory_info().rss)
        working = [one for one in client.tasks(state="pending") if one["group"] == ""]
        return not working

    try:
        eventually(all_ended)
        record_figure("F6", f"forwarder's RSS, {count} x {size} B unread", peak / 1e6, "MB")
        record_figure("F6", "another client's round trip meanwhile, worst", max(trips), "s")
        assert peak < 400e6
        assert sorted(trips)[len(trips) // 2] < 5  # milliseconds; the machine may be busy
    finally:
        os.kill(script.pid, signal.SIGCONT)
    assert "all there" in finish(script)
