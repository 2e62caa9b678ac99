"""Hundreds of managers at one real interchange, over CURVE on loopback: what connections cost.

The interchange is the real process, with its journal; its managers are sockets of another process
that greet, take tasks and tell values at once. The forwarder's part is played here.

    python -m benchmarks.connections --managers 10,100,500
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol import codec
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.protocol.provision import InterchangeSpec
from fxhpc.testing.endpoint import RunningEndpoint
from fxhpc.transport import tcp_sockets, unix_sockets
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.opener import Opener
from fxhpc.transport.poller import Poller
from fxhpc.version import __version__

SLOTS = 64
RUN_TASKS = 1000
_DIGEST = b"f" * 32
_LIMIT_S = 120.0

Row = dict[str, Any]


# --- managers -------------------------------------------------------------------------------------


class Fleet:
    """Managers in this process: a socket and a link each, and no workers.

    Args:
        directory: the endpoint's.
        count: how many.
        credit: tasks that each wants to hold.
    """

    def __init__(self, directory: EndpointDirectory, count: int, credit: int) -> None:
        addresses, key = directory.managers_address.read_text().split("\n")[:2]
        curve = CurveClient(directory.keys("manager"), key.encode())
        context = tcp_sockets.make_context()
        self._capacity = msg.Capacity(credit, 1 << 27, SLOTS)
        self._poller = Poller()
        self._openers: dict[Any, Opener[msg.ToManager]] = {}
        self._names: dict[Any, str] = {}
        self._numbers: dict[Any, int] = {}
        for number in range(count):
            socket = tcp_sockets.dealer(context, addresses.split()[0], curve=curve)
            opener = self._openers[socket] = Opener(socket, codec.TO_MANAGER)
            self._names[socket], self._numbers[socket] = f"manager-{number}", 0
            self._poller.register(socket)
            self._greet(socket, opener)

    def run(self) -> None:
        """Serve until standard input ends."""
        self._poller.register(sys.stdin.fileno())
        while True:
            ready = self._poller.poll(1.0)
            if sys.stdin.fileno() in ready:
                return
            for socket in ready:
                self._hear(socket, self._openers[socket])

    def _greet(self, socket: Any, opener: Opener[msg.ToManager]) -> None:
        name = self._names[socket]
        opener.greet(msg.Register(name, b"", SLOTS, __version__, host=f"node-{name}"))

    def _hear(self, socket: Any, opener: Opener[msg.ToManager]) -> None:
        runs: list[msg.ResultRun] = []
        for message in opener.receive():
            if isinstance(message, msg.Welcome):
                opener.send(self._capacity)
            elif isinstance(message, msg.Heartbeat):
                opener.send(msg.Heartbeat())  # as managers do
            elif isinstance(message, msg.Tasks):
                runs += [
                    msg.ResultRun(
                        run.stream,
                        run.epoch,
                        run.attempt,
                        [
                            Outcome(index, OutcomeKind.VALUE, b"v" * 12)
                            for index in range(run.first, run.first + len(run.payloads))
                        ],
                    )
                    for run in message.runs
                ]
        if runs:  # as a manager does: one message for all that has ended meanwhile
            self._numbers[socket] += 1
            opener.send(msg.Results(self._numbers[socket], runs))
        if opener.broken:
            self._greet(socket, opener)


# --- the forwarder's part -------------------------------------------------------------------------


class Home:
    """Sends tasks as the window allows, and says of every outcome that it is stored."""

    def __init__(self, directory: EndpointDirectory) -> None:
        address = directory.read_address()
        assert address is not None
        self.process = psutil.Process(address.pid)
        socket = unix_sockets.dealer(address.forwarder)
        self._poller = Poller()
        self._poller.register(socket)
        self._link = Opener(socket, codec.FROM_INTERCHANGE)
        self.status: msg.Status | None = None
        self.ended = 0
        self.messages = 0  # of outcomes
        self._window = 0
        self._sent = 0
        self._left = 0
        self._beat = 0.0
        self._link.greet(msg.Hello(1, __version__))

    def submit(self, count: int) -> None:
        """So many tasks wait from now on."""
        self._left += count

    def wait(self, until: Callable[[], bool], limit_s: float = _LIMIT_S) -> bool:
        """Serve until something is so; whether it is."""
        end = time.monotonic() + limit_s
        while not until():
            if time.monotonic() > end:
                return False
            if time.monotonic() > self._beat:
                self._beat = time.monotonic() + 5.0
                self._link.send(msg.Heartbeat())
            self._poller.poll(0.05)
            stored: list[int] = []
            for message in self._link.receive():
                if isinstance(message, msg.Window):
                    self._window = message.tasks
                elif isinstance(message, msg.Status):
                    self.status = message
                elif isinstance(message, msg.Results):
                    stored.append(message.number)
                    self.messages += 1
                    self.ended += sum(len(run.outcomes) for run in message.runs)
            if stored:
                self._link.send(msg.ResultsStored(stored))
            self._feed()
        return True

    def _feed(self) -> None:
        while self._left and (room := self._window - (self._sent - self.ended)) > 0:
            count = min(RUN_TASKS, self._left, room)
            payloads = [b"%040d" % index for index in range(self._sent, self._sent + count)]
            self._link.send(msg.Tasks([msg.TaskRun(b"s" * 12, self._sent, _DIGEST, payloads)]))
            self._sent += count
            self._left -= count

    def cpu_s(self) -> float:
        """CPU seconds of the interchange, so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def managers(self) -> int:
        """Those that have registered."""
        return self.status.managers if self.status is not None else 0


