"""However a client ends, nothing of it is left but the home's forwarder, for its grace time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from homes import TestHome
from lives import (
    GONE_S,
    PROMPT_S,
    gone,
    held,
    launch,
    only_forwarder_left,
    read_line,
    say,
    script,
    socket_directories,
)

from fxhpc.transport.directories import OwnedDirectory
from tests.waiting import eventually

#: A client of each kind, with two tasks that never end; then an end of each kind.
ENDS = """
folder, kind, end = sys.argv[1:4]
if kind == "home":
    fxc = FuncXClient()
    function = fxc.register_function(hold)
    for n in range(4):
        fxc.run(folder, n, endpoint_id="local", function_id=function)
elif kind == "home executor":
    executor = Executor(endpoint_id="local")
    futures = [executor.submit(hold, folder, n) for n in range(4)]
elif kind == "embedded client":
    fxc = FuncXClient(embedded=True)
    function = fxc.register_function(hold)
    for n in range(4):
        fxc.run(folder, n, endpoint_id="local", function_id=function)
else:
    executor = Executor(2)
    futures = [executor.submit(hold, folder, n) for n in range(4)]
at_prompt()
if end == "sys.exit":
    sys.exit(3)
elif end == "os._exit":
    os._exit(3)
elif end == "error":
    raise ArithmeticError("of the script's own")
elif end == "result":
    futures[0].result()
elif end == "end":
    pass
else:
    time.sleep(1000)
"""

SIGNALS = {
    "SIGTERM": signal.SIGTERM,
    "SIGKILL": signal.SIGKILL,
    "SIGHUP": signal.SIGHUP,
    "SIGINT": signal.SIGINT,
}

LAST_LINES = {"error": "ArithmeticError: of the script's own", "SIGINT": "KeyboardInterrupt"}


@pytest.mark.parametrize(
    ("kind", "end", "code"),
    [
        ("home", "end", 0),
        ("home", "sys.exit", 3),
        ("home", "SIGTERM", -signal.SIGTERM),
        ("home", "SIGKILL", -signal.SIGKILL),
        ("home executor", "end", 0),
        ("home executor", "error", 1),
        ("home executor", "SIGKILL", -signal.SIGKILL),
        ("embedded client", "end", 0),
        ("embedded client", "SIGKILL", -signal.SIGKILL),
        ("embedded executor", "end", 0),
        ("embedded executor", "sys.exit", 3),
        ("embedded executor", "os._exit", 3),
        ("embedded executor", "error", 1),
        ("embedded executor", "SIGINT", -signal.SIGINT),
        ("embedded executor", "SIGTERM", -signal.SIGTERM),
        ("embedded executor", "SIGHUP", -signal.SIGHUP),
    ],
)
def test_nothing_is_left_of_a_client(
    home: TestHome, tmp_path: Path, kind: str, end: str, code: int
) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    process = launch(home, "ends.py", script(ENDS), folder, kind, end)
    pids = held(folder, 2)
    assert read_line(process) == "prompt"
    own = socket_directories(process.pid)
    assert bool(own) == kind.startswith("embedded")
    if end in SIGNALS:
        say(process)
        os.killpg(process.pid, SIGNALS[end])
        limit = PROMPT_S + GONE_S
    else:
        say(process)
        limit = GONE_S + PROMPT_S  # of which up to two for the tasks
    at = time.monotonic()
    _, err = process.communicate(timeout=20)
    took = time.monotonic() - at
    assert process.returncode == code, err
    assert took < limit, f"the interpreter's end took {took:.1f} s"
    gone(pids)
    only_forwarder_left(home)
    assert not any(map(os.path.exists, own))
    last = LAST_LINES.get(end, "")  # and not a word from fxhpc
    assert (err.splitlines() or [""])[-1] == last
    assert err.count("Traceback") == bool(last), err


def test_what_a_killed_job_leaves_goes_with_the_next_executor(home: TestHome) -> None:
    code = """
    fxc = FuncXClient(embedded=True)
    if sys.argv[1] == "wait":
        task = fxc.run(21, endpoint_id="local", function_id=fxc.register_function(double))
        assert fxc.get_result(task, timeout=30) == 42
        at_prompt()
    """
    process = launch(home, "job.py", script(code), "wait")
    assert read_line(process) == "prompt"
    (directory,) = socket_directories(process.pid)
    assert os.path.exists(directory)
    # A batch system kills all of a job at once. A stopped manager cannot tidy up either.
    others = [one for one in home.processes() if one.pid != process.pid]
    for one in others:
        one.suspend()
    process.kill()
    process.wait()
    for one in others:
        one.kill()
    only_forwarder_left(home)
    home.run("next.py", script(code), "end")
    assert not os.path.exists(directory)


def test_directories_of_the_living_are_left_alone() -> None:
    living = [OwnedDirectory() for _ in range(3)]
    assert all(os.path.exists(one.path) for one in living)
    left = living.pop()
    assert left._lock is not None
    os.close(left._lock)  # as the kernel does
    living.append(OwnedDirectory())
    assert not os.path.exists(left.path)
    for one in living:
        assert os.path.exists(one.path)
        one.remove()
        assert not os.path.exists(one.path)


def test_an_executor_that_nobody_used_leaves_nothing(home: TestHome) -> None:
    assert home.run("unused.py", script("Executor(2)\nexecutor = Executor()\nprint('end')")) == (
        "end\n"
    )
    assert not home.path.exists()


PENDING = """
import gc, threading, weakref
way = sys.argv[1]
if way == "thread":
    def use():
        with Executor(2) as executor:
            print(sum(executor.map(double, range(100))))
        executor = Executor(2)
        print(executor.submit(double, 3).result())
        future = executor.submit(time.sleep, 1000)
        print("waits")
        sys.stdout.flush()
        future.result()  # for ever, and the interpreter's end waits for this thread
    thread = threading.Thread(target=use)
    thread.start()
    at_prompt()
