"""Tasks over several nodes whose managers are killed, and whose job is cancelled: they run again or
are lost, with the reason; no rank of theirs is left anywhere, and their nodes have the next."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing

from fxhpc import FuncXClient, MPIFunction, errors
from tests.waiting import eventually

#: A rank that runs until it is ended, unless it may go.
RANK = (
    "bash -c 'echo $PARSL_MPI_NODELIST > {marks}/$(hostname); "
    "[ -e {marks}/go ] || exec sleep 600; hostname'"
)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where ranks say that they run."""
    marks = tmp_path / "marks"
    marks.mkdir()
    return marks


def begun(marks: Path) -> list[str]:
    """The nodes of the two ranks that run, the one with the function first; and forget of them."""
    told: list[list[str]] = []

    def all_there() -> bool:
        told[:] = [path.read_text().split() for path in marks.glob("node*")]
        return len(told) == 2 and all(told)

    soon(all_there, within=60)
    for path in marks.glob("node*"):
        path.unlink()
    return told[0][0].split(",")


def kill_manager(slurm: SlurmCluster, node: str) -> None:
    found = [line.split()[1] for line in slurm.processes() if f"{node}: " in line]
    managers = [
        pid for pid in found if b"fxhpc: manager" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(managers) == 1
    os.kill(int(managers[0]), signal.SIGKILL)


def ranks(slurm: SlurmCluster) -> list[str]:
    """Those that run, and what has started them."""
    return [
        line
        for line in slurm.processes()
        if "sleep 600" in line or "srun --overlap --ntasks 2" in line
    ]


def steps(slurm: SlurmCluster) -> list[str]:
    """Those of programs: not the one with the managers, which is the first."""
    names = slurm.slurm("squeue", "-h", "-s", "-o", "%i").split()
    return [name for name in names if name.rpartition(".")[2] not in ("0", "batch")]


def nothing_is_left(slurm: SlurmCluster) -> None:
    def left() -> list[str]:
        return ranks(slurm) + steps(slurm)

    eventually(lambda: not left(), 20, every=0.1, told=lambda: f"{left()}")


def test_a_task_whose_nodes_are_lost(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, marks: Path
) -> None:
    engine = {"max_workers_per_node": 2, "mpi_launcher": "srun"}
    launcher = {"type": "SrunLauncher"}
    text = configuration(engine, nodes_per_block=4, cores_per_node=2, launcher=launcher)
    endpoint = login.endpoint("midway", text)
    endpoint.start()
    function = MPIFunction(RANK)
    with executing(client, endpoint) as executor:
        executor.resource_specification = {"num_nodes": 2, "ranks_per_node": 1}
        future = executor.submit(function, marks=str(marks))
        first = begun(marks)
        kill_manager(slurm, first[1])
        second = begun(marks)
        assert first[1] not in second
        reason = str(client.get_task(future.task_id)["reason"])
        assert f"ran on {first[1]} when its manager" in reason
        assert "(one of the 2 nodes that the task had)" in reason
        (marks / "go").touch()
        kill_manager(slurm, second[0])
        told = future.result(60)
        last = set(slurm.nodes) - {first[1], second[0]}
        assert (told.returncode, set(told.stdout.split())) == (0, last)
        nothing_is_left(slurm)
    with executing(client, endpoint, retries=0) as executor:
        executor.resource_specification = {"num_nodes": 2, "ranks_per_node": 1}
        for path in marks.iterdir():
            path.unlink()
        future = executor.submit(function, marks=str(marks))
        assert set(begun(marks)) == last
        (job,) = slurm.jobs()
        slurm.cancel(job.id)
        lost = future.exception(60)
        assert isinstance(lost, errors.TaskLost)
        assert f"job {job.id}" in str(lost)
        assert "It was submitted with retries=0" in str(lost)
        nothing_is_left(slurm)
