"""A day on a cluster, in one script: arrays in and out, a package under development, what fails.

    python day.py [day.yaml]

Configures and starts the endpoint `day`, gives it 300 tasks, and loses it a block and restarts it
while they run. Of the tasks 1 % raise an exception and two run out of memory. All the others'
results are compared with what this script computes itself. See the README beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lattice import Diverged, relax

from fxhpc import FuncXClient
from fxhpc.errors import WorkerDied

TASKS = 300
PLATE = np.linspace(0.0, 100.0, 64 * 64).reshape(64, 64)


def simulate(seed: int, plate: np.ndarray) -> tuple[np.ndarray, str]:
    """The plate after a while, and the job in which it was computed."""
    import os
    import time

    time.sleep(0.15)  # a real one takes longer
    return relax(seed, plate), os.environ["SLURM_JOB_ID"]


def fill_memory(limit: int) -> int:
    """Allocate more than is allowed: numpy says so, and the worker lives on."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        return int(np.ones(limit // 4).sum())  # 8 bytes each
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def fill_node() -> None:
    """What the kernel does to a process that has filled a node's memory."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def fxhpc(*words: str) -> str:
    """Run a command of fxhpc, as you would type it."""
    print(f"$ fxhpc {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", "fxhpc.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    print(done.stdout + done.stderr, end="", flush=True)
    assert done.returncode == 0, f"it ended with exit code {done.returncode}"
    return done.stdout


def jobs() -> list[str]:
    """My jobs of this endpoint that have not ended."""
    command = ["squeue", "-h", "-u", str(os.getuid()), "-o", "%i %j"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[0] for line in lines if "fxhpc-day-" in line]


def until(condition: Callable[[], object], within: float) -> None:
    """Wait for something."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "that takes too long"
        time.sleep(0.2)


def work(fxc: FuncXClient) -> None:
    """Give the endpoint its tasks, disturb it, and look at every result."""
    simulation = fxc.register_function(simulate)
    ids = fxc.map_run(range(TASKS), endpoint_id="day", function_id=simulation, plate=PLATE)
    too_much = fxc.run(2**31, endpoint_id="day", function_id=fxc.register_function(fill_memory))
    killed = fxc.run(endpoint_id="day", function_id=fxc.register_function(fill_node))
    print(f"{TASKS + 2} tasks are in the store: whatever happens now, they are not lost")

    ended = fxc.as_completed(ids)
    for _ in range(TASKS // 6):
        next(ended)
    lost = jobs()[0]
    print(f"$ scancel {lost}    # somebody else, or a node that fails")
    subprocess.run(["scancel", lost], check=True)

    for _ in range(TASKS // 6):
        next(ended)
    fxhpc("endpoint", "restart", "day")

    right, diverged, blocks = 0, [], set()
    for seed, task in enumerate(ids):
        try:
            field, job = fxc.get_result(task, timeout=300)
        except Diverged as error:
            diverged.append(error.seed)
            continue
        np.testing.assert_array_equal(field, relax(seed, PLATE))
        blocks.add(job)
        right += 1
    assert diverged == [seed for seed in range(TASKS) if seed % 100 == 99], diverged
    print(f"{right} results are right, {len(diverged)} starts diverged, jobs: {sorted(blocks)}")
    assert right == TASKS - len(diverged)

    try:
        fxc.get_result(too_much, timeout=60)
    except MemoryError as error:
        print(f"MemoryError: {error}")
    else:
        raise AssertionError("2 GB had room")
    try:
        fxc.get_result(killed, timeout=120)
    except WorkerDied as error:
        print(f"WorkerDied: {str(error).splitlines()[0]}")
    else:
        raise AssertionError("it should have been killed")


def main() -> None:
    config = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("day.yaml")
    fxhpc("endpoint", "configure", "day", "--from", str(config))
    fxhpc("endpoint", "start", "day")
    try:
        with FuncXClient() as fxc:
            work(fxc)
        fxhpc("endpoint", "status", "day")
    finally:
        fxhpc("endpoint", "stop", "day")
        fxhpc("endpoint", "delete", "day", "--yes")
    until(lambda: not jobs(), within=30)
    print("nothing is left running")


if __name__ == "__main__":
    main()
