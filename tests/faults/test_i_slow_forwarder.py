"""Row I7: a forwarder that does not read, and a spool that is full."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fxhpc import FuncXClient
from fxhpc.interchange import events as ev
from fxhpc.interchange import outbox
from fxhpc.interchange.spool import Spool
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import LossCause, Outcome, OutcomeKind
from fxhpc.testing.endpoint import RunningEndpoint
from tests.faults.figures import record_figure
from tests.process.homes import TestHome
from tests.unit.interchange.acting import STREAM, Stage
from tests.waiting import eventually

MANAGER = b"manager"


def work(number: int) -> bytes:
    return number.to_bytes(4, "big") * 2500


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """An interchange that keeps ten bytes for a slow forwarder; each value has five."""
    monkeypatch.setattr(outbox, "KEPT_BYTES", 10)
    stage = Stage()
    stage.register(MANAGER, tasks=20)
    stage.submit(10)
    stage.take()
    return stage


def spooled(stage: Stage) -> list[int]:
    """Numbers of what is to be spooled."""
    return [
        r.number for action in stage.actions if isinstance(action, ev.Spool) for r in action.batch
    ]


def to_read(stage: Stage) -> list[int]:
    """Numbers of what is to be read back."""
    return [
        n for action in stage.actions if isinstance(action, ev.ReadSpool) for n in action.numbers
    ]


def sent(stage: Stage) -> list[int]:
    """Numbers of what the forwarder was sent."""
    return [results.number for results in stage.up(msg.Results)]


def stored_at_manager(stage: Stage) -> list[int]:
    return [n for message in stage.to(MANAGER, msg.ResultsStored) for n in message.numbers]


def test_i07_what_a_slow_forwarder_does_not_store_goes_to_the_spool(stage: Stage) -> None:
    """I7: beyond what may be kept in memory, outcomes are spooled, and managers may forget them;
    they are read back as the forwarder stores what it was sent before.
    """
    for number in range(1, 6):
        stage.finish(MANAGER, [number], number=number)
    first = sent(stage)
    rest = spooled(stage)
    assert (len(first), len(rest)) == (3, 2)
    messages = {r.number: r for a in stage.actions if isinstance(a, ev.Spool) for r in a.batch}
    stage.tell(ev.Spooled(rest))
    assert stored_at_manager(stage) == [4, 5]
    numbers = to_read(stage)
    stage.take()
    stage.tell(ev.Unspooled([messages[numbers[0]]]))  # as many as there was room for
    assert sent(stage) == numbers[:1]
    stage.forwarder(msg.ResultsStored([*first, *numbers[:1]]))
    stage.take()
    left = [number for number in rest if number not in numbers[:1]]
    stage.tell(ev.Unspooled([messages[number] for number in left]))
    stage.forwarder(msg.ResultsStored(left))
    assert any(isinstance(action, ev.ClearSpool) for action in stage.actions)
    assert not stage.core._state.outbox


def test_i07_what_cannot_be_spooled_stays_with_managers(stage: Stage) -> None:
    """I7: the spool is full too. Managers keep theirs; nothing is lost; it is tried again, and
    goes to the forwarder as that stores what it was sent before.
    """
    for number in range(1, 6):
        stage.finish(MANAGER, [number], number=number)
        if spooled(stage):
            stage.tell(ev.Spooled([]))
    first, rest = sent(stage), spooled(stage)
    assert not stored_at_manager(stage)
    stage.take()
    stage.tick(1.0)
    stage.tick(outbox.RETRY_S)
    assert spooled(stage) == rest
    stage.take()
    stage.tell(ev.Spooled(rest[:1]))
    assert len(stored_at_manager(stage)) == 1
    stage.take()
    stage.forwarder(msg.ResultsStored(first))
    assert set(rest[1:]) <= set(sent(stage))
    assert stored_at_manager(stage) == [1, 2, 3]


def test_i07_a_forwarder_that_comes_back_is_sent_all_of_it_in_turn(stage: Stage) -> None:
    """I7: not all at once: what it may be behind is bounded for it too."""
    stage.tell(ev.ForwarderGone())
    for number in range(1, 6):
        stage.finish(MANAGER, [number], number=number)
        stage.tell(ev.Spooled([]))
    stage.take()
    stage.forwarder(msg.Hello(1, "1"))
    got: set[int] = set()
    for _ in range(5):
        new = set(sent(stage)) - got
        assert len(new) <= 3
        got |= new
        stage.take()
        stage.forwarder(msg.ResultsStored(sorted(new)))
    assert len(got) == 5


def test_i07_what_the_disk_has_damaged_in_the_spool_runs_again(stage: Stage) -> None:
    """F4: an outcome that cannot be read back: the forwarder sends the task again, and it runs;
    one that may not run again ends as lost, saying why.
    """
    stage.tell(ev.ForwarderGone())
    stage.finish(MANAGER, [0], number=1)
    stage.finish(MANAGER, [1], number=2)
    numbers = spooled(stage)
    stage.tell(ev.Spooled(numbers))
    stage.take()
    stage.forwarder(msg.Hello(1, "1"))
    assert to_read(stage) == numbers
    stage.tell(ev.Unspooled([], numbers))
    assert stage.up(msg.Reset)
    stage.take()
    stage.forwarder(msg.Hello(1, "1"))
    present = stage.up(msg.Present)[0]
    assert not any(index in (0, 1) for ref in present.held for index in ref.ranges[:1])
    stage.submit(1, sent_before=True)
    stage.submit(1, first=1, sent_before=True, retries=0)
    assert (STREAM, 0) in stage.sent(MANAGER)
    loss = stage.losses()[1]
    assert loss.cause == LossCause.INTERRUPTED
    assert "spool" in loss.text


def test_i07_a_full_spool_is_told(tmp_path: Path) -> None:
    """I7: its limit, and a disk without room, are in the status until there is room again."""
    spool = Spool(str(tmp_path / "spool"), limit=10)
    results = msg.Results(1, [msg.ResultRun(STREAM, 1, 1, [])])
    assert spool.add([results]) == [1]
    assert spool.add([msg.Results(2, results.runs)]) == []
    assert "may hold no more" in spool.trouble
    spool.clear()
    assert spool.add([msg.Results(2, results.runs)]) == [2]
    assert not spool.trouble
    spool.close()


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    with RunningEndpoint(home.path, "midway", managers=2, workers=1) as endpoint:
        yield endpoint


def flood(
    client: FuncXClient, home: TestHome, endpoint: RunningEndpoint, count: int, pause_s: float
) -> int:
    """Stop the forwarder while 10 KB results come: the interchange's peak memory, in bytes."""
    assert endpoint.interchange is not None
    interchange = psutil.Process(endpoint.interchange.pid)
    function = client.register_function(work)
    batch = client.create_batch()
    for number in range(count):
        batch.add(number, endpoint_id=endpoint.endpoint_id, function_id=function)
    ids = client.batch_run(batch)
    assert isinstance(ids, list)
    client.get_result(ids[0], timeout=30)
    forwarder = home.forwarder().pid
    peak = interchange.memory_info().rss
    os.kill(forwarder, signal.SIGSTOP)
    try:
        until = time.monotonic() + pause_s
        while time.monotonic() < until:
            peak = max(peak, interchange.memory_info().rss)
            time.sleep(0.02)
    finally:
        os.kill(forwarder, signal.SIGCONT)
    client.wait(ids, timeout=60)
    results = client.get_batch_result(ids)
    assert all(results[ids[n]]["result"] == work(n) for n in range(count))
    eventually(lambda: endpoint.directory.spool.stat().st_size == 0)
    return max(peak, interchange.memory_info().rss)


