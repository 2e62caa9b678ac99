"""F1: the forwarder is killed while tasks are submitted; each id that was given out ends, once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fxhpc import FuncXClient
from tests.faults.figures import record_figure
from tests.process.homes import TestHome
from tests.waiting import eventually


def note(path: str, index: int) -> int:
    with open(path, "a") as file:  # one short write: lines of two workers do not mix
        file.write(f"{index}\n")
    return index * 2


class Killer:
    """Kills the home's forwarder, each time after some more submissions and at any moment of one.

    Args:
        every: submissions between two kills, about.
    """

    def __init__(self, home: TestHome, kills: int, every: int, seed: int) -> None:
        self.submitted = 0
        self.killed: list[int] = []
        self._home = home
        self._kills = kills
        self._every = every
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def at_work(self) -> Iterator[Killer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            self._thread.join()

    @property
    def is_done(self) -> bool:
        return len(self.killed) >= self._kills

    def _run(self) -> None:
        while not self.is_done and not self._ending.is_set():
            pid = eventually(self._another)
            at = self.submitted + self._random.randint(1, 2 * self._every)
            eventually(lambda at=at: self.submitted >= at or self._ending.is_set())
            self._ending.wait(self._random.uniform(0, 0.003))  # the moment is what is random
            self.killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    def _another(self) -> int:
        owner = self._home.forwarder()
        return owner.pid if owner.pid not in self.killed else 0


def submit_under_fire(
    home: TestHome,
    client: FuncXClient,
    monkeypatch: pytest.MonkeyPatch,
    notes: Path,
    *,
    tasks: int,
    kills: int,
    seed: int,
) -> None:
    # One that is killed within a second is taken for one that cannot live, and waited for longer.
    monkeypatch.setattr("fxhpc.client.connection.patience._STAYED_S", 0.0)
    function = client.register_function(note)
    chance = random.Random(seed)
    wanted: dict[str, int] = {}
    killer = Killer(home, kills, max(1, tasks // (2 * kills)), seed)
    began = time.monotonic()
    with killer.at_work():
        while len(wanted) < tasks or not killer.is_done:
            first = len(wanted)
            if chance.random() < 0.1:
                batch = client.create_batch()
                for index in range(first, first + 20):
                    batch.add(str(notes), index, endpoint_id="local", function_id=function)
                ids = client.batch_run(batch)
            else:
                ids = [client.run(str(notes), first, endpoint_id="local", function_id=function)]
            wanted.update(zip(ids, range(first, first + len(ids)), strict=True))
            killer.submitted = len(wanted)
    assert len(killer.killed) == kills
    took = time.monotonic() - began
    eventually(lambda: client.wait(list(wanted), timeout=1)[1] == [], within=120)
    found = client.get_batch_result(list(wanted))
    lost = [one for one, index in wanted.items() if found[one].get("result") != 2 * index]
    times = Counter(notes.read_text().split())
    twice = [index for index, count in times.items() if count != 1]
    record_figure("F1", "forwarders killed", kills)
    record_figure("F1", "tasks submitted", len(wanted))
    record_figure("F1", "lost", len(lost))
    record_figure("F1", "run twice", len(twice))
    record_figure("F1", "submitting, with the kills", took, "s")
    assert not lost, f"seed {seed}: {[found[one] for one in lost[:5]]}"
    assert not twice, f"seed {seed}: ran more than once: {twice[:20]}"
    assert times.keys() == {str(index) for index in wanted.values()}


def test_f01_a_forwarder_killed_while_tasks_are_submitted_loses_none(
    home: TestHome, client: FuncXClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """F1: kill -9 of the forwarder at random points of `run` and `batch_run`, between commit and
    acknowledgement too. Each id that was given out exists, its task ends and has run once."""
    submit_under_fire(
        home, client, monkeypatch, tmp_path / "notes", tasks=500, kills=6, seed=20261122
    )


@pytest.mark.load
@pytest.mark.parametrize("seed", [1])
def test_f01_two_hundred_forwarders_die_during_ten_thousand_submissions(
    home: TestHome,
    client: FuncXClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seed: int,
) -> None:
    """F1, in full."""
    submit_under_fire(
        home, client, monkeypatch, tmp_path / "notes", tasks=10_000, kills=200, seed=seed
    )
