"""A manager where no worker starts, beside one where they do; and blocks where none ever does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fxhpc import Executor, FuncXClient
from fxhpc.testing.endpoint import RunningEndpoint
from tests.process.homes import TestHome
from tests.waiting import eventually


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint of which nothing runs yet."""
    endpoint = RunningEndpoint(home.path, "midway", managers=0)
    yield endpoint
    endpoint.stop()


def test_w14_m02_where_no_worker_starts_nothing_runs_as_long_as_others_can_run_it(
    client: FuncXClient, endpoint: RunningEndpoint
) -> None:
    """W14 on one node of several: its manager is set aside with the reason, and its tasks run
    elsewhere, uncharged.
    """
    endpoint.start_interchange()
    endpoint.start_manager()
    # Its workers die as they start: their directory cannot be.
    endpoint.start_manager(workers=4, manager="broken", cwd="/dev/null/no-directory")
    eventually(lambda: client.get_endpoint_status(endpoint.endpoint_id)["logs"][0]["managers"] == 2)
    with Executor(client=client, endpoint_id=endpoint.endpoint_id, retries=0) as executor:
        # Long enough that they do not all fit in the look-ahead of the one that works.
        futures = [executor.submit(time.sleep, 0.1) for _ in range(12)]
        assert [future.result(60) for future in futures] == [None] * 12
        eventually(lambda: endpoint.managers[1].poll() is not None, within=15)
        assert executor.submit(abs, -7).result(60) == 7
    log = endpoint.directory.log.read_text()
    assert "manager broken" in log
    assert "is set aside, and gets no more work: its workers" in log
    assert "/dev/null/no-directory" in log
