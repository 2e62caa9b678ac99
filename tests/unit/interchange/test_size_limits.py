"""An endpoint's own limit of results: the smaller of it and what the submitter says counts."""

from __future__ import annotations

import pytest

from fxhpc.interchange.core import Interchange
from fxhpc.protocol import messages as msg
from fxhpc.protocol.sizes import SizeLimits
from tests.unit.interchange.acting import Stage


@pytest.mark.parametrize(
    ("limits", "given", "found"),
    [
        (SizeLimits(), (7000, False), (7000, False)),
        (SizeLimits(result=5000), (7000, False), (5000, False)),
        (SizeLimits(result=9000), (7000, False), (7000, False)),
        (SizeLimits(argument=5000), (7000, False), (7000, False)),
        (SizeLimits(spill=True), (7000, False), (7000, True)),
        (SizeLimits(result=5000), (7000, True), (5000, True)),
    ],
)
def test_results(limits: SizeLimits, given: tuple[int, bool], found: tuple[int, bool]) -> None:
    stage = Stage(greet=False)
    stage.core = Interchange("an endpoint", 1, limits=limits)
    stage.forwarder(msg.Hello(1, "1"))
    stage.register(b"m")
    stage.submit(1, result_limit=given[0], spill=given[1])
    (run,) = stage.to(b"m", msg.Tasks)[0].runs
    assert (run.result_limit, run.spill) == found
