"""What process tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from homes import TestHome


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TestHome]:
    """A home, of which nothing is left after the test."""
    home = TestHome(tmp_path / "home", tmp_path / "scripts")
    yield home
    home.close()