# --- what is measured -----------------------------------------------------------------------------


def measure(managers: int, tasks: int, credit: int, idle_s: float = 10.0) -> Row:
    """So many managers: registering, idling for so long, and tasks that end at once."""
    with tempfile.TemporaryDirectory(prefix="fxhpc-connections-") as home:
        endpoint = RunningEndpoint(Path(home), "large")
        try:
            endpoint.directory.keys("manager")
            endpoint.start_interchange(InterchangeSpec())
            table = Home(endpoint.directory)
            assert table.wait(lambda: table.status is not None)
            rss = table.process.memory_info().rss
            cpu, begin = table.cpu_s(), time.monotonic()
            fleet = start_fleet(endpoint.directory, managers, credit)
            try:
                assert table.wait(lambda: table.managers == managers), table.managers
                registered_s = time.monotonic() - begin
                register_cpu = table.cpu_s() - cpu
                row: Row = {
                    "managers": managers,
                    "registered, s": round(registered_s, 2),
                    "CPU each, ms": round(1000 * register_cpu / managers, 2),
                    "KB each": round((table.process.memory_info().rss - rss) / managers / 1000),
                    "descriptors": table.process.num_fds(),
                }
                cpu, begin = table.cpu_s(), time.monotonic()
                table.wait(lambda: False, idle_s)
                row["idle, % of a core"] = round(100 * (table.cpu_s() - cpu) / idle_s, 1)
                # They fill up once, before it counts.
                table.submit(managers * credit)
                assert table.wait(lambda: table.ended == managers * credit), table.ended
                cpu, begin = table.cpu_s(), time.monotonic()
                before, messages = table.ended, table.messages
                table.submit(tasks)
                assert table.wait(lambda: table.ended == before + tasks), table.ended
                row["tasks per s"] = round(tasks / (time.monotonic() - begin))
                messages = table.messages - messages
                row["CPU us per task"] = round(1e6 * (table.cpu_s() - cpu) / tasks, 1)
                row["tasks per Results"] = round(tasks / messages, 1)
                row["CPU us per Results"] = round(1e6 * (table.cpu_s() - cpu) / messages)
                row["MB"] = round(table.process.memory_info().rss / 1e6)
                return row
            finally:
                end_fleet(fleet)
        finally:
            endpoint.stop()


def too_many(managers: int, files: int) -> Row:
    """More managers than the interchange may have open files: what it says."""
    with tempfile.TemporaryDirectory(prefix="fxhpc-connections-") as home:
        endpoint = RunningEndpoint(Path(home), "large")
        try:
            endpoint.directory.keys("manager")
            endpoint.start_interchange(InterchangeSpec())
            table = Home(endpoint.directory)
            limits = resource.prlimit(table.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(table.process.pid, resource.RLIMIT_NOFILE, (files, limits[1]))
            fleet = start_fleet(endpoint.directory, managers, SLOTS)
            try:
                notices: list[str] = []

                def told() -> bool:
                    report = table.status.report if table.status is not None else None
                    notices[:] = report.notices if report is not None else []
                    return bool(notices)

                is_told = table.wait(told, 30.0)
                some = table.managers
                table.submit(10_000)
                works = table.wait(lambda: table.ended == 10_000, 30.0)
                resource.prlimit(table.process.pid, resource.RLIMIT_NOFILE, limits)
                mended = table.wait(lambda: table.managers == managers, 60.0)
                return {
                    "managers": managers,
                    "open files": files,
                    "registered": some,
                    "told": notices[0] if is_told else "nothing",
                    "the others work": works,
                    "all come once it is raised": mended,
                }
            finally:
                end_fleet(fleet)
        finally:
            endpoint.stop()


def start_fleet(directory: EndpointDirectory, count: int, credit: int) -> subprocess.Popen[bytes]:
    arguments = ["--fleet", str(directory.path), str(count), str(credit)]
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), *arguments], stdin=subprocess.PIPE
    )


def end_fleet(fleet: subprocess.Popen[bytes]) -> None:
    assert fleet.stdin is not None
    fleet.stdin.close()
    try:
        fleet.wait(30)
    except subprocess.TimeoutExpired:
        fleet.kill()
        fleet.wait()


def main() -> int:
    """Measure with as many managers as asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--managers", default="10,100,500", metavar="N,N", help="how many")
    parser.add_argument("--tasks", type=int, default=200_000, help="tasks, after they are filled")
    parser.add_argument("--credit", type=int, default=SLOTS, help="tasks that a manager holds")
    parser.add_argument("--limit", action="store_true", help="more managers than open files, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    parser.add_argument("--fleet", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fleet:
        path, count, credit = options.fleet
        Fleet(EndpointDirectory(path), int(count), int(credit)).run()
        return 0
    rows = []
    for count in map(int, options.managers.split(",")):
        rows.append(measure(count, options.tasks, options.credit))
        print(rows[-1], file=sys.stderr)
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")
    if options.limit:
        rows.append(too_many(200, 128))
        print(rows[-1])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
