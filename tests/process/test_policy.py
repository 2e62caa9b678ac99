"""Which process the kernel lets go first."""

from __future__ import annotations

import os

import psutil

from fxhpc import Executor


def _policies() -> tuple[int, int]:
    """Of the worker that asks, and its manager's process id."""
    import os

    import psutil

    return os.sched_getscheduler(0), psutil.Process(os.getppid()).ppid()


def test_a_manager_does_not_take_the_core_from_a_worker() -> None:
    with Executor(1) as executor:
        worker, manager = executor.submit(_policies).result(60)
        assert psutil.Process(manager).name().startswith("fxhpc-manager")
        assert os.sched_getscheduler(manager) == os.SCHED_BATCH
        assert worker == os.sched_getscheduler(0)
