"""A Jupyter kernel as a client: definitions in cells, the stop button, the restart button."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from homes import TestHome
from lives import PROMPT_S, TASKS, alive, gone, held, only_forwarder_left
from notebook import CellFailed, Notebook

from fxhpc.forwarder.home import Home
from tests.waiting import eventually


@pytest.fixture
def notebook(home: TestHome, tmp_path: Path) -> Iterator[Notebook]:
    with Notebook(home, tmp_path / "notebook") as made:
        with pytest.raises(CellFailed):
            made.run("1 / 0")  # the first traceback takes IPython a second: that is not measured
        yield made


def test_the_tutorials_cells(notebook: Notebook) -> None:
    notebook.run("from fxhpc import FuncXClient\nfxc = FuncXClient()")
    notebook.run("def hello_world():\n    return 'Hello World!'")
    notebook.run("func_uuid = fxc.register_function(hello_world)")
    notebook.run("tutorial_endpoint = '4b116d3c-1703-4f8f-9f6f-39921e5864df'")
    notebook.run("res = fxc.run(endpoint_id=tutorial_endpoint, function_id=func_uuid)")
    assert notebook.run("fxc.get_result(res)") == "'Hello World!'"
    notebook.run("def failing():\n    raise ValueError('on purpose')")
    notebook.run("res = fxc.run(endpoint_id='local', function_id=fxc.register_function(failing))")
    with pytest.raises(CellFailed, match="ValueError: on purpose"):
        notebook.run("fxc.get_result(res)")
    assert notebook.run(
        "batch = fxc.create_batch()\n"
        "double = fxc.register_function(lambda x: 2 * x)\n"
        "for x in range(10):\n"
        "    batch.add(x, endpoint_id='local', function_id=double)\n"
        "ids = fxc.batch_run(batch)\n"
        "[fxc.get_result(one) for one in ids]"
    ) == str([2 * x for x in range(10)])


def test_a_class_that_a_later_cell_defines_again(notebook: Notebook) -> None:
    cell = """
class Point:
    def __init__(self, x):
        self.x = x
    def size(self):
        return self.x * {factor}
"""
    notebook.run("from fxhpc import Executor\nexecutor = Executor(1)")
    notebook.run(cell.format(factor=2))
    notebook.run("def grow(p):\n    return isinstance(p, Point), Point(p.x + 1), p.size()")
    assert (
        notebook.run(
            "is_point, old, size = executor.submit(grow, Point(3)).result()\n"
            "is_point, isinstance(old, Point), old.x, old.size(), size"
        )
        == "(True, True, 4, 8, 6)"
    )
    notebook.run("late = executor.submit(grow, Point(3))\nlate.exception()")
    notebook.run(cell.format(factor=10))
    # What the first class made stays of the first class, as it does without fxhpc.
    assert notebook.run("isinstance(old, Point), old.size()") == "(False, 8)"
    assert notebook.run("is_point, late, _ = late.result()\nlate.size()") == "8"
    assert (
        notebook.run(
            "is_point, new, size = executor.submit(grow, Point(3)).result()\n"
            "is_point, isinstance(new, Point), new.x, new.size(), size"
        )
        == "(True, True, 4, 40, 30)"
    )
    # An instance of the first one is, to the worker too, none of the second.
    assert notebook.run("executor.submit(grow, old).result()[0]") == "False"
    notebook.run("def grow(p):\n    return p.size() + 1")
    assert notebook.run("executor.submit(grow, Point(1)).result()") == "11"
    notebook.run("executor.shutdown()")


WAITS = {
    "get_result": "fxc.get_result(ids[0], timeout=1000)",
    "wait": "fxc.wait(ids)",
    "result": "futures[0].result()",
    "map": "list(executor.map(hold, [folder] * 4, range(4)))",
}


def test_the_stop_button(home: TestHome, notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(TASKS)
    notebook.run("fxc = FuncXClient()\nexecutor = Executor(2)")
    notebook.run("function = fxc.register_function(hold)")
    for way, code in WAITS.items():
        folder = tmp_path / way
        folder.mkdir()
        notebook.run(f"folder = {str(folder)!r}")
        if "fxc" in code:
            notebook.run("ids = fxc.map_run([folder], endpoint_id='local', function_id=function)")
        elif "futures" in code:
            notebook.run("futures = [executor.submit(hold, folder)]")
        cell = notebook.begin(code)
        pids = held(folder, 2 if way == "map" else 1)
        at = time.monotonic()
        notebook.interrupt()
        with pytest.raises(CellFailed, match="KeyboardInterrupt"):
            notebook.end(cell)
        assert time.monotonic() - at < PROMPT_S, way
        gone(pids)
    assert (
        notebook.run(
            "task = fxc.run(4, endpoint_id='local', function_id=fxc.register_function(double))\n"
            "fxc.get_result(task, timeout=30), executor.submit(double, 5).result(30)"
        )
        == "(8, 10)"
    )


def test_the_stop_button_while_a_client_is_made(home: TestHome, notebook: Notebook) -> None:
    notebook.run("import threading\nfrom fxhpc import FuncXClient")
    before = notebook.run("threading.active_count()")
    there = Home(home.path)
    there.create()
    lock = there.take_lock()  # so no forwarder can start
    assert lock is not None
    try:
        cell = notebook.begin("print('begin', flush=True)\nfxc = FuncXClient()")
        eventually(lambda: len(home.processes()) > 1)
        at = time.monotonic()
        notebook.interrupt()
        with pytest.raises(CellFailed, match="KeyboardInterrupt"):
            notebook.end(cell)
        assert time.monotonic() - at < PROMPT_S
    finally:
        os.close(lock)
    eventually(lambda: notebook.run("threading.active_count()") == before, within=30)
    assert "online" in notebook.run("FuncXClient().get_endpoint_status('local')['status']")


def test_the_restart_button_and_the_end_leave_nothing(home: TestHome, tmp_path: Path) -> None:
    for number, now in enumerate((False, True)):
        folder = tmp_path / f"held{number}"
        folder.mkdir()
        with Notebook(home, tmp_path / f"notebook{number}") as notebook:
            notebook.run(TASKS)
            notebook.run(
                "fxc = FuncXClient()\nexecutor = Executor(2)\n"
                "function = fxc.register_function(hold)\n"
                f"future = executor.submit(hold, {str(folder)!r}, 0)\n"
                f"task = fxc.run({str(folder)!r}, 1, endpoint_id='local', function_id=function)"
            )
            pids = held(folder, 2)
            before = notebook.pid
            notebook.restart(now)
            assert notebook.pid != before
            gone(pids)
            assert not alive(before)
            notebook.run(TASKS)
            assert notebook.run("Executor(1).submit(double, 4).result()") == "8"
        only_forwarder_left(home)
