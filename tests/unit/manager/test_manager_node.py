"""What a node gives its manager: workers, cores, accelerators, variables, an end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fxhpc.manager.resources import node as node_module
from fxhpc.manager.resources.accelerators import Devices, device_variables
from fxhpc.manager.resources.node import Node, examine
from fxhpc.manager.resources.pinning import Unfit, core_sets
from fxhpc.protocol.pool import ManagerSpec

NOW = 1_000_000.0
GB = 2**30


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of 8 cores and 32 GB."""
    monkeypatch.setattr(node_module, "allowed_cores", lambda: list(range(8)))
    monkeypatch.setattr(
        node_module, "usable_cores", lambda environ: int(environ.get("SLURM_CPUS_ON_NODE", 8))
    )
    monkeypatch.setattr(node_module, "usable_memory", lambda environ, cores: 32 * GB)


def look(environ: dict[str, str] | None = None, **spec: Any) -> Node:
    fields: dict[str, Any] = {"endpoint": b"", "workers": 0, "address": "x", "manager": "m"} | spec
    return examine(ManagerSpec(**fields), environ or {}, NOW, Devices())


# --- how many ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, 8),
        ({"workers": 3}, 3),
        ({"max_workers": 5}, 5),
        ({"cores_per_worker": 3.0}, 2),
        ({"cores_per_worker": 0.5}, 16),
        ({"cores_per_worker": 0.1}, 80),
        ({"memory_per_worker": 10 * GB}, 3),
        ({"accelerators": ["0", "1"]}, 2),
        ({"accelerators": ["0", "1"], "max_workers": 1}, 1),
        ({"affinity": "list:0-3:4-7"}, 2),
        ({"workers": 8, "accelerators": ["0", "1"]}, 2),
    ],
)
def test_how_many_workers(spec: dict[str, Any], expected: int) -> None:
    assert look(**spec).slots == expected


def test_the_batch_system_decides() -> None:
    node = look({"SLURM_CPUS_ON_NODE": "4"})
    assert node.slots == 4
    assert "gave this job 4 of the 8 cores" in node.notes[0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"cores_per_worker": 16.0}, "cores_per_worker is 16, and the job has 8 cores"),
        ({"memory_per_worker": 64 * GB}, "mem_per_worker is 64.0 GB, and the job has 32.0 GB"),
        ({"affinity": "blocks"}, "cpu_affinity is 'blocks'"),
        ({"affinity": "list:0-3:4-"}, "'4-' is neither a core nor"),
        ({"affinity": "list:0-3:8"}, "names the cores 8, and this job may use 0,1,2,3,4,5,6,7"),
        ({"affinity": "list:0:1", "workers": 3}, "for 2 of 3 workers"),
    ],
)
def test_what_does_not_fit_is_said(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(Unfit, match=words.replace("(", r"\(")):
        look(**spec)


# --- cores ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        ("none", []),
        ("", []),
        ("block", [[2, 3], [5, 7]]),
        ("block-reverse", [[5, 7], [2, 3]]),
        ("alternating", [[2, 5], [3, 7]]),
        ("list:2,3:5-5,7", [[2, 3], [5, 7]]),
    ],
)
def test_each_strategy_has_its_meaning(affinity: str, expected: list[list[int]]) -> None:
    assert core_sets(affinity, [2, 3, 5, 7], 2) == expected


def test_more_workers_than_cores_are_not_bound_and_that_is_said() -> None:
    node = look(affinity="block", cores_per_worker=0.5)
    assert [place.cores for place in node.places] == [[]] * 16
    assert "binds nobody" in node.notes[0]


def test_threads_follow_the_cores() -> None:
    first, second = look(affinity="block", cores_per_worker=4.0).places
    assert first.cores == [0, 1, 2, 3]
    assert second.environ["OMP_NUM_THREADS"] == "4"
    assert second.environ["GOMP_CPU_AFFINITY"] == "4,5,6,7"
    assert second.environ["KMP_AFFINITY"] == "explicit,proclist=[4,5,6,7]"


