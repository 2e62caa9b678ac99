"""The cores together, under every fault, in every order that hypothesis can think of.

`FXHPC_MODEL=nightly` tries many more and longer ones, other ones each time (`FXHPC_MODEL_EXAMPLES`
says how many); what fails is printed with what repeats it. `FXHPC_MODEL_COVERAGE=FILE` writes down
which lines and branches of the cores were taken, and which never were.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.model import core_coverage
from tests.model.machine import FxhpcMachine

_nightly = os.environ.get("FXHPC_MODEL") == "nightly"
_examples = int(os.environ.get("FXHPC_MODEL_EXAMPLES", "50000" if _nightly else "2000"))


class FirstHalf(FxhpcMachine):
    """Half of the examples: two processes can share them."""


class SecondHalf(FxhpcMachine):
    """The other half: other ones, since hypothesis begins from the name."""


_settings = settings(
    max_examples=_examples // 2,
    stateful_step_count=100 if _nightly else 50,
    derandomize=not _nightly,
    print_blob=True,
    deadline=None,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

TestFirstHalf = FirstHalf.TestCase
TestSecondHalf = SecondHalf.TestCase
TestFirstHalf.settings = TestSecondHalf.settings = _settings


@pytest.fixture(autouse=True, scope="module")
def measured() -> Iterator[None]:
    """Measures the coverage of the cores, if that is asked for."""
    yield from core_coverage.measure()
