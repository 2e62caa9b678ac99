"""What limited processes and all that they start use of memory is seen, in both ways to see it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fxhpc.cores import memory_cgroups
from fxhpc.manager.resources.groups import Groups
from fxhpc.manager.resources.limits import SPARE_BYTES, Limits
from fxhpc.manager.resources.nearing import Over
from fxhpc.manager.resources.trees import Tree, descendants
from tests.waiting import eventually

MB = 2**20
LIMIT = 64 * MB

#: A worker of a test: it waits for a line before it does anything, and lives until it is killed.
PRELUDE = """
import multiprocessing, os, signal, subprocess, sys, threading, time
MB = 2**20
print("ready", flush=True)
sys.stdin.readline()
"""
POSTLUDE = """
print("done", flush=True)
signal.pause()
"""

#: Whether this process may make control groups: only root may everywhere.
OWN_GROUP = next(iter(memory_cgroups()), None)
MAY_GROUP = OWN_GROUP is not None and (OWN_GROUP / "memory.limit_in_bytes").exists()
MAY_GROUP = MAY_GROUP and os.access(OWN_GROUP or "", os.W_OK) and os.getuid() == 0

WAYS = ["looked at", "group"] if MAY_GROUP else ["looked at"]


class Workers:
    """Processes that stand for workers, and who watches them."""

    def __init__(self, way: str) -> None:
        self.limits = Limits(Groups() if way == "group" else None)
        self._all: list[subprocess.Popen[str]] = []

    def start(self, code: str, limit: int = LIMIT) -> subprocess.Popen[str]:
        """One that runs this code as soon as it is told to."""
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code + POSTLUDE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._all.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.limits.watch(len(self._all), process.pid, limit, time.monotonic())
        return process

    def go(self, process: subprocess.Popen[str]) -> None:
        """Have it run its code."""
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    def over(self, task: int = 0) -> list[Over]:
        """Who is over its limit at this task, looking as a manager does."""
        now = time.monotonic()
        time.sleep(min(0.05, self.limits.wait_s(now)))
        return self.limits.look(time.monotonic(), lambda _: task)

    def ends_for_memory(self, process: subprocess.Popen[str]) -> Over:
        """Run it; what is told of it: by a look, or when the kernel has killed it."""
        number = self._all.index(process) + 1
        self.go(process)
        found: list[Over] = []

        def is_over() -> bool:
            if process.poll() is not None:
                found.extend(filter(None, [self.limits.ended(number)]))
                return True
            found.extend(self.over())
            return bool(found)

        eventually(is_over, 20, every=0)
        assert [over.worker for over in found] == [number]
        return found[0]

    def close(self) -> None:
        """Kill all that is left."""
        for process in self._all:
            left = {process.pid, *descendants(process.pid)} if process.poll() is None else set()
            for pid in left:
                os.kill(pid, 9)
            process.communicate()
            eventually(lambda left=left: not any(map(is_alive, left)), 10)  # type: ignore[misc]
        self.limits.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _has_lost_a_child(pid: int) -> bool:
    return not all(is_alive(child.pid) for child in psutil.Process(pid).children())


@pytest.fixture(params=WAYS)
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    found = Workers(request.param)
    try:
        yield found
    finally:
        found.close()
    if MAY_GROUP:
        assert OWN_GROUP is not None
        assert not list(OWN_GROUP.glob(f"fxhpc-{os.getpid()}-*"))


@pytest.fixture
def looked_at() -> Iterator[Workers]:
    found = Workers("looked at")
    try:
        yield found
    finally:
        found.close()


GROWING = """
kept = []
while True:
    kept.append(bytearray(b"x") * MB)
    time.sleep(0.002)
