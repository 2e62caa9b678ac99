"""Very many managers: M12 (what a task costs among them) and M13 (all come back at once)."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator

import psutil
import pytest

from fxhpc.interchange import events as ev
from fxhpc.interchange.core import Interchange
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.testing.endpoint import RunningEndpoint
from tests.faults.figures import record_figure
from tests.faults.herd import Herd
from tests.process.homes import TestHome

STREAM = b"stream------"
HERD = 2_000


class Crowd:
    """An interchange's core with this many managers of four workers, all of them busy."""

    def __init__(self, managers: int) -> None:
        self.core = Interchange("an endpoint", 1)
        self.now = 0.0
        self.first = self.number = 0
        self.running: deque[tuple[bytes, int]] = deque()
        self.tell(ev.ForwarderSaid(msg.Hello(1, "1")))
        for number in range(managers):
            peer = b"%d" % number
            about = msg.Register(f"m{number}", b"", 4, "1", host=f"node{number}")
            self.tell(ev.ManagerSaid(peer, about))
            self.tell(ev.ManagerSaid(peer, msg.Capacity(4, 1 << 20, 4)))

    def tell(self, event: ev.Event) -> None:
        for action in self.core.handle(event, self.now):
            if isinstance(action, ev.ToManager) and isinstance(action.message, msg.Tasks):
                for run in action.message.runs:
                    for position in range(len(run.payloads)):
                        self.running.append((action.peer, run.first + position))

    def submit(self, count: int) -> None:
        run = msg.TaskRun(STREAM, self.first, b"f" * 32, [b"x"] * count)
        self.first += count
        self.tell(ev.ForwarderSaid(msg.Tasks([run])))

    def finish(self) -> None:
        peer, index = self.running.popleft()
        self.number += 1
        run = msg.ResultRun(STREAM, 1, 1, [Outcome(index, OutcomeKind.VALUE, b"v")])
        self.tell(ev.ManagerSaid(peer, msg.Results(self.number, [run])))


def test_m12_a_task_costs_the_same_among_ten_thousand_managers() -> None:
    """10,000 managers of one interchange: they are let in fast, and what it costs to send a task
    to one does not grow with their number.
    """
    costs: dict[int, float] = {}
    for managers in (10, 100, 1_000, 10_000):
        before, at = psutil.Process().memory_info().rss, time.perf_counter()
        crowd = Crowd(managers)
        took_s = time.perf_counter() - at
        grown = psutil.Process().memory_info().rss - before
        crowd.submit(4 * managers)
        tasks = 400
        crowd.submit(tasks)
        costs[managers] = 1.0
        for _ in range(10):  # the best of ten: others use this machine too
            at = time.perf_counter()
            for _ in range(tasks // 10):
                crowd.finish()  # and one that waits is sent there
            costs[managers] = min(costs[managers], 10 * (time.perf_counter() - at) / tasks)
        assert len(crowd.running) == 4 * managers
        record_figure("M12", f"dispatch among {managers:,} managers", 1e6 * costs[managers], "us")
        if managers == 10_000:
            record_figure("M12", "registrations, core alone", managers / took_s, "/s")
            record_figure("M12", "memory of a manager, core alone", grown / managers / 1024, "KB")
    # A look at each manager would be a hundred times as much.
    assert costs[10_000] < 20 * costs[100]


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint of which nothing runs yet."""
    endpoint = RunningEndpoint(home.path, "midway", managers=0)
    yield endpoint
    endpoint.stop()


@pytest.mark.load
def test_m12_and_m13_two_thousand_managers_come_and_come_back(
    endpoint: RunningEndpoint, home: TestHome
) -> None:
    """2,000 real connections with CURVE register; the interchange is killed and started again, and
    nearly all of them are back within 30 s.
    """
    endpoint.start_interchange()
    assert endpoint.interchange is not None
    interchange = psutil.Process(endpoint.interchange.pid)
    before = interchange.memory_info().rss
    herd = Herd(endpoint.directory, HERD)
    try:
        took_s = herd.run(lambda: herd.welcomed == HERD)
        record_figure("M12", "registrations, 2,000 connections with CURVE", HERD / took_s, "/s")
        rss = interchange.memory_info().rss
        record_figure(
            "M12", "memory of a manager, with connection", (rss - before) / HERD / 1024, "KB"
        )
        endpoint.interchange.kill()
        endpoint.interchange.wait()
        herd.connection_lost()
        at = time.monotonic()
        endpoint.start_interchange()
        record_figure("M13", "start of the interchange", time.monotonic() - at, "s")
        herd.run(lambda: herd.welcomed >= 0.99 * HERD)
        back_s = time.monotonic() - at
        record_figure("M13", "99 % of 2,000 are back", back_s, "s")
        herd.run(lambda: herd.welcomed == HERD)
        record_figure("M13", "all of 2,000 are back", time.monotonic() - at, "s")
        assert back_s < 60
        assert endpoint.interchange.poll() is None
    finally:
        herd.close()
    with open("/proc/sys/net/core/somaxconn") as file:
        record_figure("M13", "somaxconn of this host", int(file.read()))
    assert os.path.exists(endpoint.directory.log)
