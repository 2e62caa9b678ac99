"""A task that starts a step of its own, by srun, within a block."""

from __future__ import annotations

import pytest
from login_node import LoginNode, configuration
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing

from fxhpc import FuncXClient


def hosts_by_srun(count: int) -> tuple[int, list[str], str]:
    """srun hostname: its exit code, what it printed, its messages."""
    import subprocess

    done = subprocess.run(
        ["srun", "-n", str(count), "hostname"], capture_output=True, text=True, timeout=30
    )
    return done.returncode, sorted(done.stdout.split()), done.stderr


@pytest.mark.parametrize("launcher", ["SrunLauncher", "SingleNodeLauncher"])
def test_a_task_may_run_srun(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, launcher: str
) -> None:
    nodes = 2 if launcher == "SrunLauncher" else 1
    endpoint = login.endpoint(
        "midway", configuration(nodes_per_block=nodes, launcher={"type": launcher})
    )
    endpoint.start()
    with executing(client, endpoint) as executor:
        # All workers at once: no step waits for another's end.
        futures = [executor.submit(hosts_by_srun, 2) for _ in range(2 * nodes)]
        for future in futures:
            code, hosts, messages = future.result(60)
            assert (code, messages) == (0, "")
            assert len(hosts) == 2
            assert len(set(hosts)) == nodes
