"""What an endpoint takes of a login node while nothing happens: with many managers and a client.

Everything is real but the managers, which are sockets of another process that greet and beat as
managers do (see `benchmarks.connections`); their process stands for nodes and is not counted.

    python -m benchmarks.manners --managers 200 --minutes 10
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.connections import SLOTS, end_fleet, start_fleet
from benchmarks.processes import pss_bytes, wake_ups
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory

_CONFIG = """
engine:
  max_workers_per_node: 64
  provider: {type: LocalProvider, init_blocks: 0, min_blocks: 0, max_blocks: 1}
"""

_CLIENT = """
import sys
from fxhpc import FuncXClient
client = FuncXClient()
print(client.get_endpoint_status(sys.argv[1])["details"]["managers"], flush=True)
for line in sys.stdin:
    print(client.get_endpoint_status(sys.argv[1])["details"]["managers"], flush=True)
"""

_LIMIT_S = 60.0

Row = dict[str, Any]


class Taken:
    """What one process, all its threads, has taken so far."""

    def __init__(self, process: psutil.Process) -> None:
        times = process.cpu_times()
        self.cpu_s = float(times.user + times.system)
        self.wake_ups = wake_ups([process.pid])


def measure(managers: int, minutes: float) -> list[Row]:
    """A row for each process on the login node, after so many minutes without work."""
    with tempfile.TemporaryDirectory(prefix="fxhpc-manners-") as directory:
        home = Path(directory) / "home"
        environment = {**os.environ, "FXHPC_HOME": str(home)}
        name = f"manners-{os.getpid()}"  # by which its processes are found
        config = Path(directory) / "idle.yaml"
        config.write_text(_CONFIG)
        _command(environment, "configure", name, "--from", str(config))
        _command(environment, "start", name)
        try:
            path = EndpointDirectory(home / "endpoints" / name)
            fleet = start_fleet(path, managers, SLOTS)
            client = subprocess.Popen(
                [sys.executable, "-c", _CLIENT, name],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                _wait_for(client, managers)
                return _rows(_on_the_login_node(home, name, client.pid), minutes)
            finally:
                end_fleet(fleet)
                client.communicate()
        finally:
            _command(environment, "stop", name)


def _command(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "fxhpc.cli.main", "endpoint", *arguments]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _wait_for(client: subprocess.Popen[str], managers: int) -> None:
    """Until so many managers are there."""
    assert client.stdin is not None
    assert client.stdout is not None
    until = time.monotonic() + _LIMIT_S
    while (found := int(client.stdout.readline() or 0)) < managers:
        if time.monotonic() > until or client.poll() is not None:
            raise SystemExit(f"{found} of {managers} managers have come in {_LIMIT_S:.0f} s")
        time.sleep(0.2)
        client.stdin.write("\n")
        client.stdin.flush()


def _on_the_login_node(home: Path, name: str, client: int) -> dict[str, psutil.Process]:
    """Processes by what they are: the home's forwarder, the endpoint's, and the client."""
    owner = Home(home).read_owner()
    assert owner is not None
    found = {"client, attached": psutil.Process(client), "forwarder": psutil.Process(owner.pid)}
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline()).split()
        except psutil.Error:
            continue
        if words[:1] == ["fxhpc:"] and words[2:3] == [name]:
            found[words[1]] = process
    return found


def _rows(processes: dict[str, psutil.Process], minutes: float) -> list[Row]:
    before = {name: Taken(process) for name, process in processes.items()}
    began = time.monotonic()
    time.sleep(60 * minutes)
    seconds = time.monotonic() - began
    rows = []
    for name, process in sorted(processes.items()):
        then, now = before[name], Taken(process)
        rows.append(
            {
                "process": name,
                "CPU s per hour": round(3600 * (now.cpu_s - then.cpu_s) / seconds, 1),
                "wake-ups per s": round((now.wake_ups - then.wake_ups) / seconds, 2),
                "MB": round(pss_bytes(process.pid) / 1e6, 1),
                "open files": process.num_fds(),
                "tcp connections": len(process.net_connections("tcp")),
                "threads": process.num_threads(),
            }
        )
    totals = {
        name: round(sum(row[name] for row in rows), 2) for name in rows[0] if name != "process"
    }
    return [*rows, {"process": "all", **totals}]


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--managers", type=int, default=200, help="how many (200)")
    parser.add_argument("--minutes", type=float, default=10.0, help="without work (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    options = parser.parse_args()
    rows = measure(options.managers, options.minutes)
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
