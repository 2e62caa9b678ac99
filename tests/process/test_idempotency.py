"""Idempotency keys between processes: killed clients, a killed forwarder, several at once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from homes import TestHome, finish

from fxhpc import FuncXClient
from tests.waiting import eventually

# The same script each time, as somebody runs it again after a crash: its class has another name for
# workers in each process, its set another order.
SUBMIT = """
    import sys
    from dataclasses import dataclass
    from fxhpc import FuncXClient

    @dataclass
    class Step:
        number: int
        names: set

    def note(path, step, folder):
        import os, time
        with open(path, "a") as file:  # one short write: lines of two workers do not mix
            file.write(f"{step.number}\\n")
        while not os.path.exists(os.path.join(folder, "go")):
            time.sleep(0.01)
        return step.number * 2

    notes, folder, what = sys.argv[1:]
    fxc = FuncXClient(labels=["nightly"], metadata={"attempt": what})
    function = fxc.register_function(note)
    batch = fxc.create_batch(idempotency_key="tonight")
    for number in range(5):
        step = Step(number, {f"name {n}" for n in range(20)})
        batch.add(notes, step, folder, endpoint_id="local", function_id=function)
    ids = fxc.batch_run(batch)
    print(*ids, flush=True)
    if what == "wait":
        fxc.wait(ids, timeout=60)
        results = fxc.get_batch_result(ids)
        print([results[i]["result"] for i in ids], flush=True)
    else:
        sys.stdin.readline()
"""


def said(process: Any) -> list[str]:
    line: list[str] = process.stdout.readline().split()
    return line


def test_a_script_that_is_run_again_finds_its_tasks(home: TestHome, tmp_path: Path) -> None:
    notes, folder = tmp_path / "notes", tmp_path
    first = home.start("submit.py", SUBMIT, str(notes), str(folder), "hold")
    ids = said(first)
    assert len(set(ids)) == 5
    eventually(lambda: notes.exists() and len(notes.read_text().split()) == 2)  # two workers
    before = home.forwarder()
    first.kill()
    first.wait()
    os.kill(before.pid, signal.SIGKILL)
    again = [home.start("submit.py", SUBMIT, str(notes), str(folder), "wait") for _ in range(2)]
    assert [said(process) for process in again] == [ids, ids]
    (folder / "go").touch()
    for process in again:
        assert finish(process) == "[0, 2, 4, 6, 8]\n"
    # What the killed process ran was begun again, and nothing else.
    begun = sorted(notes.read_text().split())
    assert set(begun) == set("01234")
    assert len(begun) == 7
    listed = json.loads(home.task("list", "--label", "nightly", "--json").stdout)
    assert [batch["tasks"] for batch in listed["batches"]] == [5]
    (found,) = listed["batches"]
    assert found["idempotency_key"] == "tonight"
    assert (found["labels"], found["metadata"]) == (["nightly"], {"attempt": "hold"})


def test_lists_by_label_and_by_group(client: FuncXClient, home: TestHome) -> None:
    function = client.register_function(pow)
    client.labels = ["energies", "water"]
    client.metadata = {"basis": "sto-3g"}
    task = client.run(2, 5, endpoint_id="local", function_id=function)
    assert client.get_result(task, timeout=30) == 32
    client.labels = None
    other = client.run(2, 6, endpoint_id="local", function_id=function)
    client.wait([other], timeout=30)

    def listed(*arguments: str) -> str:
        ended = home.task("list", *arguments)
        assert ended.returncode == 0, ended
        return ended.stdout

    group = client.session_task_group_id
    both, one = listed("--group", group), listed("--label", "water")
    assert (both.count("1 success"), one.count("1 success")) == (2, 1)
    assert "energies, water" in both
    assert listed("--label", "wat") == "no tasks\n"
    for group in ("11111111-1111-4111-8111-111111111111", "water"):
        unknown = home.task("list", "--group", group)
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert group in unknown.stderr
    assert listed("--all", "--label", "water").count("success") == 1
    shown = home.task("show", task).stdout
    assert "labels: energies, water\n" in shown
    assert 'metadata: {"basis": "sto-3g"}\n' in shown
