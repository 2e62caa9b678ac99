"""Ctrl-C: the prompt is back at once, and nothing that the call was running is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from homes import TestHome, finish
from lives import PROMPT_S, gone, held, launch, only_forwarder_left, read_line, say, script

#: Ways to wait for two tasks that never end. Each holds the calling thread until Ctrl-C.
WAYS = """
folder, way = sys.argv[1:3]

def home_tasks():
    fxc = FuncXClient()
    function = fxc.register_function(hold)
    return fxc, [
        fxc.run(folder, n, endpoint_id="local", function_id=function) for n in range(2)
    ]

def get_result():
    fxc, ids = home_tasks()
    try:
        fxc.get_result(ids[0], timeout=float("inf"))
    except KeyboardInterrupt:
        fxc.get_result(ids[1], timeout=float("inf"))  # the second Ctrl-C ends that

def wait():
    fxc, ids = home_tasks()
    fxc.wait(ids)

def get_batch_result():
    fxc, ids = home_tasks()
    fxc.get_batch_result(ids, timeout=1000)

def as_completed():
    fxc, ids = home_tasks()
    list(fxc.as_completed(ids))

def embedded_result():
    executor = Executor(2)
    futures = [executor.submit(hold, folder, n) for n in range(2)]
    try:
        futures[0].result()
    except KeyboardInterrupt:
        futures[1].exception()

def home_result():
    executor = Executor(endpoint_id="local")
    futures = [executor.submit(hold, folder, n) for n in range(2)]
    try:
        futures[0].result()
    except KeyboardInterrupt:
        futures[1].result()

def executor_map():
    executor = Executor(2)
    list(executor.map(hold, [folder] * 20, range(20)))

def block():
    with Executor(2) as executor:
        for n in range(20):
            executor.submit(hold, folder, n)

def block_result():
    with Executor(2) as executor:
        futures = [executor.submit(hold, folder, n) for n in range(20)]
        futures[0].result()

def home_block():
    with FuncXClient() as fxc, Executor(client=fxc) as executor:
        for n in range(20):
            executor.submit(hold, folder, n)

def shutdown():
    executor = Executor(2)
    futures = [executor.submit(hold, folder, n) for n in range(20)]
    executor.shutdown()

def again():  # the same clients still work
    if "home" in way or way in ("get_result", "wait", "get_batch_result", "as_completed"):
        fxc = FuncXClient()
        task = fxc.run(21, endpoint_id="local", function_id=fxc.register_function(double))
        print(fxc.get_result(task, timeout=30))
    else:
        with Executor(2) as executor:
            print(executor.submit(double, 21).result(30))
"""

RUN = """
try:
    globals()[way]()
except KeyboardInterrupt:
    at_prompt()
    again()
"""


BY_ONE = ("get_result", "embedded_result", "home_result")  #: they wait for one after the other


@pytest.mark.parametrize(
    ("way", "whom"),
    [
        ("get_result", "group"),
        ("get_result", "process"),
        ("wait", "group"),
        ("get_batch_result", "process"),
        ("as_completed", "group"),
        ("embedded_result", "group"),
        ("home_result", "process"),
        ("executor_map", "group"),
        ("executor_map", "process"),
        ("block", "group"),
        ("block_result", "group"),
        ("home_block", "process"),
        ("shutdown", "group"),
    ],
)
def test_ctrl_c_returns_the_prompt_and_ends_what_ran(
    home: TestHome, tmp_path: Path, way: str, whom: str
) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    process = launch(home, "wait.py", script(WAYS + RUN), folder, way)
    pids = held(folder, 2)
    interrupt = os.killpg if whom == "group" else os.kill
    at = time.monotonic()
    interrupt(process.pid, signal.SIGINT)
    if way in BY_ONE:
        gone(pids[:3])
        at = time.monotonic()
        interrupt(process.pid, signal.SIGINT)
    assert read_line(process) == "prompt"
    assert time.monotonic() - at < PROMPT_S
    gone(pids)
    say(process)
    assert finish(process) == "42\n"
    only_forwarder_left(home)