@pytest.mark.parametrize(("per_worker", "expected"), [(2.0, "2"), (0.5, "1"), (2.9, "2")])
def test_threads_without_pinning(per_worker: float, expected: str) -> None:
    environ = look(cores_per_worker=per_worker).places[0].environ
    assert environ["OMP_NUM_THREADS"] == expected
    assert "GOMP_CPU_AFFINITY" not in environ


def test_what_all_workers_share_is_there_before_them() -> None:
    shared = look(affinity="list:0-2:3").shared_environ
    assert shared["OMP_NUM_THREADS"] == "1", "the least"
    assert shared["PARSL_WORKER_COUNT"] == "2"
    assert not {"PARSL_WORKER_RANK", "KMP_AFFINITY", "GOMP_CPU_AFFINITY"} & shared.keys()
    assert look({"OMP_NUM_THREADS": "7"}).shared_environ.get("OMP_NUM_THREADS") is None


def test_what_the_user_has_set_stays() -> None:
    environ = look({"OMP_NUM_THREADS": "7"}, affinity="block").places[0].environ
    assert "OMP_NUM_THREADS" not in environ
    assert "GOMP_CPU_AFFINITY" in environ
    assert "OMP_NUM_THREADS" not in look(environ={"OMP_NUM_THREADS": "7"}).places[0].environ


