"""Forks, threads, submitting tasks and the interpreter's end, on each Python of this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from homes import TestHome, finish
from lives import PROMPT_S, launch, only_forwarder_left, script
from pythons import Installed, found

_PYTHONS = found()
_installed: dict[str, Installed] = {}


@pytest.fixture(
    params=[
        pytest.param(version, marks=pytest.mark.xdist_group(f"python {version}"))
        for version in _PYTHONS
    ]
)
def version(request: pytest.FixtureRequest) -> str:
    """Of a Python."""
    return str(request.param)


@pytest.fixture(scope="session")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.TempPathFactory]:
    yield tmp_path_factory
    for name, one in _installed.items():
        if one.environment:
            shutil.rmtree(tmp_path_factory.getbasetemp() / f"python-{name}")


@pytest.fixture
def python(version: str, _folders: pytest.TempPathFactory, home: TestHome) -> str:
    """An interpreter of this version that has fxhpc."""
    if version not in _installed:
        folder = _folders.mktemp(f"python-{version}", numbered=False)
        _installed[version] = Installed(_PYTHONS[version], folder)
    home.environment |= _installed[version].environment
    return _installed[version].python


FORKS = """
import concurrent.futures as cf
import multiprocessing
import threading

fxc = executor = None

def square(x):
    return x * x

def by_client(x):
    global fxc
    fxc = fxc or FuncXClient()  # a spawned process has nothing
    task = fxc.run(x, endpoint_id="local", function_id=fxc.register_function(square))
    return fxc.get_result(task, timeout=30)

def by_executor(x):
    global executor
    executor = executor or Executor(1)
    return executor.submit(square, x).result(30)

def by_both(x):
    assert by_executor(x) == by_client(x)
    return x * x

def refused(call):
    try:
        call()
    except RuntimeError as error:
        return "parent process" in str(error)
    return False

def serve(number, task, pending, element):
    for future in (pending, element):  # the parent's, which end there
        assert refused(lambda: future.result(10)) and refused(lambda: cf.wait([future], 10))
        assert refused(lambda: list(cf.as_completed([future], 10)))
        assert refused(lambda: future.add_done_callback(print))
        assert not future.cancel() and not future.done()
    assert [by_both(number + x) for x in range(3)] == [(number + x) ** 2 for x in range(3)]
    assert fxc.get_result(task, timeout=30) == 36

def before_fork():
    # As servers do: made in the master, used by it and by each of its workers.
    task = fxc.run(6, endpoint_id="local", function_id=fxc.register_function(square))
    pending = executor.submit(time.sleep, 1)
    element = executor.map(time.sleep, [0.5, 0.5], chunksize=2).futures[0]
    workers = []
    for number in (10, 20):
        worker = os.fork()
        if worker == 0:
            code = 1
            try:
                serve(number, task, pending, element)
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(code)
        workers.append(worker)
    assert by_both(3) == 9
    assert pending.result(30) is None and element.result(30) is None
    assert [os.waitpid(worker, 0)[1] for worker in workers] == [0, 0]

def with_threads():
    failed = []
    function = fxc.register_function(square)
    def use(number):
        try:
            ids = [fxc.run(number, endpoint_id="local", function_id=function) for _ in range(3)]
            futures = [executor.submit(square, number) for _ in range(3)]
            values = [fxc.get_result(one, timeout=60) for one in ids]
            assert values + [one.result(60) for one in futures] == [number * number] * 6
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=use, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed

def within(x):  # a task that submits, by a client and an executor of its own
    from fxhpc import Executor, FuncXClient
    def square(y):
        return y * y
    with FuncXClient() as fxc, Executor(1) as executor:
        task = fxc.run(x, endpoint_id="local", function_id=fxc.register_function(square))
        return fxc.get_result(task, timeout=30) + executor.submit(square, x).result(30)

if __name__ == "__main__":
    fxc, executor = FuncXClient(), Executor(1)
    assert by_both(2) == 4
    before_fork()
    with_threads()
    assert executor.submit(within, 5).result(60) == 50
    for method, work in (("fork", by_client), ("forkserver", by_executor), ("spawn", by_client)):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map(work, range(3)) == [0, 1, 4], method
            pool.close()
            pool.join()
    assert by_both(4) == 16
    print("all there")
"""


def test_forks_threads_and_tasks_that_submit(home: TestHome, python: str) -> None:
    process = launch(home, "forks.py", script(FORKS), python=python)
    assert finish(process) == "all there\n"
    only_forwarder_left(home)


ENDS = """
import atexit, threading

kind = sys.argv[1]
if kind == "home":
    fxc = FuncXClient()
    function = fxc.register_function(double)
    submit = lambda: fxc.run(4, endpoint_id="local", function_id=function)
    slow = fxc.run(1000, endpoint_id="local", function_id=fxc.register_function(time.sleep))
    wait = lambda: fxc.get_result(slow, timeout=float("inf"))
else:
    executor = Executor(1)
    submit = lambda: executor.submit(double, 4)
    slow = executor.submit(time.sleep, 1000)
    wait = slow.result

def tell(where, call, write=os.write):
    began = time.monotonic()
    try:
        said = call()
    except BaseException as error:
        said = f"{type(error).__name__} {error}"
    took = time.monotonic() - began
    write(1, f"{where}: {took:.1f}: {said}\\n".encode())

class Late:
    def __init__(self, tell, submit):
        self.tell, self.submit = tell, submit
    def __del__(self):
        self.tell("__del__", self.submit)

def after():
    threading.main_thread().join()  # the end of the interpreter waits for this thread
    tell("thread", submit)

atexit.register(tell, "atexit", submit)
threading.Thread(target=after).start()
threading.Thread(target=tell, args=("wait", wait)).start()
late = Late(tell, submit)
"""

#: What clients and executors say then.
WORDS = ("interpreter has begun to end", "after shutdown", "after interpreter shutdown")


def test_submitting_while_the_interpreter_ends_is_refused_at_once(
    home: TestHome, python: str
) -> None:
    ends: dict[str, subprocess.Popen[str]] = {
        kind: launch(home, "ends.py", script(ENDS), kind, python=python)
        for kind in ("home", "executor")
    }
    for kind, process in ends.items():
        said = finish(process)
        lines = {}
        for line in said.splitlines():
            where, took, words = line.split(": ", 2)
            lines[where] = words
            assert where == "wait" or float(took) < PROMPT_S, (kind, said)
        assert {"thread", "atexit", "wait"} <= lines.keys(), (kind, said)
        for where in ("thread", "atexit"):
            assert any(words in lines[where] for words in WORDS), (kind, said)
        assert "TaskCancelled" in lines["wait"] or "closed" in lines["wait"], (kind, said)
    only_forwarder_left(home)
