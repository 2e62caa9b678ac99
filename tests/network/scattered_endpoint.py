"""An endpoint whose interchange is in a network's hub, and whose managers are on its nodes."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil

from fxhpc import FuncXClient
from fxhpc.protocol.provision import InterchangeSpec
from fxhpc.testing.endpoint import RunningEndpoint
from tests.network.namespaces import HUB_ADDRESS, Network
from tests.waiting import eventually

#: Heartbeats that let a test see a silent node in three seconds, not in fifteen.
HEARTBEAT_S = 1.0


class ScatteredEndpoint(RunningEndpoint):
    """Start the interchange first, then a manager on each node.

    Args:
        home: the home's directory.
        nodes: how many.
        workers: of each.
    """

    def __init__(self, home: str | os.PathLike[str], nodes: int = 2, workers: int = 1) -> None:
        super().__init__(home, "scattered", workers=workers)
        self.network = Network(nodes)

    def start(self, heartbeat_s: float = HEARTBEAT_S) -> None:
        """Everything, one manager on each node."""
        self.start_hub(heartbeat_s)
        for node in range(len(self.network.nodes)):
            self.start_node(node)

    def start_hub(self, heartbeat_s: float = HEARTBEAT_S, missed_heartbeats: int = 3) -> None:
        """The interchange."""
        with self.network.inside(self.network.hub):
            self.start_interchange(
                InterchangeSpec(
                    bind=f"tcp://{HUB_ADDRESS}:*",
                    heartbeat_s=heartbeat_s,
                    missed_heartbeats=missed_heartbeats,
                    log_file=str(self.directory.log),
                )
            )

    def start_node(self, node: int) -> subprocess.Popen[bytes]:
        """A manager."""
        with self.network.inside(self.network.nodes[node]):
            return self.start_manager()

    def await_managers(self, client: FuncXClient, count: int) -> None:
        """Until so many are registered."""
        eventually(lambda: self._managers(client) == count)

    def _managers(self, client: FuncXClient) -> int:
        logs = client.get_endpoint_status(self.endpoint_id)["logs"]
        return int(logs[0]["managers"]) if logs else 0

    def node_of(self, worker: int) -> int:
        """The node that a worker belongs to."""
        managers = [manager.pid for manager in self.managers]
        parents = [parent.pid for parent in psutil.Process(worker).parents()]
        return next(node for node, pid in enumerate(managers) if pid in parents)

    def log(self) -> str:
        """What the interchange has logged."""
        return self.directory.log.read_text()

    def stop(self) -> None:
        """End everything; nodes that are cut off too."""
        for node in range(len(self.network.nodes)):
            self.network.mend(node)
            self.network.hear(node)
        super().stop()
        self.network.close()


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only its remains."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def note(path: str, name: str, seconds: float = 0.0, until: str = "") -> str:
    """What the tests run: begins and ends with a line; waits for a file if one is named."""

    def write(word: str) -> None:
        with open(path, "a") as file:
            file.write(f"{word} {name} {os.getpid()} {time.monotonic():.6f}\n")

    write("began")
    time.sleep(seconds)
    while until and not os.path.exists(until):
        time.sleep(0.01)
    write("ended")
    return name


class Notes:
    """What the tasks of a test have left."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, word: str, name: str = "") -> list[list[str]]:
        """Those of one kind: name, pid of the worker, monotonic time."""
        if not self.path.exists():
            return []
        found = [line.split() for line in self.path.read_text().splitlines()]
        return [rest for first, *rest in found if first == word and name in ("", rest[0])]

    def begun(self) -> Counter[str]:
        """How often each has begun."""
        return Counter(line[0] for line in self.lines("began"))
