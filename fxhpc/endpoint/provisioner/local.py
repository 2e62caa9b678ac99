"""How blocks are that are processes of this host, and how they are ended.

A script notes its pid, start time and host when it begins, so that a block is found again after
whatever has ended meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

import psutil

from fxhpc.endpoint.provisioner.schedulers import ended_report
from fxhpc.endpoint.provisioner.scripts import BlockFiles, Started
from fxhpc.protocol.provision import BlockRef, JobPhase, JobReport

#: Seconds that managers get to end, before everything that is left is killed; and blocks without
#: one: it may have been about to end.
PATIENCE_S, SHORT_PATIENCE_S = 5.0, 0.3
_LOOK_S = 0.02

#: What starts managers on other nodes or in containers, and hands a signal on to them.
_LAUNCHERS = frozenset(
    {"srun", "mpiexec", "mpirun", "aprun", "jsrun", "mpiexec.hydra", "podman", "docker"}
)


class Local:
    """This host."""

    name = "Local"

    def __init__(self, files: BlockFiles) -> None:
        self._files = files

    def look(self, blocks: Sequence[BlockRef]) -> list[JobReport]:
        """See `Scheduler`."""
        return [self._report(block) for block in blocks]

    def _report(self, block: BlockRef) -> JobReport:
        if self._files.exit_code(block.name) is not None:
            return ended_report(self._files, block, block.job, "ended")
        started = self._files.started(block.name)
        if started is None:
            # Parsl's own note: it is written before the script begins.
            if block.job.isdigit() and psutil.pid_exists(int(block.job)):
                return JobReport(block.number, JobPhase.RUNNING, block.job, "RUNNING")
            if block.job:
                return ended_report(self._files, block, block.job, "ended")
            return JobReport(block.number, JobPhase.MISSING)
        if started.host != os.uname().nodename:
            words = f"RUNNING on host {started.host}, where this host cannot look"
            return JobReport(block.number, JobPhase.RUNNING, block.job, words, started.host)
        if find(started) is None:
            return ended_report(self._files, block, block.job or str(started.pid), "was killed")
        return JobReport(
            block.number, JobPhase.RUNNING, block.job or str(started.pid), "RUNNING", started.host
        )

    def cancel(self, blocks: Sequence[BlockRef]) -> list[int]:
        """End these blocks and everything that they have started; those that are gone then."""
        roots: dict[int, psutil.Process] = {}
        done: list[int] = []
        for block in blocks:
            self._files.cancel(block.name)  # one that begins only now
            started = self._files.started(block.name)
            if started is not None and started.host != os.uname().nodename:
                continue
            root = find(started) if started is not None else None
            if root is None:
                done.append(block.number)
            else:
                roots[block.number] = root
        trees = {number: _tree(root) for number, root in roots.items()}
        patience_s = SHORT_PATIENCE_S
        for tree in trees.values():
            for process in _to_be_told(tree):
                patience_s = PATIENCE_S
                with contextlib.suppress(psutil.Error):
                    process.terminate()
        deadline = time.monotonic() + patience_s
        for number, tree in trees.items():
            left = _wait(tree, deadline)
            _kill(left)
            if not _wait(left, time.monotonic() + 1.0):
                done.append(number)
        return done


def find(started: Started) -> psutil.Process | None:
    """The process of a script, if it lives: not another one that got its pid."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            if started.boot and file.read().strip() != started.boot:
                return None
        with open(f"/proc/{started.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        if fields[0] == "Z" or (started.ticks and int(fields[19]) != started.ticks):
            return None
        return psutil.Process(started.pid)
    except (OSError, IndexError, psutil.Error):
        return None


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return [root]


def _to_be_told(tree: list[psutil.Process]) -> list[psutil.Process]:
    """Whom to ask to end: managers and launchers; not their shells, which end by themselves, nor
    what runs under a manager, which the manager ends.
    """
    managers = {process.pid for process in tree if _is_manager(process)}
    launchers = {process.pid for process in tree if _name(process) in _LAUNCHERS}
    told: list[psutil.Process] = []
    if not managers and not launchers:
        return told
    for process in tree:
        try:
            if process.pid in managers:
                told.append(process)
            elif process.pid in launchers:
                above = {parent.pid for parent in process.parents()}
                if not above & managers:
                    told.append(process)
        except psutil.Error:
            continue  # it has ended
    return told


def _kill(processes: list[psutil.Process]) -> None:
    """End these and what they have started meanwhile. Stopped before, they start no more: whose
    parent is gone cannot be found.
    """
    stopped: set[psutil.Process] = set()
    while found := {one for parent in processes for one in _tree(parent)} - stopped:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.suspend()
        stopped |= found
    for process in stopped:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _wait(processes: list[psutil.Process], deadline: float) -> list[psutil.Process]:
    """Wait for their ends: those that live beyond the deadline."""
    while True:
        processes = [process for process in processes if _lives(process)]
        if not processes or time.monotonic() >= deadline:
            return processes
        time.sleep(_LOOK_S)


def _lives(process: psutil.Process) -> bool:
    """Whether it runs. One that has ended may stay for ever, where nobody waits for orphans."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _is_manager(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith("fxhpc: manager")
    except psutil.Error:
        return False
