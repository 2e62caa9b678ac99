"""Workloads for chaos: tasks that mark what they do, by every way to submit them.

Each runs for a while under kills, then in peace until all has ended, and accounts for every task.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fxhpc import Executor, FuncXClient
from fxhpc.client.futures import TaskFuture
from fxhpc.testing.chaos import Chaos
from fxhpc.testing.dying_clients import Clients
from fxhpc.testing.endpoint import supervised
from fxhpc.testing.marks import Account, account, marked
from fxhpc.testing.waves import MOST, RETRIES, batch_run, collect, wave

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


class Driver:
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

    def next_wave(self) -> list[tuple[int, float]]:
        """The next tasks: index and seconds of each."""
        found = wave(self._random, self._next)
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
                if look(0.05) < MOST:
                    submit(self.next_wave())
        missing, until = look(0.0), time.monotonic() + patience_s
        while missing and time.monotonic() < until:
            left = look(0.2)
            if left < missing:
                missing, until = left, time.monotonic() + patience_s
        busy = time.monotonic() - began
        found = account(self.marks, self.outcomes, self.submitted, self.chaos.story)
        return Figures(found, self.chaos, busy, self.errors)


def _by_futures(driver: Driver, executor: Executor, patience_s: float) -> Figures:
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
    driver = Driver(directory, None, kill, seconds, every_s, seed)
    with Executor(2, retries=RETRIES) as executor:
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
    driver = Driver(directory, home, kill, seconds, every_s, seed)
    with (
        FuncXClient(home=home, workers=2) as client,
        Executor(client=client, endpoint_id="local", retries=RETRIES) as executor,
    ):
        return _by_futures(driver, executor, patience_s)


def with_a_private_endpoint(
    directory: Path,
    seconds: float,
    every_s: float,
    seed: int,
    quiet: bool = False,
    patience_s: float = 60.0,
) -> Figures:
    """An Executor with blocks of its own: its interchange and provisioner die too."""
    home = directory / "home"
    kill = frozenset() if quiet else _POOL | {"interchange", "provisioner"}
    driver = Driver(directory, home, kill, seconds, every_s, seed)
    provider = {"type": "LocalProvider", "init_blocks": 1, "max_blocks": 2}
    config = {"engine": {"max_workers_per_node": 2, "provider": provider}}
    with Executor(config=config, home=home, retries=RETRIES) as executor:
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
    driver = Driver(directory, home, frozenset() if quiet else kill, seconds, every_s, seed)
    with (
        supervised(home, "chaos", workers=2) as endpoint,
        FuncXClient(home=home, workers=2, retries=RETRIES) as client,
    ):
        function = client.register_function(marked)
        pending: dict[str, int] = {}

        def submit(wave: list[tuple[int, float]]) -> None:
            ids = batch_run(client, function, endpoint, driver.marks, wave)
            pending.update(zip(ids, [index for index, _ in wave], strict=True))
            driver.submitted.extend(index for index, _ in wave)

        def look(limit_s: float) -> int:
            return collect(client, pending, driver.outcomes, limit_s)

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
    driver = Driver(directory, home, kill, seconds, every_s, seed)
    clients = Clients(directory, home, driver)
    try:
        return driver.run(lambda wave: None, clients.look, patience_s)
    finally:
        clients.close()


#: By the names that tables show.
ALL: dict[str, Callable[..., Figures]] = {
    "Executor, embedded": embedded,
    "Executor, through a home": through_a_home,
    "Executor, blocks of its own": with_a_private_endpoint,
    "batch_run, named endpoint": at_an_endpoint,
    "batch_run on local, clients killed": with_dying_clients,
}
