"""What tasks leave behind, and what does not want to end, ends with its block."""

from __future__ import annotations

from pathlib import Path

import pytest
from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import submit

from fxhpc import FuncXClient


def stubborn(path: str) -> None:
    """Leaves a child in a session of its own, and takes no notice of SIGTERM."""
    import signal
    import subprocess
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    subprocess.Popen(["srun", "-n", "1", "sleep", "1000"])
    open(path, "w").close()
    while True:
        time.sleep(1)


@pytest.mark.parametrize("how", ["scancel", "stop"])
def test_stubborn_tasks_end_with_their_block(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path, how: str
) -> None:
    endpoint = login.endpoint("midway", configuration())
    endpoint.start()
    begun = tmp_path / "begun"
    (task,) = submit(client, endpoint, stubborn, (str(begun),))
    soon(begun.exists)
    (job,) = slurm.job_ids()
    if how == "scancel":
        client.cancel(task)
        slurm.cancel(job)
        soon(lambda: job not in slurm.job_ids(), within=30)
    endpoint.stop("--now")
    soon(lambda: not slurm.jobs() and not slurm.processes(), within=20)