def test_i07_a_forwarder_that_does_not_read_for_a_moment(
    client: FuncXClient, home: TestHome, endpoint: RunningEndpoint
) -> None:
    """I7: the forwarder is stopped while results come, and goes on: nothing is lost."""
    flood(client, home, endpoint, 2_000, 0.5)


@pytest.mark.load
def test_i07_a_forwarder_that_does_not_read_for_a_minute(
    client: FuncXClient, home: TestHome, endpoint: RunningEndpoint
) -> None:
    """I7: for 60 s, while 20,000 results of 10 KB wait to come: the interchange's memory is
    bounded, the rest goes to the spool, then stays with managers.
    """
    peak = flood(client, home, endpoint, 20_000, 60.0)
    record_figure("I7", "peak RSS of the interchange", peak / 2**20, "MB")
    assert peak < 400 * 2**20
    assert not json.loads(endpoint.directory.status.read_bytes())["report"].get("notices")


@pytest.mark.load
def test_i07_how_fast_a_spool_is(tmp_path: Path) -> None:
    """I7: 64 messages of 1 MB are written, each on the disk before it is acknowledged."""
    spool = Spool(str(tmp_path / "spool"))
    value = [msg.ResultRun(STREAM, 1, 1, [])]
    data = b"x" * (2**20 // 100)
    value[0].outcomes.extend(Outcome(index, OutcomeKind.VALUE, data) for index in range(100))
    begun = time.monotonic()
    for number in range(64):
        assert spool.add([msg.Results(number, value)])
    record_figure("I7", "spool written", 64 / (time.monotonic() - begun), "MB/s")
    begun = time.monotonic()
    read = 0
    while read < 64:
        found, missing = spool.read(range(read, 64))
        assert not missing
        read += len(found)
    record_figure("I7", "spool read", 64 / (time.monotonic() - begun), "MB/s")
    spool.close()
