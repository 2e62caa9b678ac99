"""What a client leaves behind: an Executor's work ends with it, other work waits for a question."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from homes import TestHome, finish
from lives import alive, launch, only_forwarder_left, read_line, say, script, titled

from fxhpc.forwarder.home import Home
from tests.waiting import eventually

PIDFD = "anon_inode:[pidfd]"

NOTE = """
def note(path, x):
    import time
    with open(path, "a") as file:
        file.write(f"{x}\\n")
    time.sleep(1000 if x < 2 else 0)
    return x

path = sys.argv[1]
"""

FIRST = """
fxc = FuncXClient()
group = "6f9619ff-8b86-4011-b42d-00c04fc964ff"
executor = Executor(client=fxc, task_group_id=group if sys.argv[2] == "group" else None)
futures = [executor.submit(note, path, x) for x in range(40)]
def begun():
    return len(open(path).read().split()) if os.path.exists(path) else 0

# Both workers are busy before another submitter comes, which would have its share of them.
while not (futures[-1].stored and begun() == 2):
    time.sleep(0.01)
ids = [future.task_id for future in futures]
function = fxc.register_function(note)
batch = fxc.create_batch()
for x in range(100, 140):
    batch.add(path, x, endpoint_id="local", function_id=function)
ids += [fxc.run(path, 50, endpoint_id="local", function_id=function), *fxc.batch_run(batch)]
print(*ids, flush=True)
sys.stdin.readline()
"""

LATER = """
from fxhpc import errors
fxc = FuncXClient()
of_executor, of_client = sys.argv[2].split(), sys.argv[3].split()
# They wait until they are asked for, and nothing else of the executor's runs.
assert [fxc.get_result(i, timeout=30) for i in of_client] == [50, *range(100, 140)]
if sys.argv[4] == "group":
    assert [fxc.get_result(i, timeout=30) for i in of_executor[2:]] == list(range(2, 40))
else:
    fxc.resume()
    for i in of_executor[2:]:
        try:
            fxc.get_result(i, timeout=30)
        except (errors.TaskCancelled, errors.TaskNotFound):
            continue  # nobody is left who could ask, so that nobody remembers it
        raise AssertionError(fxc.get_task(i))
print("all told")
"""


@pytest.mark.parametrize(
    ("group", "end"),
    [("none", "killed"), ("none", "ended"), ("group", "killed"), ("group", "ended")],
)
def test_an_executors_work_ends_with_it_and_other_work_waits(
    home: TestHome, tmp_path: Path, group: str, end: str
) -> None:
    notes = tmp_path / "notes"
    first = launch(home, "first.py", script(NOTE + FIRST), notes, group)
    ids = read_line(first).split()
    eventually(lambda: notes.exists() and len(notes.read_text().split()) == 2)
    if end == "killed":
        first.send_signal(signal.SIGKILL)
        first.wait()
    else:
        say(first)
        finish(first)
    only_forwarder_left(home)
    assert sorted(notes.read_text().split()) == ["0", "1"]  # nothing ran of what had not begun
    later = launch(
        home, "later.py", script(LATER), notes, " ".join(ids[:40]), " ".join(ids[40:]), group
    )
    assert finish(later) == "all told\n"
    ran = ["0", "1", "50", *map(str, range(100, 140))]
    if group == "group":
        ran += map(str, range(2, 40))
    assert Counter(notes.read_text().split()) == Counter(ran)


def test_the_next_client_says_how_much_lies_there(home: TestHome, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    first = launch(home, "first.py", script(NOTE + FIRST), notes, "none")
    read_line(first)
    first.kill()
    first.wait()
    eventually(lambda: not home.processes())  # else it is told of one that just leaves
    code = """
    for _ in range(2):
        fxc = FuncXClient()
    function = fxc.register_function(double)
    print(fxc.get_result(fxc.run(4, endpoint_id="local", function_id=function)))
    """
    second = launch(home, "second.py", script(code))
    out, err = second.communicate(timeout=60)
    assert out == "8\n", err
    (line,) = err.splitlines()  # once for a process
    assert "41 older tasks" in line
    assert "resume()" in line


def _watched(pid: int) -> int:
    """How many processes a process watches by a descriptor; 0 if it is gone."""
    try:
        return [link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()].count(PIDFD)
    except OSError:
        return 0  # gone, or it has just closed one


def test_the_forwarder_leaves_after_the_last_manager(home: TestHome) -> None:
    """Else that manager's journal would stay until somebody uses this home again."""
    home.environment["FXHPC_FORWARDER_GRACE"] = "0"
    code = """
    assert Executor(1, client=FuncXClient()).submit(double, 1).result() == 2
    at_prompt()
    """
    client = home.start("client.py", script(code))
    assert read_line(client) == "prompt"
    forwarder = home.forwarder().pid
    (manager,) = titled(home, "fxhpc: manager")
    manager.suspend()  # it takes long to end
    eventually(lambda: _watched(forwarder) == 2)  # client and manager
    client.kill()
    eventually(lambda: _watched(forwarder) < 2)  # it knows that its last client is gone
    since = time.monotonic()  # it would leave at its next look, which is one each half second
    eventually(lambda: not alive(forwarder) or time.monotonic() - since > 0.7)
    os.kill(manager.pid, signal.SIGCONT)
    eventually(lambda: not alive(forwarder))
    assert not list(Home(home.path).locals.iterdir())
