"""Pytest fixtures for whoever tests work that runs on fxhpc: chaos, a home, an endpoint, a clock.

Nothing loads them by itself: `pytest_plugins = ["fxhpc.testing.plugin"]` in the topmost
`conftest.py`, or `pytest -p fxhpc.testing.plugin`. See docs/testing.md.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fxhpc.testing.chaos import Chaos
from fxhpc.testing.chaos import chaos as make_chaos
from fxhpc.testing.clock import FakeClock
from fxhpc.testing.endpoint import RunningEndpoint

#: The environment variable that has the seed of every chaos that is given none.
SEED_VARIABLE = "FXHPC_CHAOS_SEED"


@pytest.fixture
def chaos() -> Iterator[Callable[..., Chaos]]:
    """As `fxhpc.testing.chaos.chaos`; its seed is FXHPC_CHAOS_SEED's if none is given.

    What it has not been left by is over when the test is.
    """
    made: list[Chaos] = []
    seed = os.environ.get(SEED_VARIABLE)
    usual = functools.partial(make_chaos, seed=int(seed)) if seed else make_chaos

    def begin(*arguments: Any, **options: Any) -> Chaos:
        made.append(usual(*arguments, **options))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


@pytest.fixture
def fxhpc_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for one test: FXHPC_HOME is its directory, and its forwarder leaves soon."""
    home = tmp_path / "fxhpc-home"
    monkeypatch.setenv("FXHPC_HOME", str(home))
    monkeypatch.setenv("FXHPC_FORWARDER_GRACE", "0.5")
    monkeypatch.setenv("FXHPC_WORKERS", "2")
    return home


@pytest.fixture
def local_endpoint(fxhpc_home: Path) -> Iterator[RunningEndpoint]:
    """An endpoint on this host with one manager and two workers, in the test's home.

    Its `endpoint_id` is what clients want; `interchange` and `managers` are processes to kill.
    """
    with RunningEndpoint(fxhpc_home, "test", managers=1, workers=2) as endpoint:
        yield endpoint


@pytest.fixture
def fake_clock() -> FakeClock:
    """A monotonic clock that stands still until it is advanced."""
    return FakeClock()
