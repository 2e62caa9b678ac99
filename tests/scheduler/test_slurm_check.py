"""`fxhpc endpoint check --on-node`: one short job that looks at a real node."""

from __future__ import annotations

from login_node import LoginNode, configuration
from slurm_cluster import SlurmCluster


def test_a_check_looks_at_a_node_and_leaves_nothing(login: LoginNode, slurm: SlurmCluster) -> None:
    login.endpoint("midway", configuration())
    told = login.fxhpc("endpoint", "check", "midway", "--on-node")
    assert "#SBATCH --nodes=1" in told
    assert "launch.sh" not in told  # the script is long: what was found is to be seen
    assert "node1: Python" in told
    assert "node1: addresses" in told
    assert f"{slurm.host_ip}:" in told
    assert "Slurm would take it" in told
    assert "node1: workers" in told
    submitted = [call for call in slurm.calls() if "--test-only" not in call.arguments]
    assert len(submitted) == 1
    login.check_nothing_left()


def test_a_check_tells_what_a_node_lacks(login: LoginNode, slurm: SlurmCluster) -> None:
    login.endpoint("midway", configuration(worker_init="echo 'no module conda' >&2; exit 3"))
    told = login.fxhpc("endpoint", "check", "midway", "--on-node", code=1)
    assert "no module conda" in told
    login.endpoint("wrong", configuration(partition="nosuch"))
    told = login.fxhpc("endpoint", "check", "wrong", "--on-node", code=1)
    assert "invalid partition specified: nosuch" in told
    login.check_nothing_left()


def test_a_check_that_submits_nothing_tells_what_slurm_would_refuse(login: LoginNode) -> None:
    login.endpoint("midway", configuration(partition="nosuch"))
    told = login.fxhpc("endpoint", "check", "midway", code=1)
    assert "Slurm would refuse it: sbatch: error: invalid partition specified: nosuch" in told
    login.endpoint("long", configuration(partition="debug", walltime="30 min"))
    told = login.fxhpc("endpoint", "check", "long", code=1)
    assert "30 min 0 s is longer than the partition allows (debug: 2 min 0 s)" in told
    login.check_nothing_left()
