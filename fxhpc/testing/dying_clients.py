"""Clients that may be killed at any moment, and those that read what these had submitted.

`python -m fxhpc.testing.dying_clients DIRECTORY HOME NUMBER` is one. In the directory are the marks
of tasks, the ids that were given out, the outcomes that were read, and `enough` when it is.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxhpc import FuncXClient
from fxhpc.errors import TaskLost
from fxhpc.forwarder.attach import module_environment
from fxhpc.testing.marks import marked
from fxhpc.testing.waves import MOST, RETRIES, batch_run, collect, wave

if TYPE_CHECKING:
    from fxhpc.testing.workloads import Driver


class Clients:
    """Processes that submit and read, one after the other; each reads what all have submitted."""

    def __init__(self, driver: Driver) -> None:
        directory = self._directory = driver.plan.directory
        self._home = driver.plan.home
        self._driver = driver
        self._began = time.monotonic()
        self._started = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ids, self._outcomes = _Records(directory / "ids"), _Records(directory / "outcomes")

    def look(self, seconds: float) -> int:
        """Keep a client alive, and note what clients have written; how much is missing."""
        time.sleep(seconds)  # between two looks: the work is done elsewhere
        if time.monotonic() > self._began + self._driver.plan.seconds:
            (self._directory / "enough").touch()
        driver = self._driver
        driver.submitted += (index for _, index in self._ids.read())
        for index, kind, told in self._outcomes.read():
            driver.outcomes[index] = _outcome(kind, told)
        missing = len(driver.submitted) - len(driver.outcomes)
        if self._process is None or self._process.poll() is not None:
            code = 0 if self._process is None else self._process.returncode
            if code > 0:
                log = (self._directory / "clients.log").read_text()
                driver.errors.append(f"a client ended with {code}: {log[-2000:]}")
            if missing or not (self._directory / "enough").exists():
                self._start()
        return missing

    def close(self) -> None:
        """End the last one."""
        (self._directory / "enough").touch()
        if self._process is not None:
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start(self) -> None:
        command = [sys.executable, "-m", __name__, str(self._directory), str(self._home)]
        with open(self._directory / "clients.log", "ab") as log:
            self._process = subprocess.Popen(
                [*command, str(self._started)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=module_environment(),
            )
        self._started += 1
        self._driver.chaos.clients = {self._process.pid}


def _be_client(directory: Path, home: Path, number: int) -> None:
    """Submit waves until there are enough, and read the outcomes of all that has no outcome yet."""
    draws = random.Random(number)
    following = number * 10**6
    with FuncXClient(home=home, workers=2, retries=RETRIES) as client:
        function = client.register_function(marked)
        ended = {record[0] for record in _Records(directory / "outcomes").read()}
        known = _Records(directory / "ids").read()
        pending = {name: index for name, index in known if index not in ended}
        while True:
            is_enough = (directory / "enough").exists()
            if is_enough and not pending:
                return
            if not is_enough and len(pending) < MOST:
                tasks = wave(draws, following)
                following += len(tasks)
                ids = batch_run(client, function, "local", directory / "marks", tasks)
                new = dict(zip(ids, [index for index, _ in tasks], strict=True))
                _write(directory / "ids", list(new.items()))
                pending.update(new)
            outcomes: dict[int, object] = {}
            collect(client, pending, outcomes, 0.1)
            if outcomes:
                _write(directory / "outcomes", [_record(*pair) for pair in outcomes.items()])


def _record(index: int, outcome: object) -> tuple[int, str, object]:
    if isinstance(outcome, TaskLost):
        return index, "lost", str(outcome)
    if isinstance(outcome, BaseException):
        return index, "failed", repr(outcome)
    return index, "value", outcome


def _outcome(kind: str, told: Any) -> object:
    if kind == "lost":
        return TaskLost(told)
    return RuntimeError(told) if kind == "failed" else told


def _write(path: Path, records: list[Any]) -> None:
    """Add records at the end of a file in one write, which a kill does not tear."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"{json.dumps(records)}\n".encode())
    finally:
        os.close(descriptor)


class _Records:
    """A file of records that grows; it is made if it is not there."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._position = 0

    def read(self) -> list[Any]:
        """Those that have come since one last read."""
        found: list[Any] = []
        with open(self._path, "rb") as file:
            file.seek(self._position)
            for line in file:
                if line.endswith(b"\n"):
                    self._position += len(line)
                    found += json.loads(line)
        return found


if __name__ == "__main__":
    _be_client(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
