"""Prefixes and variables of programs with several ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.manager.resources import ranks
from fxhpc.manager.resources.places import Place, Places
from fxhpc.protocol.needs import Lease, Needs

FOUR = Needs(nodes=2, ranks=4, ranks_per_node=2, cores_per_rank=3)
HOSTS = ("node1.cluster", "node2.cluster")


def test_the_prefixes() -> None:
    needs = Needs(nodes=2, ranks=4, ranks_per_node=2, launcher_options="--exact -v")
    found = ranks.variables(needs, HOSTS, "srun", ranks.OPEN_MPI, "pmix")
    assert found["PARSL_SRUN_PREFIX"] == found["PARSL_MPI_PREFIX"]
    assert found["PARSL_MPI_PREFIX"] == (
        "srun --overlap --mpi=pmix --ntasks 4 --ntasks-per-node 2 --cpus-per-task 1 "
        "--nodelist node1,node2 --nodes 2 --exact -v"
    )
    assert found["PARSL_MPIEXEC_PREFIX"] == (
        "mpiexec -n 4 --host node1.cluster:2,node2.cluster:2 --map-by ppr:2:node --exact -v"
    )
    found = ranks.variables(FOUR, HOSTS, "mpiexec", ranks.HYDRA)
    assert found["PARSL_MPI_PREFIX"] == "mpiexec -n 4 -ppn 2 -hosts node1.cluster,node2.cluster"
    assert found["PARSL_APRUN_PREFIX"] == "aprun -n 4 -N 2 -node-list node1.cluster,node2.cluster"
    assert "--cpus-per-task 3" in found["PARSL_SRUN_PREFIX"]
    assert found["PARSL_MPI_NODELIST"] == "node1.cluster,node2.cluster"
    assert (found["PARSL_NUM_NODES"], found["PARSL_NUM_RANKS"]) == ("2", "4")
    assert "HYDRA_LAUNCHER" not in found


def test_nodes_without_ranks_have_one_each() -> None:
    found = ranks.variables(Needs(nodes=2), HOSTS, "srun", ranks.HYDRA)
    assert (found["PARSL_NUM_RANKS"], found["PARSL_RANKS_PER_NODE"]) == ("2", "1")


def test_which_mpiexec_it_is() -> None:
    assert ranks.flavour_of("mpiexec (OpenRTE) 4.1.4") == ranks.OPEN_MPI
    assert ranks.flavour_of("HYDRA build details:\n    Version: 4.0.2") == ranks.HYDRA
    assert ranks.flavour_of("Unknown option: version\nUsage:\n mpiexec.slurm") == ranks.SLURM
    assert ranks.flavour_here("/nowhere") == ranks.HYDRA


JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NODELIST": "node[1-4]",
    "SLURM_TASKS_PER_NODE": "1(x4)",
    "SLURM_JOB_CPUS_PER_NODE": "8(x4)",
}


def test_slurm_s_variables_are_as_of_a_job_of_its_own() -> None:
    """Open MPI starts no more ranks on a node than these say."""
    found = ranks.variables(FOUR, HOSTS, "mpiexec", ranks.OPEN_MPI, environ=JOB)
    assert found["SLURM_JOB_NODELIST"] == found["SLURM_NODELIST"] == "node1,node2"
    assert found["SLURM_JOB_NUM_NODES"] == found["SLURM_NNODES"] == "2"
    assert found["SLURM_TASKS_PER_NODE"] == "2(x2)"
    assert found["SLURM_JOB_CPUS_PER_NODE"] == "8(x2)"
    uneven = {**JOB, "SLURM_JOB_CPUS_PER_NODE": "8(x3),4"}
    found = ranks.variables(FOUR, HOSTS, "mpiexec", ranks.OPEN_MPI, environ=uneven)
    assert "SLURM_JOB_CPUS_PER_NODE" not in found
    found = ranks.variables(FOUR, HOSTS, "mpiexec", ranks.OPEN_MPI, environ={})
    assert "SLURM_TASKS_PER_NODE" not in found


@pytest.mark.parametrize(
    ("names", "job", "found"),
    [
        ((), "7", "mpiexec"),
        (("srun",), "", "mpiexec"),
        (("srun",), "7", "srun"),
        (("srun", "mpiexec"), "7", "mpiexec"),
    ],
)
def test_what_starts_ranks_here(
    tmp_path: Path, names: tuple[str, ...], job: str, found: str
) -> None:
    for name in names:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": str(tmp_path), **({"SLURM_JOB_ID": job} if job else {})}
    assert ranks.launcher_here("", environ) == found
    assert ranks.launcher_here("aprun", environ) == "aprun"


def test_the_mpiexec_of_slurm_s_wrappers_is_none(tmp_path: Path) -> None:
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "mpiexec").write_text("#!/bin/sh\necho 'mpiexec.slurm args executable' >&2\n")
    for name in ("srun", "mpiexec"):
        (tmp_path / name).chmod(0o755)
    assert ranks.launcher_here("", {"PATH": str(tmp_path), "SLURM_JOB_ID": "7"}) == "srun"


def test_a_worker_for_ranks_has_them_and_not_its_manager_s_step() -> None:
    places = Places([Place([0]), Place([1])], environ={"PATH": ""}, host="node1")
    one = places.lease(1, Lease(((0, 1000), (1, 1000))), Needs(ranks=2, ranks_per_node=2))
    assert one.environ["PARSL_MPI_PREFIX"] == "mpiexec -n 2 -ppn 2 -hosts node1"
    assert one.environ["HYDRA_LAUNCHER"] == "fork"
    assert "SLURM_PROCID" in one.without
    two = places.lease(2, Lease(), FOUR, HOSTS)
    assert two.environ["PARSL_NUM_NODES"] == "2"
    plain = places.lease(3, Lease(), Needs(cores=1000))
    assert not plain.without
    assert "PARSL_MPI_PREFIX" not in plain.environ
