"""Wall clocks that are set a day forward or back while tasks run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc import FuncXClient
from fxhpc.testing.endpoint import RunningEndpoint
from tests.faults.clocks import DAY_S, SteppedClock
from tests.process.homes import TestHome
from tests.waiting import eventually


def hold(path: str, name: str, gate: str) -> float:
    """What the tests run: leaves a line when it begins, waits for a file, tells the time."""
    import os
    import time

    with open(path, "a") as file:
        file.write(f"{name}\n")
    while gate and not os.path.exists(gate):
        time.sleep(0.01)
    return time.time()


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SteppedClock:
    """The clock of the forwarder, the interchange, the manager and its workers; not the test's."""
    return SteppedClock(tmp_path / "clock", monkeypatch)


@pytest.fixture
def endpoint(clock: SteppedClock, home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint with one manager; asks for the clock first."""
    endpoint = RunningEndpoint(home.path, "clockwork", workers=2)
    yield endpoint
    endpoint.stop()


def test_i08_a_clock_that_is_a_day_off_expires_nothing(
    clock: SteppedClock, endpoint: RunningEndpoint, client: FuncXClient, tmp_path: Path
) -> None:
    """The clock is set a day forward, then a day back: no manager counts as lost, no task runs
    again, and submissions and results go through a durable store all the while."""
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    function = client.register_function(hold)

    def run(name: str, gate: str = "") -> str:
        return client.run(
            str(notes), name, gate, endpoint_id=endpoint.endpoint_id, function_id=function
        )

    with endpoint:
        held = run("held", str(gate))
        eventually(lambda: notes.exists() and "held" in notes.read_text())
        names = []
        for step in (DAY_S, -DAY_S):
            clock.step(step)
            # Whoever takes the step for silence does so at the next tick, half a second later.
            until = time.monotonic() + 1.2
            while time.monotonic() < until:
                names.append(f"{step:g}-{len(names)}")
                found = client.get_result(run(names[-1]), timeout=30)
                assert abs(found - time.time() - step) < 60
        assert client.get_task(held)["status"] == "running"
        gate.touch()
        client.get_result(held, timeout=30)
        assert notes.read_text().splitlines() == ["held", *names]
        assert "is gone" not in endpoint.directory.log.read_text()
        submitted = [task["submitted"] for task in client.tasks(limit=1000)]
        assert len(submitted) == 1 + len(names)
        assert all(abs(time.time() - at) < 60 for at in submitted)  # by the client's clock
    yesterday = time.strftime("%Y-%m-%d", time.localtime(time.time() - DAY_S))
    assert yesterday in endpoint.directory.log.read_text()  # its clock was stepped indeed
