"""Clients and the life of their process: Ctrl-C, its end, forks, kills. Nothing stays behind."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from keeper import LEFT_BEHIND, run_kept

COMMON = """
import os, signal, sys, threading, time
from fxhpc import Executor, FuncXClient

def nap(seconds):
    import time
    time.sleep(seconds)
    return seconds

def running(future):
    while not future.running():
        time.sleep(0.01)

def interrupt_self():
    os.kill(os.getpid(), signal.SIGINT)
"""

STORIES = {
    "ctrl_c_in_the_block": (
        """
        try:
            with Executor(2) as executor:
                futures = [executor.submit(nap, 60) for _ in range(6)]
                running(futures[0])
                threading.Timer(0.1, interrupt_self).start()
                futures[0].result()
        except KeyboardInterrupt:
            print(all(future.cancelled() for future in futures))
        """,
        "True\n",
    ),
    "ctrl_c_while_the_block_ends": (
        """
        try:
            with Executor(1) as executor:
                future = executor.submit(nap, 60)
                running(future)
                threading.Timer(0.1, interrupt_self).start()
        except KeyboardInterrupt:
            print(future.cancelled())
        """,
        "True\n",
    ),
    "ctrl_c_in_get_result": (
        """
        fxc = FuncXClient()
        function = fxc.register_function(nap)
        task = fxc.run(60, endpoint_id="local", function_id=function)
        while fxc.get_task(task)["status"] != "running":
            time.sleep(0.01)
        threading.Timer(0.1, interrupt_self).start()
        try:
            fxc.get_result(task, timeout=60)
        except KeyboardInterrupt:
            fxc.wait([task], timeout=30)
            print(fxc.get_task(task)["status"])
        """,
        "cancelled\n",
    ),
    "the_end_without_a_shutdown": (
        """
        executor = Executor(2)
        futures = [executor.submit(nap, 60) for _ in range(6)]
        running(futures[0])
        """,
        "",
    ),
    "the_end_with_a_thread_that_waits": (
        """
        executor = Executor(1)
        future = executor.submit(nap, 60)

        def wait():
            try:
                future.result()
            except BaseException as error:
                print(type(error).__name__)

        threading.Thread(target=wait).start()
        """,
        "TaskCancelled\n",
    ),
    "submitting_after_the_end_has_begun": (
        """
        import atexit
        executor = Executor(1)
        executor.submit(nap, 0).result()

        def late():
            try:
                executor.submit(nap, 0)
            except RuntimeError as error:
                print(str(error)[:34])

        atexit.register(late)
        """,
        "cannot schedule new futures after \n",
    ),
    "an_executor_that_is_dropped": (
        """
        executor = Executor(1)
        print(executor.submit(nap, 0).result())
        del executor
        while threading.active_count() > 1:
            time.sleep(0.01)
        """,
        "0\n",
    ),
    "sys_exit": (
        """
        executor = Executor(1)
        running(executor.submit(nap, 60))
        sys.exit(0)
        """,
        "",
    ),
    "os_exit": (
        """
        executor = Executor(1)
        running(executor.submit(nap, 60))
        os._exit(0)
        """,
        "",
    ),
    "a_fork": (
        """
        executor = Executor(1)
        fxc = FuncXClient()
        function = fxc.register_function(nap)
        task = fxc.run(0.01, endpoint_id="local", function_id=function)
        print(fxc.get_result(task, timeout=60), executor.submit(nap, 0.01).result())
        pending = executor.submit(nap, 1)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                pending.result()
            except RuntimeError:
                print("parent's")
            print(executor.submit(nap, 0.02).result(60))
            again = fxc.run(0.03, endpoint_id="local", function_id=function)
            print(fxc.get_result(again, timeout=60), fxc.get_result(task, timeout=60))
            sys.stdout.flush()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(pending.result(60), executor.submit(nap, 0.04).result(60))
        print(fxc.get_result(task))
        """,
        "0.01 0.01\nparent's\n0.02\n0.03 0.01\n1 0.04\n0.01\n",
    ),
    "multiprocessing_beside_it": (
        """
        import multiprocessing
        executor = Executor(1)
        print(executor.submit(nap, 0).result())
        child = multiprocessing.get_context("fork").Process(target=nap, args=(0,))
        child.start()
        child.join()
        print(child.exitcode, executor.submit(nap, 0).result())
        """,
        "0\n0 0\n",
    ),
    "a_home_whose_forwarder_is_killed": (
        """
        from fxhpc.forwarder.home import Home
        with Executor(endpoint_id="local") as executor:
            futures = [executor.submit(nap, 0.002) for _ in range(300)]
            for round in range(2):
                futures[10 * round].result()
                os.kill(Home(os.environ["FXHPC_HOME"]).read_owner().pid, 9)
                futures += [executor.submit(nap, 0.002) for _ in range(10)]
            print(len([future.result(60) for future in futures]))
        """,
        "320\n",
    ),
    "a_manager_that_is_killed": (
        """
        with Executor(2) as executor:
            futures = [executor.submit(nap, 0.01) for _ in range(100)]
            futures[0].result()
            os.kill(executor._submitter.attachment().local._process.pid, 9)
            print(len([future.result(60) for future in futures]))
        """,
        "100\n",
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_life(story: str, tmp_path: Path) -> None:
    code, expected = STORIES[story]
    script = tmp_path / "script.py"
    body = textwrap.indent(textwrap.dedent(code), "    ")
    script.write_text(f'{COMMON}\nif __name__ == "__main__":\n{body}')
    ended = run_kept([sys.executable, str(script)], tmp_path / "home", cwd=tmp_path, limit=90)
    assert ended.returncode != LEFT_BEHIND, ended.stderr
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == expected
    assert "Traceback" not in ended.stderr
