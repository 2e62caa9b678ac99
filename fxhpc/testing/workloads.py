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
from fxhpc.client.futures.futures import TaskFuture
from fxhpc.testing.chaos import Chaos
from fxhpc.testing.dying_clients import Clients
from fxhpc.testing.endpoint import supervised
from fxhpc.testing.marks import Account, account, marked
from fxhpc.testing.waves import MOST, RETRIES, batch_run, collect, wave

_POOL = frozenset({"worker", "seed", "manager"})


@dataclass(frozen=True)
class Plan:
    """How a workload is run.

    Attributes:
        directory: its own; it is made if it is not there.
        seconds: so long it submits, and things are killed.
        every_s: seconds between two kills on average.
        seed: of all draws.
        quiet: nothing is killed.
        patience_s: seconds without any new outcome, after the kills have stopped, until what is
            missing counts as hanging.
    """

    directory: Path
    seconds: float
    every_s: float
    seed: int
    quiet: bool = False
    patience_s: float = 60.0

    @property
    def home(self) -> Path:
        """The workload's home, if it needs one."""
        return self.directory / "home"


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
        plan: how.
        where: what the chaos is for.
        kill: which kinds.

    Attributes:
        marks: the directory where tasks leave their marks.
    """

    def __init__(self, plan: Plan, where: Any, kill: frozenset[str]) -> None:
        self.plan = plan
        self.marks = plan.directory / "marks"
        self.marks.mkdir(parents=True)
        self.outcomes: dict[int, object] = {}
        self.submitted: list[int] = []
        self.errors: list[str] = []
        self.chaos = Chaos(where, kill, plan.every_s, plan.seed)
        self._random = random.Random(plan.seed)
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
    ) -> Figures:
        """Submit while the chaos lasts, then wait for the end.

        Args:
            submit: submits a wave; it notes in `submitted` what has an id.
            look: waits so many seconds for outcomes, notes them, and returns how many are missing.
        """
        began, patience_s = time.monotonic(), self.plan.patience_s
        with contextlib.nullcontext() if self.plan.quiet else self.chaos:
            while time.monotonic() < began + self.plan.seconds:
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


def _by_futures(driver: Driver, executor: Executor) -> Figures:
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

    figures = driver.run(submit, look)
    for future, index in list(futures.items())[:5]:
        driver.errors.append(f"task {index} hangs: {_reason(future)}")
    if futures:
        executor.shutdown(wait=False, cancel_futures=True)  # so that it can be told
    return figures


def _reason(future: cf.Future[Any]) -> str:
    return str(future.pending_reason()) if isinstance(future, TaskFuture) else "no reason"


def embedded(plan: Plan) -> Figures:
    """An Executor in this process: its workers, seed and managers die."""
    driver = Driver(plan, None, _POOL)
    with Executor(2, retries=RETRIES) as executor:
        return _by_futures(driver, executor)


def through_a_home(plan: Plan) -> Figures:
    """An Executor of a home, on `local`: the forwarder dies too."""
    driver = Driver(plan, plan.home, _POOL | {"forwarder"})
    with (
        FuncXClient(home=plan.home, workers=2) as client,
        Executor(client=client, endpoint_id="local", retries=RETRIES) as executor,
    ):
        return _by_futures(driver, executor)


def with_a_private_endpoint(plan: Plan) -> Figures:
    """An Executor with blocks of its own: its interchange and provisioner die too."""
    driver = Driver(plan, plan.home, _POOL | {"interchange", "provisioner"})
    provider = {"type": "LocalProvider", "init_blocks": 1, "max_blocks": 2}
    config = {"engine": {"max_workers_per_node": 2, "provider": provider}}
    with Executor(config=config, home=plan.home, retries=RETRIES) as executor:
        return _by_futures(driver, executor)


def at_an_endpoint(plan: Plan) -> Figures:
    """`batch_run` at a supervised endpoint with blocks: interchange and provisioner die too."""
    driver = Driver(plan, plan.home, _POOL | {"forwarder", "interchange", "provisioner"})
    with (
        supervised(plan.home, "chaos", workers=2) as endpoint,
        FuncXClient(home=plan.home, workers=2, retries=RETRIES) as client,
    ):
        function = client.register_function(marked)
        pending: dict[str, int] = {}

        def submit(wave: list[tuple[int, float]]) -> None:
            ids = batch_run(client, function, endpoint, driver.marks, wave)
            pending.update(zip(ids, [index for index, _ in wave], strict=True))
            driver.submitted.extend(index for index, _ in wave)

        def look(limit_s: float) -> int:
            return collect(client, pending, driver.outcomes, limit_s)

        return driver.run(submit, look)


def with_dying_clients(plan: Plan) -> Figures:
    """Clients that use `batch_run` on `local` die too; others read the results by their ids."""
    driver = Driver(plan, plan.home, _POOL | {"forwarder", "client"})
    clients = Clients(driver)
    try:
        return driver.run(lambda wave: None, clients.look)
    finally:
        clients.close()


#: By the names that tables show.
ALL: dict[str, Callable[[Plan], Figures]] = {
    "Executor, embedded": embedded,
    "Executor, through a home": through_a_home,
    "Executor, blocks of its own": with_a_private_endpoint,
    "batch_run, named endpoint": at_an_endpoint,
    "batch_run on local, clients killed": with_dying_clients,
}
