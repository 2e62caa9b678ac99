"""Managers and workers of a `local` endpoint are killed: lost work runs again, or says why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from homes import TestHome, finish
from lives import launch, only_forwarder_left, script, titled

from tests.waiting import eventually

MANY = """
def note(path, x):
    import os, time
    with open(path, "a") as file:
        file.write(f"{x}\\n")
    time.sleep(0.02)
    return 2 * x

path, kind, count = sys.argv[1], sys.argv[2], 160
if kind == "embedded":
    executor = Executor(2)
    futures = [executor.submit(note, path, x) for x in range(count)]
    assert [future.result(60) for future in futures] == [2 * x for x in range(count)]
    executor.shutdown()
else:
    fxc = FuncXClient()
    function = fxc.register_function(note)
    batch = fxc.create_batch()
    for x in range(count):
        batch.add(path, x, endpoint_id="local", function_id=function)
    ids = fxc.batch_run(batch)
    fxc.wait(ids, timeout=60)
    assert [fxc.get_result(i) for i in ids] == [2 * x for x in range(count)]
print("all there")
"""


@pytest.mark.parametrize("kind", ["embedded", "home"])
def test_a_killed_manager_loses_nothing(home: TestHome, tmp_path: Path, kind: str) -> None:
    notes = tmp_path / "notes"
    process = launch(home, "many.py", script(MANY), notes, kind)

    def done() -> int:
        return len(notes.read_text().split()) if notes.exists() else 0

    killed: set[int] = set()
    for share in (20, 80):
        eventually(lambda share=share: done() > share)  # type: ignore[misc]
        found = eventually(
            lambda: [one for one in titled(home, "fxhpc: manager") if one.pid not in killed]
        )
        assert isinstance(found, list)
        for one in found:
            killed.add(one.pid)
            one.kill()
    assert finish(process) == "all there\n"
    ran = Counter(map(int, notes.read_text().split()))
    assert set(ran) == set(range(160))
    # Only what ran when the manager died runs again: at most a task for each worker.
    assert sum(ran.values()) <= 160 + 2 * len(killed), [x for x in ran if ran[x] > 1]
    only_forwarder_left(home)


STOPPED = """
from fxhpc.client.connection import standing_still

standing_still.STILL_S = 0.3

def second_time(path):
    import os, time
    with open(path, "a") as file:
        file.write("begun ")
    while len(open(path).read().split()) < 2:
        time.sleep(0.02)
    return os.getppid()

with Executor(endpoint_id="local") as executor:
    assert executor.submit(second_time, sys.argv[1]).result(60)
print("all there")
"""


def test_a_manager_that_stays_stopped_is_killed_and_its_task_runs_again(
    home: TestHome, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    process = launch(home, "stopped.py", script(STOPPED), notes)
    eventually(lambda: notes.exists() and notes.read_text())
    (manager,) = titled(home, "fxhpc: manager")
    manager.suspend()
    assert finish(process) == "all there\n"
    assert notes.read_text().split() == ["begun", "begun"]
    only_forwarder_left(home)


KILLED = """
from fxhpc import errors

def fatal(path):
    import os, signal, sys
    with open(path, "a") as file:
        file.write("tried\\n")
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

path, kind = sys.argv[1:3]

def told(error):
    assert type(error) is errors.WorkerDied, repr(error)
    text = str(error)
    for word in ("signal 9 (SIGKILL)", "last words", "1. worker", "2. worker"):
        assert word in text, (word, text)
    print("told")

if kind == "embedded":
    with Executor(2) as executor:
        futures = [executor.submit(double, x) for x in range(50)]
        told(executor.submit(fatal, path).exception(60))
        futures += [executor.submit(double, x) for x in range(50)]
        assert [future.result(60) for future in futures] == [2 * x for x in range(50)] * 2
else:
    fxc = FuncXClient()
    function = fxc.register_function(double)
    ids = fxc.map_run(range(50), endpoint_id="local", function_id=function)
    task = fxc.run(path, endpoint_id="local", function_id=fxc.register_function(fatal))
    try:
        fxc.get_result(task, timeout=60)
    except errors.FxhpcError as error:
        told(error)
    ids += fxc.map_run(range(50), endpoint_id="local", function_id=function)
    fxc.wait(ids, timeout=60)
    assert [fxc.get_result(i) for i in ids] == [2 * x for x in range(50)] * 2
"""


@pytest.mark.parametrize("kind", ["embedded", "home"])
def test_a_task_that_kills_its_worker_says_so_and_harms_no_other(
    home: TestHome, tmp_path: Path, kind: str
) -> None:
    notes = tmp_path / "notes"
    assert finish(launch(home, "killed.py", script(KILLED), notes, kind)) == "told\n"
    assert notes.read_text().split() == ["tried"] * 3
    only_forwarder_left(home)
