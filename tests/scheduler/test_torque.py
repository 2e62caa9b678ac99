"""TorqueProvider, by the wrappers of Slurm's that answer as Torque's commands do."""

from __future__ import annotations

from pathlib import Path

from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import all_tell, note, results, runs, submit

from fxhpc import FuncXClient


def _torque(**provider: object) -> str:
    return configuration(type="TorqueProvider", **provider).replace("partition:", "queue:")


def test_torque_gives_nodes_and_takes_them_back(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    endpoint = login.endpoint("midway", _torque(init_blocks=2, max_blocks=2))
    endpoint.start()
    soon(lambda: endpoint.status().get("managers") == 2)
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 0.05) for index in range(100)))
    assert [one["index"] for one in results(client, ids)] == list(range(100))
    assert len(slurm.calls("qsub")) == 2
    # One is cancelled from outside, and everything on the login node is killed: adopted or
    # replaced, but never more than two.
    slurm.cancel(slurm.job_ids()[0])
    login.kill("fxhpc: supervisor", "fxhpc: interchange", "fxhpc: provisioner", "fxhpc: forwarder")
    endpoint.start()
    ids = submit(
        client, endpoint, note, *((str(tmp_path), index, 0.05) for index in range(100, 150))
    )
    assert [one["index"] for one in results(client, ids)] == list(range(100, 150))
    assert len(runs(tmp_path)) == 150
    assert len(slurm.jobs()) <= 2
    endpoint.stop()
    soon(lambda: not slurm.jobs(), within=15)


def test_a_wrong_queue_and_a_failing_worker_init_are_told(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    wrong = login.endpoint("wrong", _torque().replace("queue: normal", "queue: nosuch"))
    failing = login.endpoint("failing", _torque(worker_init="echo no such module >&2; exit 1"))
    wrong.start()
    failing.start()
    (first,) = submit(client, wrong, abs, (-1,))
    (second,) = submit(client, failing, abs, (-1,))
    all_tell(client, wrong, first, "qsub", "nosuch")
    all_tell(client, failing, second, "ended before its manager registered", "no such module")
