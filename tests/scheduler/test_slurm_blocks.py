"""Work over several blocks of several nodes; blocks come with work, and go without it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing, note, results, runs, submit

from fxhpc import FuncXClient


def test_a_thousand_tasks_over_two_blocks_of_two_nodes(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    endpoint = login.endpoint(
        "midway",
        configuration(
            nodes_per_block=2, init_blocks=2, max_blocks=2, launcher={"type": "SrunLauncher"}
        ),
    )
    endpoint.start()
    soon(lambda: endpoint.status().get("managers") == 4)
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 0.01) for index in range(1000)))
    told = results(client, ids)
    assert [one["index"] for one in told] == list(range(1000))
    assert {one["host"] for one in told} == set(slurm.nodes)
    assert len({one["job"] for one in told}) == 2
    assert len({(one["host"], one["pid"]) for one in told}) == 8
    assert len(runs(tmp_path)) == 1000
    assert len(slurm.calls()) == 2
    endpoint.stop()
    assert set(slurm.ends().values()) <= {"CANCELLED", "COMPLETED"}


def test_blocks_come_with_work_and_go_without(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster
) -> None:
    endpoint = login.endpoint(
        "midway",
        configuration({"strategy": {"type": "SimpleStrategy", "max_idletime": 2}}, max_blocks=3),
    )
    endpoint.start()
    assert not slurm.jobs()
    for turn in (1, 2):
        with executing(client, endpoint) as executor:
            assert executor.submit(pow, turn, 2).result(60) == turn * turn
        assert len(slurm.calls()) == turn, "one task, one block"
        soon(lambda: not slurm.jobs(), within=20)
        soon(lambda: endpoint.status().get("managers") == 0, within=10)
        assert client.get_endpoint_status(endpoint.id)["status"] == "online"
    # A status command every two seconds at most, as configured, whatever happened.
    asked = [call.at for call in slurm.calls("squeue")]
    assert min((b - a for a, b in pairwise(asked)), default=9.0) > 1.8
