"""Pytest fixtures for whoever tests work that runs on fxhpc: chaos, a home, an endpoint, a clock.

Nothing loads them by itself: `pytest_plugins = ["fxhpc.testing.plugin"]` in the topmost
`conftest.py`, or `pytest -p fxhpc.testing.plugin`. See docs/testing.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from fxhpc.testing.chaos import USUAL, Chaos
from fxhpc.testing.clock import FakeClock
from fxhpc.testing.endpoint import RunningEndpoint

#: The environment variable that has the seed of every chaos that is given none.
SEED_VARIABLE = "FXHPC_CHAOS_SEED"


@pytest.fixture
def chaos() -> Iterator[Callable[..., Chaos]]:
    """As `fxhpc.testing.chaos.chaos`; its seed is FXHPC_CHAOS_SEED's if none is given.

    Kills end with the test, also where the test never left the `with`.
    """
    made: list[Chaos] = []

    def begin(
        where: Any = None,
        kill: Collection[str] = USUAL,
        every_s: float = 2.0,
        seed: int | None = None,
        **options: Any,
    ) -> Chaos:
        if seed is None and (usual := os.environ.get(SEED_VARIABLE)):
            seed = _seed(usual)
        made.append(Chaos(where, kill, every_s, seed, **options))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{SEED_VARIABLE} is {text!r}; it is a whole number") from None


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
    What ends is started again within a second, so that it can be left to `chaos`; after
    `local_endpoint.keep = False` it stays dead.
    """
    with RunningEndpoint(fxhpc_home, "test", managers=1, workers=2, keep=True) as endpoint:
        yield endpoint


@pytest.fixture
def fake_clock() -> FakeClock:
    """A monotonic clock that stands still until it is advanced."""
    return FakeClock()
