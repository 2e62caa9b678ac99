"""Rows I1 and I2: the interchange of an endpoint is killed, once and again and again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc import FuncXClient
from fxhpc.endpoint.state import look
from tests.faults.figures import record_figure
from tests.faults.supervised import Supervised, check, spans, submit
from tests.process.homes import TestHome
from tests.waiting import eventually


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[Supervised]:
    """A supervised endpoint with two workers, running."""
    endpoint = Supervised(home)
    endpoint.run("start")
    yield endpoint
    endpoint.stop()


def _busy_again(notes: Path, killed: float, workers: int = 2) -> float:
    """Seconds from the kill until as many tasks have begun as there are workers, of those that were
    not running then.
    """
    begins = [begin for index, begin, _ in spans(notes) if begin > killed and index >= workers]
    return begins[workers - 1] - killed if len(begins) >= workers else 0.0


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
    client: FuncXClient,
    endpoint: Supervised,
    notes: Path,
    tasks: int,
    every_s: float,
    kills: int = 1000,
) -> float:
    """Kill its interchange so often while so many tasks of 20 ms run: seconds until all ended."""
    begun = time.monotonic()
    ids = submit(client, endpoint.endpoint_id, notes, tasks, (0.02,))
    killed = 0
    while len(spans(notes)) < tasks and killed < kills:
        endpoint.interchange()
        until = time.monotonic() + every_s
        eventually(lambda until=until: time.monotonic() > until or len(spans(notes)) >= tasks)
        if len(spans(notes)) < tasks:
            endpoint.kill_interchange()
            killed += 1
    check(client, ids, notes)
    assert killed > 1
    return time.monotonic() - begun


def test_i02_it_is_killed_again_and_again(
    client: FuncXClient, endpoint: Supervised, tmp_path: Path
) -> None:
    """I2: kill -9 of the interchange again and again under load. All tasks end, once."""
    _killed_again_and_again(client, endpoint, tmp_path / "notes", 80, 0.1, kills=3)


def test_i01_what_keeps_it_from_starting_is_told_until_it_is_mended(
    client: FuncXClient, endpoint: Supervised, tmp_path: Path
) -> None:
    """I1: an interchange that dies as it starts, here because its spool is a directory: it is
    tried again, less and less often; status and tasks say why; it goes on when that is mended.
    """
    notes, spool = tmp_path / "notes", endpoint.directory.spool
    spool.rename(tmp_path / "spool")
    spool.mkdir()
    endpoint.kill_interchange()
    eventually(lambda: "spool" in look(endpoint.directory).trouble)
    ids = submit(client, endpoint.endpoint_id, notes, 1, (0.0,))
    eventually(lambda: look(endpoint.directory).restarts > 2)
    assert "Is a directory" in look(endpoint.directory).trouble
    reason = eventually(lambda: client.get_task(ids[0]).get("reason"))
    assert "midway" in str(reason)
    spool.rmdir()
    check(client, ids, notes)


def test_i03_a_pid_that_is_used_again_is_no_proof_of_life(home: TestHome, tmp_path: Path) -> None:
    """I3: both processes were killed, and their pids are others' by now: `start` works."""
    endpoint = Supervised(home)
    endpoint.run("start")
    supervisor = look(endpoint.directory).pid
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    endpoint.kill_interchange()
    eventually(lambda: not look(endpoint.directory).alive)
    for file in (endpoint.directory.supervisor, endpoint.directory.address):
        told = json.loads(file.read_bytes())
        file.write_text(json.dumps(told | {"pid": os.getpid()}))
    assert not look(endpoint.directory).alive
    endpoint.run("start")
    endpoint.stop()


@pytest.mark.load
def test_i01_killed_with_64_busy_workers(
    client: FuncXClient, home: TestHome, tmp_path: Path
) -> None:
    """I1: the same with 64 workers, all of which end their tasks while it is away or coming back,
    and 10,000 tasks behind these: nothing is lost, none runs twice.
    """
    workers, behind = 64, 10_000
    endpoint = Supervised(home, workers=workers)
    endpoint.run("start")
    try:
        notes = tmp_path / "notes"
        # They end one after the other, from a moment after the kill on.
        seconds = [0.5 + number / workers for number in range(workers)]
        ids = submit(client, endpoint.endpoint_id, notes, workers + behind, (*seconds, 0.002))
        eventually(lambda: len(spans(notes)) == workers)
        killed = endpoint.kill_interchange()
        took = eventually(lambda: _busy_again(notes, killed, workers), every=0.1)
        endings = [end - killed for index, _, end in spans(notes) if index < workers and end]
        record_figure("I1", "64 workers: 64 other tasks have begun", took, "s")
        record_figure("I1", "64 workers: the last that ran has ended", max(endings), "s")
        assert took < 30.0
        check(client, ids, notes)
        record_figure("I1", "64 workers: all 10,064 tasks ended", time.monotonic() - killed, "s")
    finally:
        endpoint.stop()


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
