"""Any workload under random kills: everything ends, once, with its value, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fxhpc.testing import workloads
from fxhpc.testing.chaos import Chaos
from fxhpc.testing.endpoint import RunningEndpoint
from fxhpc.testing.plugin import chaos as chaos
from fxhpc.testing.victims import Process, Victims
from fxhpc.testing.workloads import Figures, Plan
from tests.faults.figures import record_figure
from tests.process.homes import TestHome
from tests.waiting import eventually

#: Seconds of kills for each of the five, and between two kills of one: 60 s in all.
_SECONDS, _EVERY_S = 12.0, 0.75


@pytest.fixture
def directory(home: TestHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a workload has its home, of which nothing is left after the test."""
    monkeypatch.setenv("FXHPC_FORWARDER_GRACE", "0.3")
    workload = home.path.parent / "workload"
    workload.mkdir()
    yield workload
    eventually(lambda: not home.processes(), within=30)


@pytest.mark.parametrize(
    ("workload", "seed"),
    [
        (workloads.embedded, 11),
        (workloads.through_a_home, 12),
        (workloads.at_an_endpoint, 13),
        (workloads.with_dying_clients, 14),
        (workloads.with_a_private_endpoint, 15),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_chaos_nothing_is_lost_hangs_or_runs_twice(
    directory: Path, workload: Callable[[Plan], Figures], seed: int
) -> None:
    """Workers, seeds, managers and whatever else the workload has die at random, for 12 s.

    All that was accepted ends with its value; no task runs while an earlier run of it lives, and
    none runs again but for a kill that took it, or its result, along.
    """
    figures = workload(Plan(directory, _SECONDS, _EVERY_S, seed))
    record_figure("chaos", workload.__name__, figures.rate(), "tasks/s")
    assert figures.account.is_clean(), figures.tell()
    assert not figures.errors, figures.tell()
    assert figures.chaos.deaths.total() >= 3, figures.tell()


def test_chaos_hits_nobody_else(home: TestHome, tmp_path: Path) -> None:
    """Processes with the same titles that belong to another home are never found."""
    with (
        RunningEndpoint(home.path, "ours") as ours,
        RunningEndpoint(tmp_path / "another", "theirs") as theirs,
    ):
        assert ours.interchange is not None
        assert theirs.interchange is not None
        victims = Victims(home.path, [ours.managers[0].pid])

        def workers() -> list[Process]:
            return victims.find(["worker"])

        eventually(workers)
        found = {process.pid for process in victims.find()}
        assert ours.interchange.pid in found
        assert theirs.interchange.pid not in found
        assert theirs.managers[0].pid not in found
        everybody = Victims(home.path, [os.getpid()]).find()
        assert theirs.interchange.pid not in {process.pid for process in everybody}


def test_chaos_never_hits_a_pid_that_is_another_process_now() -> None:
    """A victim is named by pid and start: one that has ended is not hit, whoever has its pid."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        from signal import SIGKILL

        from fxhpc.testing.victims import client

        found = client(child.pid)
        other = Process(found.kind, found.pid, found.started - 100)
        assert not other.send(SIGKILL)
        assert child.poll() is None
        assert found.send(SIGKILL)
        child.wait(10)
        assert not found.send(SIGKILL)
    finally:
        child.kill()
        child.wait()


def test_chaos_tells_its_seed_when_the_workload_fails(
    chaos: Callable[..., Chaos], capsys: pytest.CaptureFixture[str]
) -> None:
    """The story has what it takes to repeat it, and an error in the workload prints it."""
    seen: list[Chaos] = []

    def work() -> None:
        with chaos(None, kill={"client"}, every_s=0.01, seed=5) as c:
            seen.append(c)
            eventually(lambda: len(c.story) >= 5)
            raise ArithmeticError("the workload's own")

    with pytest.raises(ArithmeticError):
        work()
    told = capsys.readouterr().err
    assert "seed=5" in told
    assert f"hit: nothing; {seen[0].misses} times nobody was there" in told
    assert not seen[0].counts  # no client was named, so none was hit


def test_chaos_lets_go_on_what_it_stopped(chaos: Callable[..., Chaos]) -> None:
    """What stands still when the chaos ends goes on."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    try:
        with chaos(
            None, {"client"}, 0.02, 3, clients=[child.pid], stop_s=(50, 60), shares=(1.0, 0.0)
        ) as c:
            eventually(lambda: c.counts["client"])
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(10) == 0
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says which seed."""
    monkeypatch.setenv("FXHPC_CHAOS_SEED", "99")


def test_chaos_fixture_takes_a_seed_from_outside(
    environment: None, chaos: Callable[..., Chaos]
) -> None:
    """Without a seed it takes that of the environment; one that is given counts more."""
    with chaos(kill={"client"}) as c:
        assert c.seed == 99
    assert chaos(None, {"client"}, 2.0, 3).seed == 3


def test_chaos_fixture_says_what_a_seed_is(
    monkeypatch: pytest.MonkeyPatch, chaos: Callable[..., Chaos]
) -> None:
    """A seed from outside that is none is named."""
    monkeypatch.setenv("FXHPC_CHAOS_SEED", "many")
    with pytest.raises(ValueError, match="FXHPC_CHAOS_SEED is 'many'"):
        chaos(kill={"client"})
