"""F7, F8: a million tasks, twice, through one home: its disk and its forwarder do not grow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from fxhpc.testing.endpoint import RunningEndpoint
from tests.faults.figures import record_figure
from tests.process.homes import TestHome, finish

TASKS = int(os.environ.get("FXHPC_LOAD_TASKS", "1000000"))

BATCH = """
import sys, time
import psutil
from fxhpc import FuncXClient
from fxhpc.forwarder.home import Home

def same(x):
    return x

if __name__ == "__main__":
    began = time.monotonic()
    with FuncXClient() as fxc:
        function = fxc.register_function(same)
        batch = fxc.create_batch()
        for n in range(int(sys.argv[1])):
            batch.add(n, function_id=function, endpoint_id="4b116d3c-1703-4f8f-9f6f-39921e5864df")
        ids = fxc.batch_run(batch)
        fxc.wait(ids)
        assert [fxc.get_result(one) for one in ids[-3:]] == list(range(len(ids)))[-3:]
        print(time.monotonic() - began, psutil.Process(Home().read_owner().pid).memory_info().rss)
"""


def usage(home: TestHome, *arguments: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "fxhpc.cli.main", "store", *arguments, "--json"],
        env=home.environment, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.load
def test_f08_a_million_tasks_twice_leave_disk_and_memory_flat(home: TestHome) -> None:
    """F7, F8: batches of a million tasks, each run, read and purged."""
    home.environment["FXHPC_FORWARDER_GRACE"] = "60"
    left: list[int] = []
    resident: list[int] = []
    for _ in range(2):
        seconds, rss = finish(home.start("batch.py", BATCH, str(TASKS)), 600).split()
        before = usage(home, "du")
        usage(home, "purge", "--ended", "--yes")
        left.append(usage(home, "du")["database"])
        resident.append(int(rss))
        record_figure(
            "F8", f"batch of {TASKS:,}, to the last result", TASKS / float(seconds), "1/s"
        )
        record_figure("F8", "store per task", before["used"] / TASKS, "bytes")
        record_figure("F8", "forwarder's memory after it", int(rss) / 2**20, "MB")
    record_figure("F7", "database after two purges", left[-1], "bytes")
    os.kill(home.forwarder().pid, signal.SIGTERM)
    assert left[1] <= 1.2 * left[0] + 2**20
    assert resident[1] <= 1.3 * resident[0] + 32 * 2**20


QUEUE = """
import sys, time
from fxhpc import FuncXClient

def same(x):
    return x

if __name__ == "__main__":
    count, endpoint = int(sys.argv[1]), sys.argv[2]
    with FuncXClient() as fxc:
        function = fxc.register_function(same)
        batch = fxc.create_batch()
        for n in range(count):
            batch.add(n, function_id=function, endpoint_id=endpoint)
        began = time.monotonic()
        ids = fxc.batch_run(batch)
        print(time.monotonic() - began, fxc.get_task(ids[-1])["status"], flush=True)
        input()
        began = time.monotonic()
        fxc.wait(ids)
        took = time.monotonic() - began
        found = fxc.get_batch_result(ids)
        assert [found[one]["result"] for one in ids] == list(range(count))
        print(took, flush=True)
"""


@pytest.mark.load
def test_f08_a_million_tasks_wait_for_an_endpoint_and_are_drained(home: TestHome) -> None:
    """F8: tasks that do nothing are submitted while their endpoint is away. It comes, and drains
    them; the forwarder's memory stays far below what the tasks would take, the store is linear."""
    home.environment["FXHPC_FORWARDER_GRACE"] = "60"
    with RunningEndpoint(home.path, "midway", managers=0) as endpoint:
        here = endpoint.endpoint_id
    script = home.start("queue.py", QUEUE, str(TASKS), here)
    assert script.stdout is not None
    assert script.stdin is not None
    took, status = script.stdout.readline().split()
    assert status == "waiting-for-ep"
    record_figure("F8", f"{TASKS:,} submitted without an endpoint", TASKS / float(took), "1/s")
    forwarder = psutil.Process(home.forwarder().pid)
    record_figure("F8", "forwarder's memory, queued", forwarder.memory_info().rss / 2**20, "MB")
    queued = usage(home, "du")["used"] / TASKS
    record_figure("F8", "store per task, queued", queued, "bytes")
    with RunningEndpoint(home.path, "midway", workers=2):
        script.stdin.write("drain\n")
        script.stdin.flush()
        drained = script.stdout.readline()
        assert drained, script.communicate(timeout=60)[1]
    record_figure("F8", f"{TASKS:,} drained", TASKS / float(drained), "1/s")
    resident = forwarder.memory_info().rss
    record_figure("F8", "forwarder's memory, drained", resident / 2**20, "MB")
    record_figure("F8", "store per task, drained", usage(home, "du")["used"] / TASKS, "bytes")
    finish(script, 60)
    os.kill(forwarder.pid, signal.SIGTERM)
    assert queued < 200
    assert resident < 100 * 2**20 + 500 * TASKS
