"""Tasks that kill their worker, and tasks that take their node down, among very many good ones."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fxhpc import Executor, FuncXClient, errors
from fxhpc.testing.endpoint import RunningEndpoint
from tests.faults.figures import record_figure
from tests.process.homes import TestHome

GOOD = 1_000


def double(value: int) -> int:
    return 2 * value


def kill_worker() -> None:
    """What no task should do."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def kill_node() -> None:
    """Nor this: the worker's grandparent is its manager."""
    import os
    import signal
    import time

    with open(f"/proc/{os.getppid()}/status") as file:
        manager = next(int(line.split()[1]) for line in file if line.startswith("PPid"))
    os.kill(manager, signal.SIGKILL)
    time.sleep(60)


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint that gets its managers in blocks, one after the other."""
    endpoint = RunningEndpoint(home.path, "midway", managers=0, workers=2)
    endpoint.start_interchange(endpoint.blocks_spec(max_blocks=1))
    yield endpoint
    endpoint.stop()


@pytest.mark.load
def test_m02_poison_ends_after_its_limit_and_a_thousand_beside_it_succeed(
    client: FuncXClient, endpoint: RunningEndpoint
) -> None:
    """Both end, with each attempt's story; nobody beside them is charged, and scaling goes on."""
    at = time.monotonic()
    with Executor(client=client, endpoint_id=endpoint.endpoint_id) as executor:
        good = [executor.submit(double, index) for index in range(GOOD // 2)]
        poison = [executor.submit(kill_worker), executor.submit(kill_node)]
        good += [executor.submit(double, index) for index in range(GOOD // 2, GOOD)]
        assert [future.result(240) for future in good] == [2 * index for index in range(GOOD)]
        worker, node = (future.exception(240) for future in poison)
    record_figure(
        "M2", "1,000 tasks beside a node killer and a worker killer", time.monotonic() - at, "s"
    )
    assert isinstance(worker, errors.WorkerDied)
    assert str(worker).count("SIGKILL") >= 3, "the story of each attempt"
    assert isinstance(node, errors.ManagerLost)
    assert str(node).count("in block") >= 3, "the story of each attempt"
    assert "lost 4 times, of which 3 count against its retries=2" in str(node)
    assert "it ran alone" in str(node)
    status = endpoint.directory.log.read_text()
    record_figure("M2", "blocks that the node killer cost", status.count("is asked for, as"))
    assert "scaling is paused" not in status
    assert "lost for good" in status
