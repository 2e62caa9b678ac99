"""What a client leaves behind: an Executor's work ends with it, other work waits for a question."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from homes import TestHome, finish
from lives import launch, only_forwarder_left, read_line, say, script

from tests.waiting import eventually

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
while not futures[-1].stored:
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
    only_forwarder_left(home)
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
