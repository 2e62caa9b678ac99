"""Blocks that Slurm refuses, that end before their time, or that somebody cancels."""

from __future__ import annotations

from pathlib import Path

import pytest
from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import all_tell, note, results, runs, submit

from fxhpc import FuncXClient


def test_a_wrong_partition_is_told_everywhere(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    endpoint = login.endpoint("midway", configuration(partition="nosuch"))
    endpoint.start()
    (task,) = submit(client, endpoint, abs, (-1,))
    all_tell(client, endpoint, task, "sbatch", "invalid partition specified: nosuch")
    assert client.get_task(task)["status"] == "waiting-for-nodes"
    assert len(slurm.calls()) <= 3
    soon(lambda: "nosuch" in login.fxhpc("endpoint", "status", "midway"), within=30)


def test_a_wrong_account_is_told_everywhere_and_can_be_mended(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    endpoint = login.endpoint("midway", configuration(account="wrong-account"))
    endpoint.start()
    (task,) = submit(client, endpoint, abs, (-1,))
    all_tell(client, endpoint, task, "sbatch", "Invalid account")
    endpoint.config.write_text(configuration(account="right"))
    endpoint.restart()
    assert results(client, [task]) == [1]


def test_a_block_that_waits_for_nodes_is_told_everywhere(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    stranger = slurm.occupy("node1")
    endpoint = login.endpoint(
        "midway", configuration(nodes_per_block=4, launcher={"type": "SrunLauncher"})
    )
    endpoint.start()
    (task,) = submit(client, endpoint, abs, (-1,))
    soon(lambda: slurm.job_ids("PENDING"))
    (pending,) = slurm.job_ids("PENDING")
    all_tell(client, endpoint, task, f"Slurm job {pending} PENDING (Resources)")
    assert client.get_task(task)["status"] == "waiting-for-nodes"
    slurm.cancel(stranger)
    assert results(client, [task]) == [1]


def test_m09_a_worker_init_that_fails_costs_three_submissions(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    endpoint = login.endpoint(
        "midway",
        configuration(worker_init="echo 'module: no such module: conda/1999' >&2; exit 1"),
    )
    endpoint.start()
    (task,) = submit(client, endpoint, abs, (-1,))
    words = ("ended before its manager registered", "no such module: conda/1999")
    all_tell(client, endpoint, task, *words)
    all_tell(client, endpoint, task, "paused", "no such module: conda/1999", within=90)
    assert len(slurm.calls()) == 3
    assert not slurm.jobs()


@pytest.mark.parametrize("launcher", ["SrunLauncher", "SingleNodeLauncher"])
def test_a_block_cancelled_by_somebody_is_replaced_and_charges_nobody(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path, launcher: str
) -> None:
    endpoint = login.endpoint("midway", configuration(launcher={"type": launcher}))
    endpoint.start()
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 4.0) for index in range(2)))
    soon(lambda: len(runs(tmp_path)) == 2)
    (job,) = slurm.job_ids("RUNNING")
    slurm.cancel(job)
    told = results(client, ids)
    assert job not in {one["job"] for one in told}
    assert len(runs(tmp_path)) == 4
    assert slurm.ends()[job] == "CANCELLED"
    assert len(slurm.calls()) == 2
