"""F2, F14: slow disks, and what is synchronised before it is acknowledged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.faulty_disk import FaultyDisk
from tests.faults.figures import record_figure
from tests.faults.slow_disk import slow_disk
from tests.process.homes import TestHome, finish

COMMIT = """
import json, sys, time
from fxhpc.forwarder.store.operations import AddStream, AddSubmission
from fxhpc.forwarder.store.store import Store
from fxhpc.forwarder.store.writer import Writer
from fxhpc.protocol.messages import StreamInfo

store = Store(sys.argv[1], full_sync=sys.argv[2] == "full")
store.apply([AddStream(StreamInfo(bytes(12), "endpoint", b"f" * 32))])
writer = Writer(store, lambda: None, inline=sys.argv[2] != "full")
began = time.monotonic()
for row in range(1, 201):
    writer.submit(row, [AddSubmission(row, bytes(12), 100 * row, [b"argument"] * 100)])
while writer._asked != writer._answered:
    time.sleep(0.0005)
print(json.dumps(20_000 / (time.monotonic() - began)))
if sys.argv[3:]:
    one = time.monotonic()
    for row in range(1001, 1021):
        store.apply([AddSubmission(row, bytes(12), 100 * row, [b"argument"])])
    print(json.dumps((time.monotonic() - one) / 20))
    import os
    os.kill(os.getpid(), 9)
writer.close()
"""


@pytest.mark.parametrize("level", ["normal", "full"])
def test_f14_synchronisations_are_shared_by_many_tasks(tmp_path: Path, level: str) -> None:
    """F14: FULL synchronises before it acknowledges, one time for all that waits; NORMAL, on a
    disk of this host, only when the log is emptied. Both keep up on a disk of 10 ms."""
    environment, syncs = slow_disk(tmp_path, ms=10)
    done = subprocess.run(
        [sys.executable, "-c", COMMIT, str(tmp_path / "store.db"), level],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    speed = json.loads(done.stdout)
    count = len(syncs.read_bytes())
    record_figure("F14", f"syncs per task, {level}", count / 20_000, "")
    record_figure("F2", f"stored tasks/s at 10 ms per sync, {level}", speed, "1/s")
    assert count < 60, "group commit shares synchronisations"
    if level == "full":
        assert count >= 2


def test_f14_full_synchronises_each_commit_before_it_is_acknowledged(tmp_path: Path) -> None:
    """F14: with FULL each of 20 commits, one after another, is on the disk when it returns."""
    environment, syncs = slow_disk(tmp_path, ms=10)
    done = subprocess.run(
        [sys.executable, "-c", COMMIT, str(tmp_path / "store.db"), "full", "singly"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    _, each = map(json.loads, done.stdout.split())
    record_figure("F14", "one commit at 10 ms per sync, full", each, "s")
    assert each >= 0.01
    assert len(syncs.read_bytes()) >= 21


BATCH_AND_EXECUTOR = """
import json, statistics, sys, time
from fxhpc import Executor, FuncXClient

def same(x):
    return x

if __name__ == "__main__":
    local, tasks, alone = "4b116d3c-1703-4f8f-9f6f-39921e5864df", int(sys.argv[1]), 50
    found = {}
    with FuncXClient() as fxc:
        function = fxc.register_function(same)
        fxc.get_result(fxc.run(1, endpoint_id=local, function_id=function), wait=30)
        batch = fxc.create_batch()
        began = time.monotonic()
        for n in range(tasks):
            batch.add(n, function_id=function, endpoint_id=local)
        ids = fxc.batch_run(batch)
        fxc.wait(ids)
        fxc.get_batch_result(ids)
        found["batch_run"] = tasks / (time.monotonic() - began)
        with Executor(funcx_client=fxc) as executor:
            executor.submit(same, 1).result()
            began = time.monotonic()
            futures = [executor.submit(same, n) for n in range(tasks)]
            assert [future.result() for future in futures] == list(range(tasks))
            found["Executor"] = tasks / (time.monotonic() - began)
            took = []
            for n in range(alone):
                began = time.monotonic()
                executor.submit(same, n).result()
                took.append(time.monotonic() - began)
            found["round trip, Executor"] = statistics.median(took)
        took = []
        for n in range(alone):
            began = time.monotonic()
            fxc.get_result(fxc.run(n, endpoint_id=local, function_id=function), wait=30)
            took.append(time.monotonic() - began)
        found["round trip, run"] = statistics.median(took)
    print(json.dumps(found))
"""


@pytest.mark.load
@pytest.mark.parametrize("level", ["normal", "full"])
@pytest.mark.parametrize("ms", [0, 10])
def test_f02_a_home_on_a_slow_disk(home: TestHome, tmp_path: Path, ms: int, level: str) -> None:
    """F2: batches, an Executor and lone calls through a home whose disk takes 10 ms for each
    synchronisation: on a local disk, and where every commit is synchronised."""
    disk = FaultyDisk(tmp_path / "faults", home.path)
    disk.slow(ms)
    home.environment.update(disk.environment)
    if level == "full":
        # What tells network file systems apart is asked in the forwarder alone.
        patch = tmp_path / "patch"
        patch.mkdir()
        (patch / "sitecustomize.py").write_text(
            "import fxhpc.forwarder.filesystems as f\nf.network_type = lambda path: 'nfs'\n"
        )
        home.environment["PYTHONPATH"] = str(patch)
    tasks = int(os.environ.get("FXHPC_LOAD_TASKS", "10000"))
    found = json.loads(finish(home.start("work.py", BATCH_AND_EXECUTOR, str(tasks)), 300))
    for name, value in found.items():
        unit = "s" if name.startswith("round") else "1/s"
        record_figure("F2", f"{name}, {level}, {ms} ms a sync", value, unit)
