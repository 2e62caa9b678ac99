"""Links that come and go."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fxhpc import FuncXClient
from tests.faults.figures import record_figure
from tests.network.scattered_endpoint import Notes, ScatteredEndpoint, note


def _flap(endpoint: ScatteredEndpoint, seconds: float, down: float, up: float) -> None:
    """Both nodes' links go down and up again, not at the same time."""
    until = time.monotonic() + seconds
    stop = threading.Event()

    def flap(node: int) -> None:
        stop.wait(node * down)
        while time.monotonic() < until:
            endpoint.network.cut(node)
            stop.wait(down)
            endpoint.network.mend(node)
            stop.wait(up)

    threads = [threading.Thread(target=flap, args=(node,)) for node in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _check(
    client: FuncXClient,
    endpoint: ScatteredEndpoint,
    notes: Notes,
    *,
    count: int,
    seconds: float,
    down: float,
    up: float,
) -> None:
    function = client.register_function(note)
    batch = client.create_batch()
    for index in range(count):
        batch.add(
            str(notes.path),
            str(index),
            2 * seconds / count,
            endpoint_id=endpoint.endpoint_id,
            function_id=function,
        )
    ids = client.batch_run(batch)
    assert isinstance(ids, list)
    before = [endpoint.network.connections(node) for node in range(2)]
    _flap(endpoint, seconds, down, up)
    client.wait(ids, timeout=60)
    results = client.get_batch_result(ids)
    assert [results[name].get("result") for name in ids] == [str(n) for n in range(count)]
    begun = notes.begun()
    attempts = sum(begun.values()) / count
    after = [endpoint.network.connections(node) for node in range(2)]
    connects = max(b - a for a, b in zip(before, after, strict=True))
    name = f"{down:g} s down, {up:g} s up, for {seconds:g} s"
    record_figure("M5", f"{name}: attempts per task", attempts)
    record_figure("M5", f"{name}: attempts at one task, at most", max(begun.values()))
    record_figure("M5", f"{name}: connections of one node, at most", connects)
    # What is lost with its manager does not count against it, so each cut may cost one attempt.
    assert max(begun.values()) <= 2 + seconds / (down + up)
    assert connects <= 2 * seconds + 5


def test_m05_a_link_flaps(client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path) -> None:
    """Cuts that are longer than silence is borne: managers are given up, and come back.

    Nothing is lost, no task is tried more often than its node was cut off, and a node that has
    nobody to speak to does not fill the network with attempts.
    """
    endpoint.start(heartbeat_s=0.3)
    endpoint.await_managers(client, 2)
    notes = Notes(tmp_path / "notes")
    _check(client, endpoint, notes, count=40, seconds=4.0, down=1.2, up=0.8)


@pytest.mark.load
@pytest.mark.parametrize("heartbeat_s", [5.0, 0.5])
def test_m05_a_link_flaps_for_a_minute(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path, heartbeat_s: float
) -> None:
    """2 s down, 2 s up: shorter than silence is borne by default, and longer than that."""
    endpoint.start(heartbeat_s=heartbeat_s)
    endpoint.await_managers(client, 2)
    notes = Notes(tmp_path / "notes")
    _check(client, endpoint, notes, count=600, seconds=60.0, down=2.0, up=2.0)
