"""slurmctld away at bad moments: when an endpoint stops, and when it starts."""

from __future__ import annotations

from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing

from fxhpc import FuncXClient


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
