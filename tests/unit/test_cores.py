"""What of a machine may be used: the batch system's word, affinity, cgroups."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from fxhpc import cores

NOWHERE = Path("/there/is/no/cgroup")
HOST = platform.node().partition(".")[0]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, 0),
        ({"SLURM_CPUS_ON_NODE": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "4", "PARSL_CORES": "3"}, 3),
        ({"SLURM_CPUS_ON_NODE": "many"}, 0),
        ({"SLURM_JOB_CPUS_PER_NODE": "4(x2),2", "SLURM_NODEID": "1"}, 4),
        ({"SLURM_JOB_CPUS_PER_NODE": "4(x2),2", "SLURM_NODEID": "2"}, 2),
        ({"SLURM_JOB_CPUS_PER_NODE": "128"}, 0),  # salloc's shell on a login node
        ({"NCPUS": "8"}, 8),
        ({"PBS_NUM_PPN": "6", "PBS_NP": "12"}, 6),
        ({"PBS_NP": "12"}, 12),
        ({"PBS_NP": "12", "PBS_NUM_NODES": "2"}, 0),
        ({"LSB_MCPU_HOSTS": f"other 4 {HOST} 8", "LSB_DJOB_NUMPROC": "12"}, 8),
        ({"LSB_MCPU_HOSTS": "alias 8"}, 8),
        ({"LSB_DJOB_NUMPROC": "12"}, 12),
        ({"NSLOTS": "5"}, 5),
        ({"NSLOTS": "10", "NHOSTS": "2"}, 0),
    ],
)
def test_what_batch_systems_say_of_cores(environ: dict[str, str], expected: int) -> None:
    assert cores.batch_cores(environ) == expected


def test_the_batch_system_decides_even_above_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "allowed_cores", lambda: [0, 1])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert cores.usable_cores({"SLURM_CPUS_ON_NODE": "4"}, NOWHERE) == 4
    assert cores.usable_cores({}, NOWHERE) == 2


def test_a_narrower_affinity_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "allowed_cores", lambda: [0, 1])
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores.usable_cores({"SLURM_CPUS_ON_NODE": "4"}, NOWHERE) == 2


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, 0),
        ({"SLURM_MEM_PER_NODE": "0"}, 0),  # all of it
        ({"SLURM_MEM_PER_NODE": "512"}, 512 << 20),
        ({"SLURM_MEM_PER_CPU": "100"}, 400 << 20),
        ({"PARSL_MEMORY_GB": "1.5", "SLURM_MEM_PER_NODE": "512"}, 3 << 29),
        ({"PARSL_MEMORY_GB": "x"}, 0),
    ],
)
def test_what_batch_systems_say_of_memory(environ: dict[str, str], expected: int) -> None:
    assert cores.batch_memory(environ, 4) == expected


def test_no_more_memory_than_there_is() -> None:
    assert cores.usable_memory({"PARSL_MEMORY_GB": "1e9"}, 1, NOWHERE) == cores.machine_memory()


def test_jobs() -> None:
    assert cores.job_of({}) == ""
    assert cores.job_of({"PBS_JOBID": "12.server"}) == "12.server"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}, False),  # salloc's shell
        ({"SLURM_JOB_ID": "7", "SLURM_NODEID": "0"}, True),
        ({"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"}, True),
        ({"PBS_JOBID": "12.server"}, True),
    ],
)
def test_who_is_on_a_node_of_its_job(environ: dict[str, str], expected: bool) -> None:
    assert cores.is_on_node_of_job(environ) == expected


def test_cgroup_quotas(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert cores.cgroup_cores(tmp_path, own) == 0
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    assert cores.cgroup_cores(tmp_path, own) == 2
    own.write_text("3:cpu,cpuacct:/job\n")
    (tmp_path / "cpu" / "job").mkdir(parents=True)
    (tmp_path / "cpu" / "job" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "job" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.cgroup_cores(tmp_path, own) == 3


def test_cgroup_memory(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    assert cores.cgroup_memory(tmp_path, own) == 0
    (tmp_path / "a" / "memory.max").write_text("1048576\n")
    assert cores.cgroup_memory(tmp_path, own) == 1 << 20
    own.write_text("4:memory:/job\n")
    (tmp_path / "memory" / "job").mkdir(parents=True)
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "memory" / "job" / "memory.limit_in_bytes").write_text("2097152\n")
    assert cores.cgroup_memory(tmp_path, own) == 2 << 20
