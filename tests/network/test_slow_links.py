"""Links that are slow: what is large takes its time, and nobody counts as lost meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fxhpc import FuncXClient
from tests.faults.figures import record_figure
from tests.network.scattered_endpoint import Notes, ScatteredEndpoint


def echo(path: str, data: bytes) -> bytes:
    """Each run leaves a line."""
    with open(path, "a") as file:
        file.write("began echo 0 0\n")
    return data


def _check(
    client: FuncXClient, endpoint: ScatteredEndpoint, notes: Notes, size: int, rate: str
) -> float:
    """Send so many bytes there and back; how long it took. Nobody is lost, nothing runs twice."""
    for node in range(len(endpoint.network.nodes)):
        endpoint.network.slow(node, rate)
        endpoint.network.slow_towards(node, rate)
    data = os.urandom(size)
    function = client.register_function(echo)
    at = time.monotonic()
    task = client.run(str(notes.path), data, endpoint_id=endpoint.endpoint_id, function_id=function)
    assert client.get_result(task, timeout=250) == data
    took = time.monotonic() - at
    assert notes.begun() == {"echo": 1}
    assert "is gone" not in endpoint.log()
    logs = [path.read_text() for path in endpoint.directory.path.glob("manager-*.log")]
    assert not any("is lost" in text for text in logs)
    return took


def test_m03_what_is_large_on_a_slow_link_is_no_silence(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path
) -> None:
    """An argument, and a result, take longer than a silent peer would be waited for.

    Heartbeats are behind them, but whatever arrives of them shows either side that the other lives.
    """
    endpoint.start(heartbeat_s=0.5)
    endpoint.await_managers(client, 2)
    took = _check(client, endpoint, Notes(tmp_path / "notes"), 1_200_000, "4mbit")
    record_figure("M3", "1.2 MB each way at 4 Mbit/s, heartbeats of 0.5 s", took, "s")


@pytest.mark.load
def test_m03_what_is_large_on_a_slow_link_with_heartbeats_as_they_come(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path
) -> None:
    """4 MB each way at 1 Mbit/s: more than half a minute in which no heartbeat gets through."""
    endpoint.start(heartbeat_s=5.0)
    endpoint.await_managers(client, 2)
    took = _check(client, endpoint, Notes(tmp_path / "notes"), 4_000_000, "1mbit")
    record_figure("M3", "4 MB each way at 1 Mbit/s, heartbeats of 5 s", took, "s")
