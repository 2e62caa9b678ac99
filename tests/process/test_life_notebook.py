"""A Jupyter kernel as a client: definitions in cells, the stop button, the restart button."""

from __future__ import annotations

import os
import signal
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


def test_what_a_cell_shows_is_a_table_without_anything_to_run(notebook: Notebook) -> None:
    notebook.run(
        "from fxhpc import FuncXClient, Executor\nfxc = FuncXClient(labels=['<script>'])\n"
        "def one(x):\n    return '<img onerror=1>'\n"
        "one.__name__ = '<b>one'\n"
        "one_id = fxc.register_function(one, description='<i>')\n"
        "task = fxc.run(1, endpoint_id='local', function_id=one_id)\n"
        "batch = fxc.create_batch()\n"
        "batch.add(1, endpoint_id='local', function_id=one_id)\n"
        "executor = Executor(1)\nfuture = executor.submit(len, 'x')"
    )
    notebook.run("fxc.get_result(task), future.result()")
    told = {
        "fxc": "attached to fxhpc",
        "batch": "Batch of 1 tasks",
        "future": "finished",
        "fxc.get_task(task)": "success",
        "fxc.get_endpoint_status('local')": "idle workers",
        "fxc.search_function('one')": "&lt;b&gt;one",
        "fxc.group()": "task_group_id",
    }
    for cell, words in told.items():
        notebook.run(cell)
        assert notebook.html.startswith("<table>"), cell
        assert words in notebook.html, cell
        assert not any(tag in notebook.html for tag in ("<script", "<img", "<b>", "<i>")), cell
    notebook.run("executor.shutdown()\nfxc.close()")


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
    "as_completed": "list(fxc.as_completed(ids))",
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


#: Ways to look on: the stop button ends the look alone.
LOOKS = {
    "cf.wait": "cf.wait([future])",
    "cf.as_completed": "list(cf.as_completed([future]))",
    "progress": "fxhpc.progress([future])",
}


def test_the_stop_button_ends_a_look_and_not_the_tasks(notebook: Notebook, tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    notebook.run(TASKS)
    notebook.run(
        "import fxhpc, concurrent.futures as cf\nexecutor = Executor(1)\n"
        f"future = executor.submit(hold, {str(folder)!r})"
    )
    pids = held(folder, 1)
    for way, code in LOOKS.items():
        cell = notebook.begin(f"print('begin', flush=True)\n{code}")
        notebook.until_said(cell)
        at = time.monotonic()
        notebook.interrupt()
        with pytest.raises(CellFailed, match="KeyboardInterrupt"):
            notebook.end(cell)
        assert time.monotonic() - at < PROMPT_S, way
        assert all(map(alive, pids)), way
    notebook.run("executor.shutdown(wait=False, cancel_futures=True)\ndel executor, future")
    before = len(notebook.displays)
    notebook.run("with Executor(1) as ex: fxhpc.progress(ex.map(double, range(3)))")
    assert len(notebook.displays) == before + 1  # a line, which was written again
    *_, told = notebook.displays.values()
    assert told.startswith("3 of 3 ended (100 %)")


def test_a_kernel_is_killed_beside_another_on_its_home(
    home: TestHome, notebook: Notebook, tmp_path: Path
) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    notebook.run(TASKS)
    notebook.run("fxc = FuncXClient()\nfunction = fxc.register_function(double)")
    with Notebook(home, tmp_path / "killed") as killed:
        killed.run(TASKS)
        task = killed.run(
            "fxc, executor = FuncXClient(), Executor(2, endpoint_id='local')\n"
            f"held = executor.submit(hold, {str(folder)!r})\n"
            "waits = executor.submit(hold, '/nowhere')\n"
            "fxc.run(4, endpoint_id='local', function_id=fxc.register_function(double))"
        ).strip("'")
        pids = held(folder, 1)
        work = notebook.begin(
            "ids = fxc.map_run(range(50), endpoint_id='local', function_id=function)\n"
            "sum(fxc.get_result(one, timeout=30) for one in ids)"
        )
        os.kill(killed.pid, signal.SIGKILL)
        assert notebook.end(work) == str(2 * sum(range(50)))  # the neighbour notices nothing
        gone(pids)
    # What was `run` is the home's, and can be had by its id; what an executor sent ends with it.
    assert notebook.run(f"fxc.resume()\nfxc.get_result({task!r}, timeout=30)") == "8"


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