elif way == "collected":
    executor = Executor(2)
    future = executor.submit(double, 4)
    name = weakref.ref(executor)
    del executor
    gc.collect()
    assert name() is None
    print(future.result(30))
    at_prompt()
    sys.stdin.readline()
elif way == "pending":
    executor = Executor(2)
    futures = [executor.submit(time.sleep, 1000) for _ in range(1000)]
    for future in futures:
        future.add_done_callback(lambda future: None)
    at_prompt()
elif way == "cycle":
    class Holder:
        pass
    holder = Holder()
    holder.self, holder.executor = holder, Executor(2)
    print(holder.executor.submit(double, 5).result())
    del holder
    gc.collect()
    at_prompt()
    sys.stdin.readline()
"""


@pytest.mark.parametrize(("way", "said"), [("thread", ["9900", "6", "waits"]), ("pending", [])])
def test_the_interpreter_ends_although_futures_are_pending(
    home: TestHome, way: str, said: list[str]
) -> None:
    process = launch(home, "pending.py", script(PENDING), way)
    lines = [read_line(process) for _ in range(len(said) + 1)]
    assert sorted(lines) == sorted(["prompt", *said])
    say(process)
    at = time.monotonic()
    _, err = process.communicate(timeout=20)
    took = time.monotonic() - at
    assert took < 2 * GONE_S, f"the interpreter's end took {took:.1f} s"
    # A thread that waits for a future learns that it was cancelled, and prints so.
    assert process.returncode == 0
    assert "TaskCancelled" in err if way == "thread" else not err, err
    only_forwarder_left(home)


@pytest.mark.parametrize(("way", "said"), [("collected", "8"), ("cycle", "10")])
def test_an_executor_that_is_dropped_gives_back_its_processes(
    home: TestHome, way: str, said: str
) -> None:
    process = launch(home, "dropped.py", script(PENDING), way)
    assert read_line(process) == said
    assert read_line(process) == "prompt"
    eventually(lambda: [one.pid for one in home.processes()] == [process.pid], within=10)
    eventually(lambda: not socket_directories(process.pid), within=10)
    say(process)
    say(process)
    assert process.wait(20) == 0


START = """
ways = {"home": FuncXClient, "embedded": lambda: FuncXClient(embedded=True), "run": lambda: run()}
def run():
    executor = Executor(2)
    executor.submit(double, 1).result()

print("begin", flush=True)
ways[sys.argv[1]]()
time.sleep(1000)
"""


@pytest.mark.parametrize("way", ["home", "embedded", "run"])
def test_ctrl_c_while_everything_starts(home: TestHome, way: str) -> None:
    for count in range(1, 4):  # processes that are there by then
        process = launch(home, "start.py", script(START), way)
        assert read_line(process) == "begin"
        wanted = min(count, {"home": 2, "embedded": 1, "run": 3}[way])
        eventually(lambda wanted=wanted: len(home.processes()) >= wanted)  # type: ignore[misc]
        at = time.monotonic()
        for _ in range(2):  # and once more, for it is never fast enough
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - at < PROMPT_S + GONE_S
        assert process.returncode != 0
        assert "KeyboardInterrupt" in err
        only_forwarder_left(home)
