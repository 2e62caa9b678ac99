"""Which jobs have several nodes, and in which of their processes an executor uses them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.client.started.allocation import Allocation, find_allocation, workers_per_node

SLURM = {"SLURM_JOB_ID": "123", "SLURM_JOB_NUM_NODES": "4", "SLURM_NNODES": "4"}


def _which(command: str) -> str:
    return f"/usr/bin/{command}"


def test_the_script_of_a_slurm_job_with_several_nodes() -> None:
    found = find_allocation(SLURM, _which)
    assert found == Allocation(4, "srun", "123")
    assert found is not None
    assert "all 4 nodes of job 123" in found.note
    assert "FXHPC_ALLOCATION=0" in found.note


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {**SLURM, "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"},
        {**SLURM, "FXHPC_ALLOCATION": "0"},
        {**SLURM, "SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "4"},
        {**SLURM, "FXHPC_BLOCK": "7"},
        {**SLURM, "PARSL_WORKER_RANK": "0"},
        {**SLURM, "SLURM_JOB_NUM_NODES": "?", "SLURM_NNODES": ""},
        {"SLURM_JOB_NUM_NODES": "4"},
    ],
    ids=["no job", "one node", "off", "a rank", "in a task", "in Parsl", "nonsense", "no id"],
)
def test_elsewhere_an_executor_stays_on_its_node(environ: dict[str, str]) -> None:
    assert find_allocation(environ, _which) is None


def test_a_shell_of_salloc_may_be_a_step_of_one() -> None:
    environ = {**SLURM, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}
    assert find_allocation(environ, _which) is not None


def test_a_shell_of_salloc_on_a_login_node_is_not_on_the_jobs_one_node() -> None:
    environ = {**SLURM, "SLURM_JOB_NUM_NODES": "1", "SLURM_NNODES": "1"}
    found = find_allocation(environ, _which)
    assert found == Allocation(1, "srun", "123")
    assert "on the node of job 123, by srun" in found.note
    assert find_allocation({**environ, "FXHPC_ALLOCATION": "0"}, _which) is None


def test_without_srun_nothing_can_be_started_elsewhere() -> None:
    assert find_allocation(SLURM, lambda command: None) is None


def test_a_pbs_job_has_the_hosts_of_its_node_file(tmp_path: Path) -> None:
    hosts = tmp_path / "nodes"
    hosts.write_text("n1\nn1\nn2\nn2\n")
    environ = {"PBS_JOBID": "9.server", "PBS_NODEFILE": str(hosts)}
    assert find_allocation(environ, _which) == Allocation(2, "mpiexec", "9.server")
    assert find_allocation({**environ, "OMPI_COMM_WORLD_SIZE": "2"}, _which) is None
    hosts.write_text("n1\nn1\n")
    assert find_allocation(environ, _which) is None
    assert find_allocation({"PBS_JOBID": "9.server"}, _which) is None


def test_the_configuration_is_one_block_on_all_nodes() -> None:
    config = Allocation(4, "srun", "123").config(8)
    assert config["max_workers_per_node"] == 8
    provider = config["provider"]
    assert provider["type"] == "LocalProvider"
    assert [provider[f"{name}_blocks"] for name in ("init", "min", "max")] == [1, 1, 1]
    assert provider["nodes_per_block"] == 4
    assert "--overlap --nodes=4" in provider["launcher"]["overrides"]
    assert "max_workers_per_node" not in Allocation(4, "srun", "123").config()
    launcher = Allocation(4, "mpiexec", "9").config()["provider"]["launcher"]
    assert launcher == {"type": "MpiExecLauncher"}


def test_the_environment_may_say_how_many_workers() -> None:
    assert workers_per_node({}) is None
    assert workers_per_node({"FXHPC_WORKERS": "6"}) == 6
    assert workers_per_node({"FXHPC_WORKERS": "many"}) is None
