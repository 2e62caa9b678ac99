"""Memory runs out: by the process's own limit, and by that of a control group."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc import Executor, errors
from fxhpc.cores import memory_cgroups
from tests.faults.figures import record_figure
from tests.process.homes import TestHome, finish

LIMIT = 200 * 2**20

#: The files for a group's limit, in the two versions of control groups.
LIMITS = ("memory.limit_in_bytes", "memory.max")


def want_more_than_allowed() -> int:
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**30, before[1]))
    try:
        return len(bytearray(2**31))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def pid() -> int:
    return os.getpid()


def test_w04_a_limit_of_address_space_is_the_users_error() -> None:
    """W4: a task that gets no more memory raises MemoryError: its own error, and the worker, which
    is the same process afterwards, lives on.
    """
    with Executor(1) as executor:
        before = executor.submit(pid).result(60)
        assert isinstance(executor.submit(want_more_than_allowed).exception(60), MemoryError)
        assert executor.submit(pid).result(60) == before


def fill(megabytes: int) -> int:
    kept = bytearray(b"x") * (megabytes * 2**20)
    if megabytes > 100:
        signal.pause()  # until it is ended: who is over for a moment may not be seen
    return len(kept)


def test_w04_a_task_over_its_memory_is_ended_alone() -> None:
    """W4: a task that uses more memory than it has declared is ended, and says so; it does not run
    again, though it might, and others with the same limit are left alone.
    """
    with Executor(2, retries=2) as executor:
        executor.resource_specification = {"memory": "100MB"}
        futures = [executor.submit(fill, megabytes) for megabytes in (10, 300, 20, 30)]
        error = futures.pop(1).exception(60)
        assert [future.result(60) >> 20 for future in futures] == [10, 20, 30]
    assert isinstance(error, errors.TaskMemoryExceeded)
    assert error.limit == 100 * 2**20 <= error.used
    assert error.attempts == ()
    assert "declare more" in str(error)


@pytest.fixture
def group() -> Iterator[Path | None]:
    """A control group of 200 MB; None: this user may not make one (only root may everywhere)."""
    here = memory_cgroups()
    if not here or not os.access(here[0], os.W_OK) or os.getuid() != 0:
        yield None
        return
    group = here[0] / f"fxhpc-test-{os.getpid()}"
    group.mkdir()
    try:
        limit = next((group / name for name in LIMITS if (group / name).exists()), None)
        if limit is None:
            yield None  # version 2, and what is above gives groups below it no memory controller
        else:
            limit.write_text(str(LIMIT))
            yield group
    finally:
        group.rmdir()


OUT_OF_MEMORY = """
import os, sys
from fxhpc import Executor, errors

def eat():
    print("before", file=sys.stderr, flush=True)
    kept = []
    while True:
        kept.append(b"x" * 2**20)

def double(x):
    return 2 * x

limited = sys.argv[1] != "None"
if limited:
    with open(os.path.join(sys.argv[1], "cgroup.procs"), "w") as file:
        file.write(str(os.getpid()))
else:
    def eat():
        os.kill(os.getpid(), 9)
with Executor(2, retries=int(sys.argv[2])) as executor:
    manager = executor.submit(os.getppid).result(60)
    error = executor.submit(eat).exception(60)
    assert executor.submit(os.getppid).result(60) == manager
    assert list(executor.map(double, range(50))) == [2 * x for x in range(50)]
assert type(error) is errors.WorkerDied and error.signal == 9
assert error.oom == limited
text = str(error)
if limited:
    assert "because memory ran out" in text and "limit 200.0 MB" in text, text
    assert "give each task more memory" in text, text
    assert "probably because memory ran out" in "".join(error.attempts) or not error.attempts
    assert error.peak_memory > 100 * 2**20
assert len(error.attempts) == int(sys.argv[2])
print(error.peak_memory)
"""


@pytest.mark.parametrize("retries", [0, 2])
def test_w04_the_kernel_kills_for_memory(home: TestHome, group: Path | None, retries: int) -> None:
    """W4: the kernel kills a worker because its control group has no more memory. The error says
    so, with the limit and the peak; manager and seed go on, and so do all other tasks. Where no
    group can be made, the same death is told without that.
    """
    peak = int(finish(home.start("eat.py", OUT_OF_MEMORY, str(group), str(retries))))
    record_figure("W4", "peak told of a worker killed at 200 MB", peak / 2**20, "MB")
