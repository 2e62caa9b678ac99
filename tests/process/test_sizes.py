"""Tasks of all sizes, seen from inside of them: cores, threads, accelerators, variables, turns."""

from __future__ import annotations

from homes import TestHome, finish

#: Put before a script: what a task finds, and an endpoint of its own with accelerators on request.
FOUND = """
import json, os, sys, time
from fxhpc import Executor

CONFIG = {
    "engine": {
        "max_workers_per_node": 2,
        "cpu_affinity": "block",
        "available_accelerators": 2,
        "accelerators": "on_request",
        "provider": {"type": "LocalProvider", "init_blocks": 1, "max_blocks": 1},
    }
}

#: What a library finds that looks at its variables as it is imported.
AT_IMPORT = '''
import os
threads = os.environ.get("OMP_NUM_THREADS")
'''

def found(seconds=0.0):
    import os, sys, time
    began = time.monotonic()
    time.sleep(seconds)
    return {
        "pid": os.getpid(),
        "cores": sorted(os.sched_getaffinity(0)),
        "began": began,
        "ended": time.monotonic(),
        **{name: os.environ.get(name) for name in (
            "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "FXHPC_CELLS", "FXHPC_CORES", "COLOUR",
        )},
    }

def apart(one, other):
    return one["ended"] <= other["began"] or other["ended"] <= one["began"]

def ask(executor, count, seconds=0.0, **specification):
    executor.resource_specification = specification
    return [executor.submit(found, seconds) for _ in range(count)]

def results(futures):
    return [future.result(60) for future in futures]
"""


def test_cells_of_a_client_s_own_workers(home: TestHome) -> None:
    """Four workers, and tasks of one, two, four and half a core beside each other."""
    finish(
        home.start(
            "cells.py",
            FOUND
            + """
with Executor(4) as executor:
    small = ask(executor, 8, 0.05)
    large = ask(executor, 2, 0.1, cores=4)
    pairs = ask(executor, 4, 0.1, cores=2, environment={"COLOUR": "red"})
    halves = ask(executor, 4, 0.1, cores=0.5)
    small, large, pairs, halves = map(results, (small, large, pairs, halves))
    assert {task["FXHPC_CELLS"] for task in small} == {None}
    assert {task["FXHPC_CELLS"] for task in large} == {"0,1,2,3"}
    assert {(task["OMP_NUM_THREADS"], task["COLOUR"]) for task in pairs} == {("2", "red")}
    assert {task["FXHPC_CORES"] for task in halves} == {"0.5"}
    for one in large:
        for other in [*small, *large, *pairs, *halves]:
            assert one is other or apart(one, other), (one, other)
    for one in pairs:
        for other in pairs:
            shared = set(one["FXHPC_CELLS"].split(",")) & set(other["FXHPC_CELLS"].split(","))
            assert one is other or not shared or apart(one, other), (one, other)
    assert not {task["pid"] for task in small} & {task["pid"] for task in large + pairs + halves}
""",
        )
    )


def test_accelerators_on_request_and_cores_of_its_own(home: TestHome) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "4,7"}
    home.environment.update(environment)
    finish(
        home.start(
            "accelerators.py",
            FOUND
            + """
with Executor(config=CONFIG) as executor:
    none, whole = ask(executor, 2), ask(executor, 3, 0.2, cores=1, gpus=1)
    parts, both = ask(executor, 4, 0.2, cores=0.5, gpus=0.5), ask(executor, 1, 0.1, gpus=2)
    none, whole, parts, both = map(results, (none, whole, parts, both))
    assert {task["CUDA_VISIBLE_DEVICES"] for task in none} == {""}
    assert {task["CUDA_VISIBLE_DEVICES"] for task in whole} <= {"4", "7"}
    assert [task["CUDA_VISIBLE_DEVICES"] for task in both] == ["4,7"]
    sharing = [*whole, *both]
    for one in sharing:
        for other in [*sharing, *parts]:
            seen = [set(task["CUDA_VISIBLE_DEVICES"].split(",")) for task in (one, other)]
            assert one is other or not seen[0] & seen[1] or apart(one, other), (one, other)
    (every,) = results(ask(executor, 1, cores=2))
    assert every["OMP_NUM_THREADS"] == "2"
    assert len(every["cores"]) == min(2, len(os.sched_getaffinity(0)))
    assert every["CUDA_VISIBLE_DEVICES"] == ""
""",
        )
    )


def test_variables_are_there_before_anything_is_imported(home: TestHome) -> None:
    folder = home.scripts
    folder.mkdir(parents=True, exist_ok=True)
    finish(
        home.start(
            "threads.py",
            FOUND
            + """
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "looks_at_import.py"), "w") as file:
    file.write(AT_IMPORT)

def threads(folder):
    import sys
    sys.path.append(folder)
    import looks_at_import
    return looks_at_import.threads

with Executor(2) as executor:
    executor.submit(pow, 2, 2).result(60)
    executor.resource_specification = {"cores": 2}
    assert executor.submit(threads, folder).result(60) == "2"
    executor.resource_specification = {"cores": 1}
    assert executor.submit(threads, folder).result(60) == "1"
    executor.resource_specification = {"environment": {"OMP_NUM_THREADS": "7"}}
    assert executor.submit(threads, folder).result(60) == "7"
""",
        )
    )


def test_a_worker_of_a_class_dies_and_is_ended_as_any(home: TestHome) -> None:
    finish(
        home.start(
            "deaths.py",
            FOUND
            + """
import signal
from fxhpc.errors import TaskWalltimeExceeded

def once(path):
    import os, signal
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ["FXHPC_CORES"]

with Executor(2) as executor:
    executor.resource_specification = {"cores": 2}
    assert executor.submit(once, os.path.abspath("died")).result(60) == "2"
    executor.resource_specification = {"cores": 2, "walltime": 0.3}
    long, after = executor.submit(time.sleep, 100), executor.submit(found)
    assert isinstance(long.exception(60), TaskWalltimeExceeded)
    assert after.result(60)["FXHPC_CORES"] == "2"
    executor.resource_specification = None
    assert executor.submit(pow, 2, 3).result(60) == 8
""",
        )
    )


def test_what_is_too_large_is_told_at_once(home: TestHome) -> None:
    finish(
        home.start(
            "too_large.py",
            FOUND
            + """
with Executor(2) as executor:
    executor.submit(pow, 2, 2).result(60)
    executor.resource_specification = {"cores": 3}
    try:
        executor.submit(pow, 2, 2).result(60)
    except Exception as error:
        assert "3 cores" in str(error), error
        print(type(error).__name__)
    else:
        raise AssertionError("it ran")
""",
        )
    )
