"""What process tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc import FuncXClient
from tests.process.homes import TestHome
from tests.process.workers.manager import interchange

__all__ = ["client", "home", "interchange"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TestHome]:
    """A home, of which nothing is left after the test."""
    home = TestHome(tmp_path / "home", tmp_path / "scripts")
    yield home
    home.close()


@pytest.fixture
def client(home: TestHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[FuncXClient]:
    """A client of the test's home, in this process."""
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    with FuncXClient() as client:
        yield client
