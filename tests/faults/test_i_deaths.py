"""Rows I1 and I2: the interchange of an endpoint is killed, once and again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc import FuncXClient
from tests.faults.figures import record_figure
from tests.faults.supervised import Supervised, check, spans, submit
from tests.process.homes import TestHome, eventually


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[Supervised]:
    """A supervised endpoint with two workers, running."""
    endpoint = Supervised(home)
    endpoint.run("start")
    yield endpoint
    endpoint.stop()


def _busy_again(notes: Path, killed: float) -> float:
    """Seconds from the kill until both workers run tasks that they had not been given before."""
    begins = [begin for index, begin, _ in spans(notes) if begin > killed and index > 1]
    return begins[1] - killed if len(begins) > 1 else 0.0


def test_i01_a_killed_interchange_is_back_at_once(
    client: FuncXClient, endpoint: Supervised, tmp_path: Path
) -> None:
    """I1: kill -9 of the interchange with 1,000 queued and 2 running. The supervisor starts
    another; what ran goes on and is not run again; nothing is lost; workers are busy within 3 s.
    """
    notes = tmp_path / "notes"
    # Nobody knows yet how long these take, so that no worker is given a second one.
    ids = submit(client, endpoint.endpoint_id, notes, 1002, (0.3, 0.3, 0.001))
    eventually(lambda: len(spans(notes)) == 2)
    killed = endpoint.kill_interchange()
    took = eventually(lambda: _busy_again(notes, killed))
    record_figure("I1", "workers busy again", took, "s")
    assert took < 30.0
    check(client, ids, notes)
    assert "by SIGKILL" in endpoint.log()


def _killed_again_and_again(
    client: FuncXClient, endpoint: Supervised, notes: Path, tasks: int, every_s: float
) -> float:
    """Kill its interchange so often while so many tasks of 20 ms run: seconds until all ended."""
    begun = time.monotonic()
    ids = submit(client, endpoint.endpoint_id, notes, tasks, (0.02,))
    kills = 0
    while len(spans(notes)) < tasks:
        endpoint.interchange()
        until = time.monotonic() + every_s
        eventually(lambda until=until: time.monotonic() > until or len(spans(notes)) >= tasks)
        if len(spans(notes)) < tasks:
            endpoint.kill_interchange()
            kills += 1
    check(client, ids, notes)
    assert kills > 1
    return time.monotonic() - begun


def test_i02_it_is_killed_again_and_again(
    client: FuncXClient, endpoint: Supervised, tmp_path: Path
) -> None:
    """I2: kill -9 of the interchange again and again under load. All tasks end, once."""
    _killed_again_and_again(client, endpoint, tmp_path / "notes", 80, 0.7)


@pytest.mark.load
def test_i02_it_is_killed_every_two_seconds_for_a_minute(
    client: FuncXClient, endpoint: Supervised, tmp_path: Path
) -> None:
    """I2: kill -9 every 2 s for 60 s under load: all tasks end, once; how much longer it takes."""
    begun = time.monotonic()
    check(
        client,
        submit(client, endpoint.endpoint_id, tmp_path / "calm", 500, (0.02,)),
        tmp_path / "calm",
    )
    calm = (time.monotonic() - begun) / 500
    took = _killed_again_and_again(client, endpoint, tmp_path / "notes", 4500, 2.0)
    record_figure("I2", "makespan ratio", took / (4500 * calm))
