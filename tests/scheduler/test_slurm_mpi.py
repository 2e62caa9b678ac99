"""Tasks with ranks, over one node and over several, on a real Slurm with a real MPI program."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from login_node import Endpoint, LoginNode, configuration
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing

from fxhpc import FuncXClient, MPIFunction, ShellFunction, errors
from tests.waiting import eventually

TWO_NODES = {"num_nodes": 2, "ranks_per_node": 2}

#: It refuses to be root's; its files are of one name on all nodes that have one /tmp.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "TMPDIR": "/dev/shm",
}


@pytest.fixture
def endpoint(login: LoginNode) -> Iterator[Endpoint]:
    """A block of four nodes, each with two workers."""
    engine = {"max_workers_per_node": 2, "mpi_launcher": "srun", "mpi_type": "pmi2"}
    text = configuration(
        engine, nodes_per_block=4, cores_per_node=2, launcher={"type": "SrunLauncher"}
    )
    endpoint = login.endpoint("midway", text)
    endpoint.start()
    return endpoint


def hold(seconds: float) -> dict[str, Any]:
    """An ordinary task: where and when it ran."""
    import socket

    began = time.monotonic()
    time.sleep(seconds)
    return {"host": socket.gethostname(), "began": began, "ended": time.monotonic()}


def look() -> dict[str, Any]:
    """A task over several nodes: what it finds around it."""
    import socket

    began = time.monotonic()
    command = f"{os.environ['PARSL_SRUN_PREFIX']} hostname; sleep 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    return {
        "host": socket.gethostname(),
        "nodes": os.environ["PARSL_MPI_NODELIST"].split(","),
        "file": Path(os.environ["FXHPC_NODEFILE"]).read_text().split(),
        "ranks": sorted(done.stdout.split()),
        "messages": done.stderr,
        "began": began,
        "ended": time.monotonic(),
    }


def test_programs_of_both_kinds_on_one_node_and_on_two_by_each_launcher(
    client: FuncXClient, endpoint: Endpoint, ring: str, open_ring: str, tmp_path: Path
) -> None:
    mpich, open_mpi = {"environment": hydra_first(tmp_path)}, {"environment": OPEN_MPI}
    # Of two --mpi the last one counts: here the endpoint's is MPICH's.
    by_srun = {**open_mpi, "launcher_options": "--mpi=pmix"}
    with executing(client, endpoint) as executor:

        def submit(command: str, program: str, **said: Any) -> Future[Any]:
            executor.resource_specification = said
            kind = ShellFunction if command else MPIFunction
            function = kind(
                "echo $PARSL_MPI_NODELIST; " * bool(command) + command + "{program}", walltime=60
            )
            return executor.submit(function, program=program)

        found = {
            (command, program, nodes): submit(
                command, program, num_nodes=nodes, ranks_per_node=2, **said
            )
            for command, program, said in (
                ("", ring, mpich),
                ("", open_ring, by_srun),
                ("$PARSL_MPIEXEC_PREFIX ", ring, mpich),
                ("$PARSL_MPIEXEC_PREFIX ", open_ring, open_mpi),
                # They find for themselves what their task has.
                ("mpiexec ", ring, mpich),
                ("mpiexec ", open_ring, open_mpi),
                ("srun --mpi=pmi2 -n $PARSL_NUM_RANKS ", ring, mpich),
            )
            for nodes in (1, 2)
        }
        for (command, _, nodes), future in found.items():
            told = future.result(120)
            assert (told.returncode, told.stderr) == (0, ""), told
            *own, last = told.stdout.splitlines()
            # All have seen the token; each node has two of them, and it is the task's.
            assert last.startswith(f"{2 * nodes} of {2 * nodes}: "), told
            hosts = Counter(last.split()[3:])
            assert [*hosts.values()] == [2] * nodes, told
            if command:
                assert set(hosts) == set(own[0].split(",")), told


def hydra_first(directory: Path) -> dict[str, str]:
    """MPICH's mpiexec is found first, as by `module load`."""
    # No link: it looks beside itself for its proxy.
    hydra = directory / "mpiexec"
    hydra.write_text(f'#!/bin/sh\nexec {shutil.which("mpiexec.hydra")} "$@"\n')
    hydra.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def test_nodes_are_its_own_among_small_tasks(client: FuncXClient, endpoint: Endpoint) -> None:
    with executing(client, endpoint) as executor:
        small = [executor.submit(hold, 0.1) for _ in range(100)]
        executor.resource_specification = TWO_NODES
        large = [executor.submit(look) for _ in range(4)]
        executor.resource_specification = None
        small += [executor.submit(hold, 0.1) for _ in range(100)]
        wide = [future.result(120) for future in large]
        narrow = [future.result(120) for future in small]
    for told in wide:
        assert told["messages"] == ""
        assert told["host"] == told["nodes"][0]
        assert told["file"] == told["nodes"]
        assert told["ranks"] == sorted(2 * told["nodes"])
        assert len(set(told["nodes"])) == 2
        for other in narrow:
            apart = other["ended"] <= told["began"] or other["began"] >= told["ended"]
            assert apart or other["host"] not in told["nodes"]
    # Neither waits for all of the other kind.
    assert min(told["began"] for told in wide) < max(told["ended"] for told in narrow)


def test_whatever_ends_a_task_it_leaves_nothing_on_its_nodes(
    client: FuncXClient,
    endpoint: Endpoint,
    slurm: SlurmCluster,
    ring: str,
    open_ring: str,
    tmp_path: Path,
) -> None:
    def ranks() -> list[str]:
        """Those that run, and what has started them."""
        return [line for line in slurm.processes() if " 600" in line or "orted" in line]

    marks = tmp_path / "marks"
    marks.mkdir()
    with executing(client, endpoint) as executor:
        # By srun: it is cancelled; ends itself when its time is over; and is ended then.
        executor.resource_specification = two = {"num_nodes": 2, "ranks_per_node": 1}
        command = "bash -c 'echo $$ > {marks}/$(hostname).$SLURM_STEP_ID; sleep 600'"
        cancelled = executor.submit(MPIFunction(command), marks=str(marks))
        ended = executor.submit(MPIFunction(command, walltime=3), marks=str(marks))
        executor.resource_specification = {**two, "walltime": 3}
        killed = executor.submit(MPIFunction(command), marks=str(marks))  # when others have ended
        eventually(lambda: len(list(marks.iterdir())) == 4, within=60)
        client.cancel(cancelled.task_id, interrupt=True)
        assert ended.result(60).returncode == 124
        assert isinstance(killed.exception(60), errors.TaskWalltimeExceeded)
        assert len(list(marks.iterdir())) == 6

        # By each mpiexec: cancelled.
        eventually(lambda: not ranks(), 20, every=0.1, told=lambda: f"{ranks()}")
        command = "$PARSL_MPIEXEC_PREFIX {program} 600"
        programs = {ring: hydra_first(tmp_path), open_ring: OPEN_MPI}
        futures = []
        for program, environment in programs.items():
            executor.resource_specification = {**TWO_NODES, "environment": environment}
            futures.append(executor.submit(ShellFunction(command), program=program))

        def all_run() -> bool:
            commands = [line.split(maxsplit=2)[2] for line in ranks()]
            return all(commands.count(f"{program} 600") == 4 for program in programs)

        eventually(all_run, 30, every=0.1, told=lambda: f"{ranks()}")
        for future in futures:
            client.cancel(future.task_id, interrupt=True)
        eventually(lambda: not ranks(), 20, every=0.1, told=lambda: f"{ranks()}")
