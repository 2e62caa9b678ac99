"""A named endpoint as people start it: a supervisor, an interchange, and blocks of this host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from fxhpc import FuncXClient
from fxhpc.endpoint import places
from fxhpc.endpoint.state import look
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory
from tests.process.homes import TestHome
from tests.waiting import LIMIT, eventually

CONFIG = """\
max_workers_per_node: {workers}
engine:
  provider:
    type: LocalProvider
    init_blocks: 1
    max_blocks: 1
"""


class Supervised:
    """The endpoint `midway` of a home, configured and not started."""

    def __init__(self, home: TestHome, workers: int = 2) -> None:
        self.home = home
        self._killed: set[int] = set()
        places.create(Home(home.path), "midway")
        self.directory = EndpointDirectory(home.path / "endpoints" / "midway")
        self.directory.config.write_text(CONFIG.format(workers=workers))
        home.scripts.mkdir(parents=True, exist_ok=True)

    @property
    def endpoint_id(self) -> str:
        """Its UUID."""
        record = self.directory.read_record()
        assert record is not None
        return record.endpoint

    def run(self, *words: str, limits: Iterable[str] = ()) -> str:
        """Run a command of `fxhpc endpoint` on it: what it printed.

        Args:
            limits: lines of a shell that come before it, such as `ulimit -n 64`.
        """
        command = [sys.executable, "-m", "fxhpc.cli.main", "endpoint", words[0], "midway"]
        command += words[1:]
        if lines := list(limits):
            command = ["sh", "-c", "; ".join([*lines, 'exec "$@"']), "sh", *command]
        done = subprocess.run(
            command,
            env=self.home.environment,
            cwd=self.home.scripts,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """End it, if it runs."""
        if self.directory.path.exists() and look(self.directory).alive:
            self.run("stop", "--now")

    def interchange(self) -> int:
        """Its interchange's pid, once it serves."""

        def serving() -> int:
            address, state = self.directory.read_address(), look(self.directory)
            if address is None or address.pid != state.interchange or address.pid in self._killed:
                return 0
            return address.pid

        return eventually(serving)

    def kill_interchange(self) -> float:
        """Kill it with SIGKILL: when, monotonic."""
        pid = self.interchange()
        self._killed.add(pid)
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return at

    def managers(self) -> list[psutil.Process]:
        """Its managers that live."""
        found = []
        for process in self.home.processes():
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith("fxhpc: manager"):
                    found.append(process)
            except psutil.Error:
                continue  # it has ended meanwhile
        return found

    def log(self, name: str = "supervisor") -> str:
        """One of its logs."""
        return (self.directory.logs / f"{name}.log").read_text()


def spans(path: Path) -> list[tuple[int, float, float]]:
    """What `mark` has left: index, begin and end (0: not yet) of each run, in order of begin."""
    begun: dict[tuple[int, str], list[float]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        index, run, at = line.split()
        begun.setdefault((int(index), run), []).append(float(at))
    found = [(index, at[0], at[1] if len(at) > 1 else 0.0) for (index, _), at in begun.items()]
    return sorted(found, key=lambda span: span[1])


def mark(path: str, index: int, seconds: float) -> int:
    """What tests run: it notes when it begins and when it ends, and which run that was."""
    import os as os_
    import time as time_
    import uuid

    run = uuid.uuid4().hex
    for pause in (seconds, 0.0):
        line = f"{index} {run} {time_.monotonic():.6f}\n".encode()
        file = os_.open(path, os_.O_WRONLY | os_.O_CREAT | os_.O_APPEND, 0o600)
        os_.write(file, line)
        os_.close(file)
        time_.sleep(pause)
    return index * 2


def submit(
    client: FuncXClient, endpoint: str, path: Path, count: int, seconds: Sequence[float]
) -> list[str]:
    """Submit tasks that run `mark`; the last number of seconds is for all the rest. Their ids."""
    function = client.register_function(mark)
    batch = client.create_batch()
    for index in range(count):
        pause = seconds[min(index, len(seconds) - 1)]
        batch.add(str(path), index, pause, endpoint_id=endpoint, function_id=function)
    ids = client.batch_run(batch)
    assert isinstance(ids, list)
    return ids


def check(client: FuncXClient, ids: list[str], path: Path) -> None:
    """All of them have ended with their values, and none has run twice."""
    client.wait(ids, timeout=LIMIT)
    results = client.get_batch_result(ids)
    assert [results[name]["result"] for name in ids] == [2 * index for index in range(len(ids))]
    assert sorted(index for index, _, _ in spans(path)) == list(range(len(ids)))
