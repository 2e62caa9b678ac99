"""slurmctld away at bad moments: when an endpoint stops, and when it starts."""

from __future__ import annotations

import time

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
    running, pending = slurm.job_ids("RUNNING"), slurm.job_ids("PENDING")
    slurm.stop("controller")
    began = time.monotonic()
    told = login.fxhpc("endpoint", "stop", "midway", code=1, within=180)
    assert time.monotonic() - began < 170
    assert pending[0] in told, told
    assert "scancel" in told or "fxhpc endpoint stop" in told, told
    slurm.boot("controller")
    soon(slurm.answers)
    # The next start finds what is left, and the next stop cancels it.
    endpoint.start()
    soon(lambda: [job for job in slurm.job_ids() if job not in running] == pending, within=20)
    endpoint.stop()
    soon(lambda: not slurm.jobs(), within=20)
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
