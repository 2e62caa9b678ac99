"""Workloads for chaos: tasks that mark what they do, by every way to submit them.

Each runs for a while under kills, then in peace until all has ended, and accounts for every task.
`python -m fxhpc.testing.workloads` is a client that may be killed.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fxhpc import Executor, FuncXClient
from fxhpc.client.futures import TaskFuture
from fxhpc.errors import TaskLost
from fxhpc.forwarder.attach import module_environment
from fxhpc.testing.chaos import Chaos
from fxhpc.testing.endpoint import supervised
from fxhpc.testing.marks import Account, account, marked

#: Lost attempts that a task survives: kills here are many, and none is the task's fault.
_RETRIES = 1000

#: Tasks in one wave, and how many may be on their way at once.
_WAVE, _MOST = 100, 300

#: Seconds: short tasks sleep up to the first, one in a wave the second.
_SHORT_S, _LONG_S = 0.02, 1.0

_POOL = frozenset({"worker", "seed", "manager"})


@dataclass
class Figures:
    """What a workload came to."""

    account: Account
    chaos: Chaos
    busy_s: float  # from the first submission to the last result
    errors: list[str] = field(default_factory=list)  # what submissions raised

    def rate(self) -> float:
        """Tasks per second, the whole time."""
        return self.account.ended / max(self.busy_s, 0.001)

    def tell(self) -> str:
        """All that is needed to understand a failure."""
        return "\n".join([self.account.tell(), *self.errors, self.chaos.tell()])


class _Driver:
    """Submits waves while the chaos lasts.

    Args:
        directory: where tasks leave their marks.
        where: what the chaos is for.
        kill: which kinds; none at all is a quiet run.
    """

    def __init__(
        self,
        directory: Path,
        where: Any,
        kill: frozenset[str],
        seconds: float,
        every_s: float,
        seed: int,
    ) -> None:
        self.marks = directory / "marks"
        self.marks.mkdir(parents=True)
        self.outcomes: dict[int, object] = {}
        self.submitted: list[int] = []
        self.errors: list[str] = []
        self.chaos = Chaos(where, kill or {"worker"}, every_s, seed)
        self._is_quiet = not kill
        self.seconds = seconds
        self._random = random.Random(seed)
        self._next = 0

    def wave(self) -> list[tuple[int, float]]:
        """The next tasks: index and seconds of each."""
        found = _wave(self._random, self._next)
        self._next += len(found)
        return found

    def run(
        self,
        submit: Callable[[list[tuple[int, float]]], None],
        look: Callable[[float], int],
        patience_s: float,
    ) -> Figures:
        """Submit while the chaos lasts, then wait for the end.

        Args:
            submit: submits a wave; it notes in `submitted` what has an id.
            look: waits so many seconds for outcomes, notes them, and returns how many are missing.
            patience_s: without any new outcome, after the kills have stopped: then it hangs.
        """
        began = time.monotonic()
        with contextlib.nullcontext() if self._is_quiet else self.chaos:
            while time.monotonic() < began + self.seconds:
                if look(0.05) < _MOST:
                    submit(self.wave())
        missing, until = look(0.0), time.monotonic() + patience_s
        while missing and time.monotonic() < until:
            left = look(0.2)
            if left < missing:
                missing, until = left, time.monotonic() + patience_s
        busy = time.monotonic() - began
        found = account(self.marks, self.outcomes, self.submitted, self.chaos.story)
        return Figures(found, self.chaos, busy, self.errors)


def _by_futures(driver: _Driver, executor: Executor, patience_s: float) -> Figures:
    futures: dict[cf.Future[Any], int] = {}

    def submit(wave: list[tuple[int, float]]) -> None:
        for index, seconds in wave:
            future = executor.submit(marked, str(driver.marks), index, seconds)
            futures[future] = index
            driver.submitted.append(index)

    def look(seconds: float) -> int:
        done, _ = cf.wait(futures, timeout=seconds, return_when=cf.FIRST_COMPLETED)
        for future in done:
            driver.outcomes[futures.pop(future)] = future.exception() or future.result()
        return len(futures)

    figures = driver.run(submit, look, patience_s)
    for future, index in list(futures.items())[:5]:
        driver.errors.append(f"task {index} hangs: {_reason(future)}")
    if futures:
        executor.shutdown(wait=False, cancel_futures=True)  # so that it can be told
    return figures


def _reason(future: cf.Future[Any]) -> str:
    return str(future.pending_reason()) if isinstance(future, TaskFuture) else "no reason"


def embedded(
    directory: Path,
    seconds: float,
    every_s: float,
    seed: int,
    quiet: bool = False,
    patience_s: float = 60.0,
) -> Figures:
    """An Executor in this process: its workers, seed and managers die."""
    kill = frozenset() if quiet else _POOL
    driver = _Driver(directory, None, kill, seconds, every_s, seed)
    with Executor(2, retries=_RETRIES) as executor:
        return _by_futures(driver, executor, patience_s)


def through_a_home(
    directory: Path,
    seconds: float,
    every_s: float,
    seed: int,
    quiet: bool = False,
    patience_s: float = 60.0,
) -> Figures:
    """An Executor of a home, on `local`: the forwarder dies too."""
    home = directory / "home"
    kill = frozenset() if quiet else _POOL | {"forwarder"}
    driver = _Driver(directory, home, kill, seconds, every_s, seed)
    with (
        FuncXClient(home=home, workers=2) as client,
        Executor(client=client, endpoint_id="local", retries=_RETRIES) as executor,
    ):
        return _by_futures(driver, executor, patience_s)


def at_an_endpoint(
    directory: Path,
    seconds: float,
    every_s: float,
    seed: int,
    quiet: bool = False,
    patience_s: float = 60.0,
) -> Figures:
    """`batch_run` at a supervised endpoint with blocks: interchange and provisioner die too."""
    home = directory / "home"
    kill = _POOL | {"forwarder", "interchange", "provisioner"}
    driver = _Driver(directory, home, frozenset() if quiet else kill, seconds, every_s, seed)
    with (
        supervised(home, "chaos", workers=2) as endpoint,
        FuncXClient(home=home, workers=2, retries=_RETRIES) as client,
    ):
        function = client.register_function(marked)
        pending: dict[str, int] = {}

        def submit(wave: list[tuple[int, float]]) -> None:
            ids = _batch_run(client, function, endpoint, driver.marks, wave)
            pending.update(zip(ids, [index for index, _ in wave], strict=True))
            driver.submitted.extend(index for index, _ in wave)

        def look(limit_s: float) -> int:
            return _collect(client, pending, driver.outcomes, limit_s)

        return driver.run(submit, look, patience_s)


def with_dying_clients(
    directory: Path,
    seconds: float,
    every_s: float,
    seed: int,
    quiet: bool = False,
    patience_s: float = 60.0,
) -> Figures:
    """Clients that use `batch_run` on `local` die too; others read the results by their ids."""
    home = directory / "home"
    kill = frozenset() if quiet else _POOL | {"forwarder", "client"}
    driver = _Driver(directory, home, kill, seconds, every_s, seed)
    clients = _Clients(directory, home, driver)
    try:
        return driver.run(lambda wave: None, clients.look, patience_s)
    finally:
        clients.close()


class _Clients:
    """Processes that submit and read, one after the other; each reads what all have submitted."""

    def __init__(self, directory: Path, home: Path, driver: _Driver) -> None:
        self._directory = directory
        self._home = home
        self._driver = driver
        self._began = time.monotonic()
        self._started = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ids, self._outcomes = _Records(directory / "ids"), _Records(directory / "outcomes")

    def look(self, seconds: float) -> int:
        """Keep a client alive, and note what clients have written; how much is missing."""
        time.sleep(seconds)  # between two looks: the work is done elsewhere
        if time.monotonic() > self._began + self._driver.seconds:
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
    with FuncXClient(home=home, workers=2, retries=_RETRIES) as client:
        function = client.register_function(marked)
        ended = {record[0] for record in _Records(directory / "outcomes").read()}
        known = _Records(directory / "ids").read()
        pending = {name: index for name, index in known if index not in ended}
        while True:
            is_enough = (directory / "enough").exists()
            if is_enough and not pending:
                return
            if not is_enough and len(pending) < _MOST:
                wave = _wave(draws, following)
                following += len(wave)
                ids = _batch_run(client, function, "local", directory / "marks", wave)
                new = dict(zip(ids, [index for index, _ in wave], strict=True))
                _write(directory / "ids", list(new.items()))
                pending.update(new)
            outcomes: dict[int, object] = {}
            _collect(client, pending, outcomes, 0.1)
            if outcomes:
                _write(directory / "outcomes", [_record(*pair) for pair in outcomes.items()])


def _batch_run(
    client: FuncXClient, function: str, endpoint: str, marks: Path, wave: list[tuple[int, float]]
) -> list[str]:
    batch = client.create_batch()
    for index, seconds in wave:
        batch.add(str(marks), index, seconds, endpoint_id=endpoint, function_id=function)
    ids: list[str] = client.batch_run(batch)
    return ids


def _collect(
    client: FuncXClient, pending: dict[str, int], outcomes: dict[int, object], within_s: float
) -> int:
    """Wait for outcomes, and move them; how many are missing still."""
    if not pending:
        time.sleep(within_s)
        return 0
    done, _ = client.wait(list(pending), within_s, cf.FIRST_COMPLETED)
    for name, task in client.get_batch_result(done).items():
        index = pending.pop(name)
        outcomes[index] = task["exception"].e_value if "exception" in task else task["result"]
    return len(pending)


def _wave(draws: random.Random, first: int) -> list[tuple[int, float]]:
    """Tasks: index and seconds of each."""
    return [
        (first + number, _LONG_S if number == _WAVE // 2 else draws.random() * _SHORT_S)
        for number in range(_WAVE)
    ]


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


#: By the names that tables show.
ALL: dict[str, Callable[..., Figures]] = {
    "Executor, embedded": embedded,
    "Executor, through a home": through_a_home,
    "batch_run, named endpoint": at_an_endpoint,
    "batch_run on local, clients killed": with_dying_clients,
}

if __name__ == "__main__":
    # Under its own name, so that tasks find their module where it is.
    from fxhpc.testing import workloads

    workloads._be_client(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
