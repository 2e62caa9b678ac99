"""What tasks leave behind: floods of output, processes, threads, a changed process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fxhpc import Executor
from fxhpc.worker import orphans
from tests.faults.figures import record_figure
from tests.process.workers import tasks
from tests.process.workers.interchange import Interchange
from tests.process.workers.manager import values, worker_pids
from tests.waiting import eventually


@pytest.mark.parametrize("mb", [100, pytest.param(1024, marks=pytest.mark.load)])
def test_w11_output_is_bounded_and_blocks_nobody(interchange: Interchange, mb: int) -> None:
    """W11: a task writes a gigabyte of binary without an end of line to stderr. It is read as fast
    as it comes, the last 64 KB are kept, and the manager does not grow.
    """
    before = psutil.Process(interchange.process.pid).memory_info().rss
    began = time.monotonic()
    stream = interchange.send(tasks.flood, (mb << 20,))
    (written,) = values(interchange.wait(stream, 1, 120))
    took = time.monotonic() - began
    assert written >= mb << 20
    grown = psutil.Process(interchange.process.pid).memory_info().rss - before
    assert grown < 32 << 20
    record_figure("W11", f"{mb:,} MB of output", mb / took, "MB/s")
    record_figure("W11", "the manager grew by", grown / 2**20, "MB")


def test_w12_a_task_that_forks(interchange: Interchange) -> None:
    """W12: a task forks, and its child comes back from it too: one outcome, and the child ends."""
    assert values(interchange.run(tasks.fork, *[()] * 4)) == ["parent"] * 4
    assert values(interchange.run(tasks.fork_and_raise, *[()] * 4)) == ["parent"] * 4
    assert values(interchange.run(tasks.double, *[(1,)] * 4)) == [2] * 4
    assert interchange.twice == 0


def leave_processes() -> list[int]:
    """A child, and a daemon two forks and a session away: their pids."""
    child = subprocess.Popen(["sleep", "1000"])
    code = "import os\nif os.fork(): os._exit(0)\nos.setsid()\nprint(os.getpid(), flush=True)\n"
    code += "os.close(1)\nos.execvp('sleep', ['sleep', '1000'])\n"
    told = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return [os.getpid(), child.pid, int(told.stdout)]


def test_w12_what_a_task_leaves_running_ends_with_its_worker() -> None:
    """W12: processes that a task leaves running do not hold up its result. They stay for as long
    as their worker, for a later task may use them, and end with it: by a kill, and at the end.
    """
    with Executor(1) as executor:
        worker, child, daemon = executor.submit(leave_processes).result(60)
        left = [psutil.Process(pid) for pid in (child, daemon)]
        assert executor.submit(tasks.double, 1).result(60) == 2
        assert all(one.is_running() for one in left)
        killed = time.monotonic()
        os.kill(worker, 9)
        _, alive = psutil.wait_procs(left, timeout=10)
        assert not alive
        record_figure(
            "W12", "worker killed, until what it started is gone", time.monotonic() - killed, "s"
        )
        _, *pids = executor.submit(leave_processes).result(60)
        left = [psutil.Process(pid) for pid in pids]
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive
    record_figure("W12", "pids that leaked", len(alive))


def leave_orphan() -> int:
    """A process that has ended, and whose own parent has ended before."""
    between = os.fork()
    if between == 0:
        if os.fork() == 0:
            time.sleep(0.01)
        os._exit(0)
    os.waitpid(between, 0)
    return os.getpid()


def keep_child(code: int) -> None:
    global kept
    kept = subprocess.Popen(["sh", "-c", f"exit {code}"])


def ask_child() -> int:
    return kept.wait()


kept: Any = None


def test_w12_orphans_that_have_ended_do_not_use_up_pids(interchange: Interchange) -> None:
    """W12: what tasks orphan comes to their worker, and is buried there when it ends. How a process
    ended that a later task asks for is not lost by that.
    """
    many = orphans.LEFT + 50
    pids = set(values(interchange.run(leave_orphan, *[()] * many)))
    interchange.run(keep_child, *[(3,)] * 8)
    most = max(len(psutil.Process(pid).children()) for pid in pids)

    def few() -> bool:
        interchange.run(tasks.double, *[(1,)] * 4)
        return all(len(psutil.Process(pid).children()) <= orphans.LEFT for pid in pids)

    eventually(few, 10)
    assert {*values(interchange.run(ask_child, *[()] * 1))} == {3}
    record_figure("W12", f"zombies of {many} orphans, most of a worker", most)


def leave_thread() -> int:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return os.getpid()


def test_w12_a_thread_that_runs_on_holds_up_nobody() -> None:
    """W12: threads that a task leaves running neither hold up its result nor the end."""
    with Executor(1) as executor:
        pid = executor.submit(leave_thread).result(60)
        assert executor.submit(os.getpid).result(60) == pid
        process = psutil.Process(pid)
        began = time.monotonic()
    process.wait(10)
    record_figure(
        "W12", "end of an executor whose worker has a thread left", time.monotonic() - began, "s"
    )


def test_w13_tasks_do_not_spoil_each_others_process(
    interchange: Interchange, tmp_path: Path
) -> None:
    """W13: a task changes directory, environment, umask, signal handlers and timers. The next one
    finds all as it was. What it did to modules, `sys.path` included, stays: so in all predecessors.
    """
    before = values(interchange.run(tasks.state, ()))
    interchange.run(tasks.spoil, *[(str(tmp_path),)] * 4)
    after = values(interchange.run(tasks.state, *[()] * 4))
    assert {tuple(state) for state in after} == {tuple(before[0])}


def lower_limits() -> int:
    for which in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (2**30, hard) if which == resource.RLIMIT_AS else (10, hard))
    return os.getpid()


def limits() -> tuple[Any, ...]:
    which = (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
    return os.getpid(), *map(resource.getrlimit, which)


def test_w13_limits_that_a_task_lowers_are_its_own() -> None:
    """W13: a task lowers its process's limits; the next one, in the same process, has its own."""
    with Executor(1) as executor:
        before = executor.submit(limits).result(60)
        assert executor.submit(lower_limits).result(60) == before[0]
        assert executor.submit(limits).result(60) == before


def test_w13_standard_streams_closed(interchange: Interchange) -> None:
    """W13: a task closes descriptors 0 to 2. The next one has them again."""
    interchange.run(tasks.close_streams, *[()] * 4)
    interchange.send(tasks.say_and_crash, ())
    interchange.until(lambda: interchange.lost)
    assert "the last words" in interchange.lost[0].loss.stderr


def test_w13_a_task_that_closes_its_workers_socket(interchange: Interchange) -> None:
    """W13: a task closes all descriptors, its worker's socket too: that worker is replaced, and
    only that task is charged.
    """
    before = worker_pids(interchange)
    interchange.send(tasks.close_all, ())
    interchange.until(lambda: worker_pids(interchange) - before)
    assert values(interchange.run(tasks.double, *[(1,)] * 50)) == [2] * 50
