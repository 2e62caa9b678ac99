"""A block's walltime ends under work: what was cut off runs again, but not for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing, note, runs

from fxhpc import FuncXClient, errors


def test_m08_a_walltime_ends_under_work(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    # One minute is the least that Slurm knows. It ends a job 60 to 90 s after its start.
    endpoint = login.endpoint("midway", configuration(walltime="00:01:00"))
    endpoint.start()
    with executing(client, endpoint) as executor:
        endless = executor.submit(note, str(tmp_path), 1000, 600.0)
        soon(lambda: runs(tmp_path, 1000))
        first = slurm.job_ids("RUNNING")
        # On the other worker: enough short ones to be cut off while one of them runs.
        short = [executor.submit(note, str(tmp_path), index, 5.0) for index in range(18)]
        soon(lambda: time.time() > login.started + 20)
        # Declared to last longer than what is left of the first block.
        executor.resource_specification = {"walltime": "50s"}
        declared = executor.submit(note, str(tmp_path), 2000, 0.0)

        # It had the whole of a block: no other block of this walltime suffices either.
        with pytest.raises(errors.WalltimeReached, match="walltime") as caught:
            endless.result(120)
        assert "midway" in str(caught.value) or "block" in str(caught.value)
        told = [future.result(120) for future in short]
        assert [one["index"] for one in told] == list(range(18))
        assert len({one["job"] for one in told}) == 2
        assert declared.result(60)["job"] not in first
    assert slurm.ends()[first[0]] in ("TIMEOUT", "CANCELLED", "COMPLETED")
    # What had ended was not run again; what was cut off was, once.
    assert len(runs(tmp_path, what="ended")) == 19
    assert len(runs(tmp_path)) <= 19 + 1 + 1
    assert len(slurm.calls()) == 2


def test_a_task_that_is_declared_longer_than_any_block_is_refused(
    login: LoginNode, client: FuncXClient
) -> None:
    endpoint = login.endpoint("midway", configuration(walltime="00:02:00"))
    endpoint.start()
    # How long its blocks last the endpoint tells the home's forwarder when they have met.
    soon(lambda: client.get_endpoint_status(endpoint.id)["status"] == "online")
    specification = {"walltime": "1h"}
    with (
        executing(client, endpoint, resource_specification=specification) as executor,
        pytest.raises(errors.WalltimeTooLong, match=r"(?s)midway.*walltime"),
    ):
        executor.submit(abs, -1).result(30)
    assert not login.cluster.calls(), "a block was asked for"
