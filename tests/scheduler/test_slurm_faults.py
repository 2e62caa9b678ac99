"""slurmctld away when an endpoint stops or starts; what is said of managers that are lost."""

from __future__ import annotations

from pathlib import Path

from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing, note, runs

from fxhpc import FuncXClient, errors


def test_a_stop_while_slurmctld_is_away_says_what_it_could_not_do(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    # One block runs and ends by itself; the other waits, and only Slurm can take it away.
    endpoint = login.endpoint(
        "midway",
        configuration(
            nodes_per_block=3, init_blocks=2, max_blocks=2, launcher={"type": "SrunLauncher"}
        ),
    )
    endpoint.start()
    soon(lambda: endpoint.status().get("managers") == 3)
    soon(lambda: slurm.job_ids("PENDING"))
    pending = slurm.job_ids("PENDING")
    slurm.stop("controller")
    told = login.fxhpc("endpoint", "stop", "midway", "--now", "--timeout", "8s", code=1)
    assert "jobs may still be there" in told
    slurm.boot("controller")
    soon(slurm.answers)
    assert pending[0] in slurm.job_ids()
    # As it was told: the next stop cancels what is left.
    endpoint.stop()
    soon(lambda: not slurm.jobs(), within=60)
    assert len(slurm.calls()) == 2


def test_a_start_while_slurmctld_is_away_waits_for_it(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    endpoint = login.endpoint("midway", configuration())
    slurm.stop("controller")
    endpoint.start()
    with executing(client, endpoint) as executor:
        future = executor.submit(abs, -1)
        soon(lambda: "sbatch: error" in endpoint.status()["reason"] + "?", within=30)
        slurm.boot("controller")
        assert future.result(120) == 1
    assert len(slurm.jobs()) == 1


def take_manager_down() -> None:
    """End the worker's grandparent, which is its manager, as a node that runs out of memory may."""
    import os
    import signal
    import time

    with open(f"/proc/{os.getppid()}/status") as file:
        manager = next(int(line.split()[1]) for line in file if line.startswith("PPid"))
    os.kill(manager, signal.SIGKILL)
    time.sleep(60)


def test_a_lost_manager_is_told_with_its_host_block_job_and_slurms_state(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    endpoint = login.endpoint("midway", configuration())
    endpoint.start()
    with executing(client, endpoint, retries=0) as executor:
        where = executor.submit(note, str(tmp_path), 0).result(60)
        lost = executor.submit(take_manager_down).exception(60)
        assert isinstance(lost, errors.ManagerLost)
        words = str(lost)
        assert f"on {where['host']}" in words
        assert f"in block {where['block'] or 1}, job {where['job']}" in words
        assert "its connection was closed" in words
        assert "after its last word" in words
        assert "Slurm" in words
        # The next block's node is taken away by an administrator.
        future = executor.submit(note, str(tmp_path), 1, 60.0)
        soon(lambda: runs(tmp_path, 1))
        (job,) = slurm.jobs()
        slurm.slurm("scontrol", "update", f"nodename={job.nodes}", "state=down", "reason=test")
        lost = future.exception(60)
        assert isinstance(lost, errors.TaskLost)
        assert f"job {job.id}" in str(lost)
        assert job.nodes in str(lost)
