"""The scheduler away, a node lost, a node cut off, everything on the login node killed."""

from __future__ import annotations

import time
from pathlib import Path

from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing, note, results, runs, submit

from fxhpc import FuncXClient


def test_m10_work_goes_on_while_the_scheduler_is_away(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    endpoint = login.endpoint("midway", configuration(max_blocks=2))
    endpoint.start()
    with executing(client, endpoint) as executor:
        assert executor.submit(abs, -1).result(60) == 1
        jobs = slurm.job_ids()
        slurm.stop("controller")
        away = time.monotonic()
        # More than one block's worth, so that a second block is wanted and cannot be had.
        futures = [executor.submit(note, str(tmp_path), index, 10.0) for index in range(12)]
        soon(lambda: endpoint.status()["report"]["scheduler_trouble"], within=45)
        assert executor.submit(abs, -2).cancel()
        soon(lambda: time.monotonic() - away > 60, within=70)
        slurm.boot("controller")
        soon(slurm.answers)
        assert [future.result(120)["index"] for future in futures] == list(range(12))
    assert len(runs(tmp_path)) == 12, "a task ran twice"
    assert jobs[0] in {future.result()["job"] for future in futures}
    assert jobs[0] in slurm.job_ids(), "the block was given up"
    assert len(slurm.job_ids()) <= 2


def test_a_node_that_loses_power_loses_no_task(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    endpoint = login.endpoint("midway", configuration(init_blocks=2, max_blocks=2))
    endpoint.start()
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 4.0) for index in range(4)))
    soon(lambda: len(runs(tmp_path)) == 4)
    victim = slurm.jobs()[0]
    slurm.kill(victim.nodes)
    told = results(client, ids, within=120)
    assert victim.nodes not in {one["host"] for one in told}
    assert [one["index"] for one in told] == [0, 1, 2, 3]


def test_a_node_that_is_cut_off_runs_nothing_twice_for_good(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    endpoint = login.endpoint("midway", configuration(init_blocks=2, max_blocks=2))
    endpoint.start()
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 3.0) for index in range(4)))
    soon(lambda: len(runs(tmp_path)) == 4)
    victim = slurm.jobs()[0]
    slurm.cut(victim.nodes)
    told = results(client, ids, within=120)
    assert [one["index"] for one in told] == [0, 1, 2, 3]
    slurm.restore(victim.nodes)
    # What the node that was away has kept of earlier disturbs nobody.
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 0.0) for index in range(4, 24)))
    assert [one["index"] for one in results(client, ids)] == list(range(4, 24))
    assert len(slurm.job_ids()) <= 2


def test_a_start_after_everything_was_killed_finds_its_jobs_again(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    # Two blocks of two nodes do not fit on the cluster beside a stranger's: the second one waits.
    stranger = slurm.occupy("node1")
    endpoint = login.endpoint(
        "midway",
        configuration(
            nodes_per_block=2, init_blocks=2, max_blocks=2, launcher={"type": "SrunLauncher"}
        ),
    )
    endpoint.start()
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 8.0) for index in range(8)))
    soon(lambda: len(runs(tmp_path)) == 4)
    soon(lambda: len(slurm.job_ids("PENDING")) == 1)
    before = [job for job in slurm.job_ids() if job != stranger]
    assert len(before) == 2

    login.kill("fxhpc: supervisor", "fxhpc: interchange", "fxhpc: provisioner", "fxhpc: forwarder")
    endpoint.start()
    soon(lambda: endpoint.status().get("managers") == 2)
    assert [job for job in slurm.job_ids() if job != stranger] == before
    slurm.cancel(stranger)
    told = results(client, ids, within=120)
    assert [one["index"] for one in told] == list(range(8))
    assert {one["job"] for one in told} <= set(before)
    assert len(runs(tmp_path)) == 8, "what ran when all was killed has run again"
    assert len(slurm.calls()) == 2


def test_a_restart_lets_tasks_and_jobs_go_on(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    endpoint = login.endpoint("midway", configuration())
    endpoint.start()
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 4.0) for index in range(4)))
    soon(lambda: len(runs(tmp_path)) == 2)
    before = slurm.job_ids()
    endpoint.restart()
    assert [one["index"] for one in results(client, ids)] == [0, 1, 2, 3]
    assert slurm.job_ids() == before
    assert len(runs(tmp_path)) == 4, "a task ran twice"


def test_a_job_whose_answer_nobody_heard_is_found_by_its_name(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    endpoint = login.endpoint("midway", configuration())
    slurm.answer_late(True)
    endpoint.start()
    ids = submit(client, endpoint, abs, (-1,), (-2,))
    soon(lambda: slurm.jobs())
    login.kill("fxhpc: supervisor", "fxhpc: interchange", "fxhpc: provisioner")
    slurm.answer_late(False)
    endpoint.start()
    assert results(client, ids) == [1, 2]
    assert len(slurm.calls()) == 1
    assert len(slurm.jobs()) == 1