def test_pbs_sets_threads_for_one_process_per_job() -> None:
    pbs = {"PBS_JOBID": "1", "NCPUS": "8", "OMP_NUM_THREADS": "8"}
    assert look(pbs).places[0].environ["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in look(pbs | {"OMP_NUM_THREADS": "2"}).places[0].environ


# --- accelerators -----------------------------------------------------------------------------


def seen(wanted: list[str], environ: dict[str, str], devices: Devices | None = None) -> list[Any]:
    found = device_variables(wanted, environ, devices or Devices())
    return [one["CUDA_VISIBLE_DEVICES"] for one in found]


@pytest.mark.parametrize(
    ("wanted", "environ", "expected"),
    [
        (["0", "1"], {}, ["0", "1"]),
        (["0", "1"], {"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "3"]),
        (["0,1", "2,3"], {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}, ["4,5", "6,7"]),
        (["0", "1"], {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, ["GPU-a", "GPU-b"]),
        (["0", "1"], {"SLURM_JOB_GPUS": "2,3"}, ["2", "3"]),
        (["0", "1"], {"SLURM_JOB_GPUS": "2,3", "CUDA_VISIBLE_DEVICES": "0,1"}, ["0", "1"]),
        (["0", "1"], {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ["0", "1"]),
        (["0", "1", "2"], {"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "3"]),
        (["0", "1", "2", "3"], {"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "2", "3", "3"]),
        (["MIG-1", "GPU-2"], {"CUDA_VISIBLE_DEVICES": "2,3"}, ["MIG-1", "GPU-2"]),
    ],
)
def test_devices_are_a_subset_of_the_jobs(
    wanted: list[str], environ: dict[str, str], expected: list[str]
) -> None:
    assert seen(wanted, environ) == expected


def test_all_libraries_are_told() -> None:
    (one,) = device_variables(["1"], {"CUDA_VISIBLE_DEVICES": "2,3"}, Devices())
    assert one["ROCR_VISIBLE_DEVICES"] == one["ZE_AFFINITY_MASK"] == "3"


def test_several_workers_share_a_device_as_in_htex() -> None:
    assert seen(["0", "1", "2", "3"], {}, Devices(nvidia=2)) == ["0", "0", "1", "1"]
    assert seen(["0", "1", "2"], {}, Devices(nvidia=2)) == ["0", "1", "2"]


def test_amd_counts_twice() -> None:
    environ = {"ROCR_VISIBLE_DEVICES": "4,5,6,7"}
    _, one = device_variables(["0,1", "2,3"], environ, Devices(amd=True))
    assert one["ROCR_VISIBLE_DEVICES"] == "6,7"
    assert one["HIP_VISIBLE_DEVICES"] == one["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize(
    ("mask", "expected"),
    [("2,3", ["2.0", "3.1"]), ("0.0,1.1", ["0.0", "1.1"]), ("0.0,0.1", ["0.0"]), ("", None)],
)
def test_tiles(mask: str, expected: list[str] | None) -> None:
    found = device_variables(["0.0", "1.1"], {"ZE_AFFINITY_MASK": mask}, Devices())
    assert [one["ZE_AFFINITY_MASK"] for one in found] == (expected or ["0.0", "1.1"])


def test_a_job_without_the_devices() -> None:
    node = look({"CUDA_VISIBLE_DEVICES": "2"}, accelerators=["0", "1", "2,3"])
    assert node.slots == 1
    assert "names 3" in node.notes[0]
    with pytest.raises(Unfit, match="was given 0 of them"):
        look({"CUDA_VISIBLE_DEVICES": "2"}, accelerators=["1", "3"])


# --- variables, and the end -----------------------------------------------------------------


def test_what_workers_are_told_of_themselves() -> None:
    node = look({"FXHPC_BLOCK": "7", "SLURM_JOB_ID": "123"}, max_workers=2)
    assert (node.block, node.job) == ("7", "123")
    environ = node.places[1].environ
    assert environ["PARSL_WORKER_RANK"] == "1"
    assert environ["PARSL_WORKER_COUNT"] == "2"
    assert environ["PARSL_WORKER_POOL_ID"] == "m"
    assert environ["PARSL_WORKER_BLOCK_ID"] == environ["FXHPC_BLOCK"] == "7"


def test_a_clients_own_workers_find_the_clients_environment() -> None:
    node = look({"FXHPC_BLOCK": "7"}, workers=2, watch_pid=os.getpid(), walltime_s=60.0)
    assert (node.block, node.ends) == ("", 0.0)
    assert [place.environ for place in node.places] == [{}, {}]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0.0, 0.0)),  # no block: the endpoint's walltime is not this job's
        ({"FXHPC_BLOCK": "1"}, (600.0, NOW + 600)),
        ({"FXHPC_BLOCK": "1", "FXHPC_BLOCK_STARTED": str(NOW - 100)}, (600.0, NOW + 500)),
        ({"FXHPC_BLOCK": "1", "SLURM_JOB_END_TIME": str(NOW + 50)}, (600.0, NOW + 50)),
        ({"SLURM_JOB_END_TIME": str(NOW + 50)}, (0.0, NOW + 50)),
        (
            {"SLURM_JOB_START_TIME": str(NOW - 50), "SLURM_JOB_END_TIME": str(NOW + 50)},
            (100.0, NOW + 50),
        ),
        ({"FXHPC_BLOCK": "1", "FXHPC_BLOCK_STARTED": "soon"}, (600.0, NOW + 600)),
    ],
)
def test_when_the_job_ends(environ: dict[str, str], expected: tuple[float, float]) -> None:
    node = look(environ, walltime_s=600.0)
    assert (node.walltime_s, node.ends) == expected


# --- containers of functions --------------------------------------------------------------------


def test_containers_of_functions_are_those_whose_commands_are_there(tmp_path: Path) -> None:
    for name in ("podman", "apptainer", "shifter"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "docker").touch()  # nobody can run it
    environ = {"PATH": str(tmp_path)}
    assert look(environ).size.containers == ("apptainer *", "podman *")
    images = ("mine/*", "yours/a:1")
    assert look(environ, container_images=images).size.containers == (
        *("apptainer mine/*", "apptainer yours/a:1"),
        *("podman mine/*", "podman yours/a:1"),
    )
    assert look(environ, container_images=()).size.containers == ()
    assert look({"PATH": "/nowhere"}).size.containers == ()
