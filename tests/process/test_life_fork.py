"""Forks, pools of processes and neighbours on one home: everybody gets their own results."""

from __future__ import annotations

from pathlib import Path

import pytest
from homes import TestHome, finish
from lives import launch, only_forwarder_left, read_line, say, script
from notebook import Notebook

FORK = """
def use(fxc, base):
    function = fxc.register_function(double)
    ids = [fxc.run(x, endpoint_id="local", function_id=function) for x in range(base, base + 20)]
    ids += fxc.map_run(range(base, base + 200), endpoint_id="local", function_id=function)
    fxc.wait(ids, timeout=30)
    assert [fxc.get_result(i) for i in ids] == [
        2 * x for x in [*range(base, base + 20), *range(base, base + 200)]
    ]
    return os.getpid()

fxc = FuncXClient(embedded=sys.argv[1] == "embedded")
executor = Executor(1)
use(fxc, 0)
before = fxc.run(4, endpoint_id="local", function_id=fxc.register_function(double))
pending = executor.submit(time.sleep, 0.5)
assert executor.submit(double, 1).result() == 2
if sys.argv[1] == "with threads":  # that submit while the fork happens
    import threading
    stop = threading.Event()
    def submit():
        while not stop.is_set():
            assert executor.submit(double, 1).result() == 2
    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()

children = []
for number in (1, 2):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            use(fxc, 1000 * number)
            assert executor.submit(double, number).result(30) == 2 * number
            if sys.argv[1] != "embedded":  # its store was the parent's
                assert fxc.get_result(before, timeout=30) == 8
            try:
                pending.result(10)
            except RuntimeError as error:
                assert "parent process" in str(error)
            code = 0
        finally:
            if number == 1:
                fxc.close()
                os._exit(code)  # as a crash would
            sys.exit(code)  # as any script, with an executor that nobody has shut down
    children.append(child)
use(fxc, 5000)
assert executor.submit(double, 3).result(30) == 6
assert pending.result(30) is None
if sys.argv[1] == "with threads":
    stop.set()
    for thread in threads:
        thread.join()
assert fxc.get_result(before, timeout=30) == 8
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
use(fxc, 7000)
"""


@pytest.mark.parametrize("kind", ["home", "embedded", "with threads"])
def test_parent_and_children_go_on_after_a_fork(home: TestHome, kind: str) -> None:
    assert finish(launch(home, "fork.py", script(FORK), kind)) == "[0, 0]\n"
    only_forwarder_left(home)


AT_ONCE = """
import threading

imported = []  # by other threads: a fork meanwhile would leave a child half a module
main = threading.get_ident()
def note(event, arguments):
    if event == "import" and threading.get_ident() != main:
        imported.append(arguments[0])
sys.addaudithook(note)

for after in (0.0, 0.002, 0.006):
    executor = Executor(1)
    mine = executor.submit(double, 1)  # its manager is about to be started
    time.sleep(after)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        code = executor.submit(double, 2).result(20) != 4
        os.read(reader, 1)  # lives on until its parent has closed the other end
        os._exit(code)
    assert mine.result(20) == 2
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    executor.shutdown()
print(imported)
"""


def test_a_fork_may_happen_while_the_manager_is_started(home: TestHome) -> None:
    assert finish(launch(home, "fork.py", script(AT_ONCE))) == "[]\n"
    only_forwarder_left(home)


POOL = """
import multiprocessing

fxc = None
executor = None

def square(x):
    return x * x

def work(x):
    global fxc, executor
    if fxc is None:  # a spawned worker has nothing
        fxc, executor = FuncXClient(), Executor(1)
    function = fxc.register_function(square)
    task = fxc.run(x, endpoint_id="local", function_id=function)
    return executor.submit(double, x).result(30), fxc.get_result(task, timeout=30), os.getpid()

if __name__ == "__main__":
    if sys.argv[1] == "fork":
        fxc, executor = FuncXClient(), Executor(1)
        work(0)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        found = pool.map(work, range(16), chunksize=1)
        if sys.argv[2:]:
            print("in the pool", flush=True)
        pool.close()
        pool.join()
    assert [(a, b) for a, b, _ in found] == [(2 * x, x * x) for x in range(16)]
    assert os.getpid() not in {pid for _, _, pid in found}
    if sys.argv[1] == "fork":
        work(5)
    print("all there")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_pool_are_clients(home: TestHome, method: str) -> None:
    assert finish(launch(home, "pool.py", script(POOL), method)) == "all there\n"
    only_forwarder_left(home)


NEIGHBOUR = """
number = int(sys.argv[1])
fxc = FuncXClient()
function = fxc.register_function(double)
at_prompt()
for round in range(10):
    start = number * 100_000 + round * 1000
    ids = fxc.map_run(range(start, start + 500), endpoint_id="local", function_id=function)
    ids.append(fxc.run(start, endpoint_id="local", function_id=function))
    fxc.wait(ids, timeout=60)
    found = fxc.get_batch_result(ids)
    values = [found[i]["result"] for i in ids]
    assert values == [2 * x for x in [*range(start, start + 500), start]]
print("all there")
"""


def test_two_scripts_a_kernel_and_a_pool_on_one_home(home: TestHome, tmp_path: Path) -> None:
    scripts = [launch(home, "one.py", script(NEIGHBOUR), number) for number in (1, 2)]
    pool = launch(home, "pool.py", script(POOL), "fork")
    with Notebook(home, tmp_path / "notebook") as notebook:
        for one in scripts:
            assert read_line(one) == "prompt"
            say(one)
        cell = notebook.begin(
            script(NEIGHBOUR).replace("sys.argv[1]", "3").replace("at_prompt()\n", "\n")
        )
        assert notebook.end(cell) == "all there\n"
        for one in scripts:
            assert finish(one) == "all there\n"
        assert finish(pool) == "all there\n"
    only_forwarder_left(home)
