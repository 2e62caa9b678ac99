"""The cores together, under every fault, in every order that hypothesis can think of.

`FXHPC_MODEL=nightly` tries many more and longer ones, other ones each time; what fails is printed
with what repeats it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

from tests.model.machine import FxhpcMachine

_nightly = os.environ.get("FXHPC_MODEL") == "nightly"

TestFxhpc = FxhpcMachine.TestCase
TestFxhpc.settings = settings(
    max_examples=10_000 if _nightly else 1000,
    stateful_step_count=100 if _nightly else 50,
    derandomize=not _nightly,
    print_blob=True,
    deadline=None,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