"""
AT_ONCE = "kept = bytearray(b'x') * (400 * MB)"
CHILDREN = """
code = "kept = bytearray(b'x') * (30 * 2**20); import signal; signal.pause()"
children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
"""
FROM_A_THREAD = """
def start():
    code = "kept = bytearray(b'x') * (100 * 2**20); import signal; signal.pause()"
    subprocess.Popen([sys.executable, "-c", code])
    threading.Event().wait()
threading.Thread(target=start, daemon=True).start()
"""
SHARED_MEMORY = """
import mmap
shared = mmap.mmap(-1, 100 * MB)
shared.write(b"x" * MB * 100)
"""


@pytest.mark.parametrize(
    "code",
    [GROWING, CHILDREN, FROM_A_THREAD, SHARED_MEMORY],
    ids=["growing", "children", "from a thread", "shared memory"],
)
def test_who_uses_too_much_is_seen(workers: Workers, code: str) -> None:
    neighbour = workers.start("kept = bytearray(b'x') * (30 * MB)")
    over = workers.ends_for_memory(workers.start(code))
    assert over.limit == LIMIT
    assert LIMIT <= over.used < 200 * MB
    workers.go(neighbour)
    assert neighbour.stdout is not None
    assert neighbour.stdout.readline() == "done\n"
    assert workers.over() == []


def test_a_jump_far_over_the_limit_is_seen(workers: Workers) -> None:
    over = workers.ends_for_memory(workers.start(AT_ONCE))
    assert over.used >= LIMIT


def test_what_forked_children_share_counts_once(looked_at: Workers) -> None:
    worker = looked_at.start(
        """
kept = bytearray(b"x") * (40 * MB)
for _ in range(3):
    if os.fork() == 0:
        signal.pause()
"""
    )
    looked_at.go(worker)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "done\n"
    tree = Tree(worker.pid)
    try:
        eventually(lambda: tree.estimate(0.0) > 160 * MB, 10)
        assert 40 * MB < tree.exact(LIMIT) < LIMIT
    finally:
        tree.close()
    looks = [looked_at.over() for _ in range(5)]
    assert not any(looks)


def test_who_fills_memory_faster_than_anybody_looks_gets_an_error(looked_at: Workers) -> None:
    worker = looked_at.start(
        """
try:
    bytearray(2 * 64 * MB + 512 * MB)
except MemoryError:
    print("no more", flush=True)
"""
    )
    soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_DATA)
    assert soft == 2 * LIMIT + SPARE_BYTES
    assert hard == resource.getrlimit(resource.RLIMIT_DATA)[1]
    looked_at.go(worker)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "no more\n"


def test_what_a_task_before_has_used_is_not_laid_to_this_one(workers: Workers) -> None:
    worker = workers.start(CHILDREN)
    assert workers.over() == []
    workers.go(worker)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "done\n"
    tree = Tree(worker.pid)
    try:
        used = eventually(lambda: max(tree.exact(0), 0) > LIMIT or _has_lost_a_child(worker.pid))
    finally:
        tree.close()
    assert used
    looks = [workers.over(task) for task in range(1, 20)]  # each sees another one
    assert not any(looks)


def test_one_that_has_ended_is_watched_no_more(workers: Workers) -> None:
    worker = workers.start("")
    worker.kill()
    worker.wait()
    assert workers.over() == []
    assert workers.limits.ended(1) is None
    assert workers.limits.wait_s(time.monotonic()) >= 0
    workers.limits.watch(2, worker.pid, LIMIT, time.monotonic())  # it ended before
    assert workers.over() == []


if MAY_GROUP:

    def test_files_in_memory_count_in_a_group() -> None:
        workers = Workers("group")
        file = Path(f"/dev/shm/fxhpc-test-{os.getpid()}")
        try:
            code = f"open({str(file)!r}, 'wb').write(b'x' * (40 * MB)); kept = b'y' * (40 * MB)"
            over = workers.ends_for_memory(workers.start(code))
        finally:
            file.unlink(missing_ok=True)
            workers.close()
        assert over.killed
        assert over.used >= LIMIT
