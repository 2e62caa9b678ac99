"""Tasks that use more memory than they were declared to, of a real manager: each is ended alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from workers import tasks
from workers.interchange import Interchange
from workers.manager import error, values

from fxhpc.manager.resources.limits import SPARE_BYTES
from fxhpc.protocol.needs import Needs, pack
from fxhpc.protocol.outcome import LossCause
from tests.process.test_memory_limits import MB, WAYS

#: A manager that makes no control groups, as most may not.
LOOKING = """
import sys
from fxhpc.manager import shell
shell.Groups = lambda **_: None
from fxhpc.manager.__main__ import main
sys.exit(main())
"""

LIMIT = 100 * MB
NEEDS = pack(Needs(memory=LIMIT))


@pytest.fixture(params=WAYS)
def limiting(request: pytest.FixtureRequest) -> Iterator[Interchange]:
    """An interchange whose manager watches memory in this way."""
    interchange = Interchange(LOOKING if request.param == "looked at" else "")
    try:
        yield interchange.ready()
    finally:
        interchange.close()


def test_three_of_twenty_are_over_their_memory(limiting: Interchange) -> None:
    over = {3: (300,), 8: (300,), 14: (0, 60, 4)}  # the last by what it starts
    sizes = [over.get(index, (10,)) for index in range(20)]
    stream = limiting.send(tasks.fill, *sizes, needs=NEEDS)
    ordinary = limiting.send(tasks.double, *[(number,) for number in range(50)])
    outcomes = limiting.wait(stream, 17, 30)
    limiting.until(lambda: len(limiting.lost) == 3)
    assert values(outcomes) == [10] * 17
    assert values(limiting.wait(ordinary, 50)) == [2 * number for number in range(50)]
    assert {lost.index for lost in limiting.lost} == over.keys()
    for loss in (lost.loss for lost in limiting.lost):
        assert loss.cause == LossCause.TASK_MEMORY
        assert (loss.limit_bytes, loss.signal, loss.exit_code, loss.oom) == (LIMIT, 0, -1, "")
        assert LIMIT <= loss.peak_memory < 3 * LIMIT
        assert "limit" in loss.text
        assert "100.0 MB (resource_specification memory)" in loss.text
        assert loss.ran_s > 0


def test_who_wants_far_too_much_at_once_is_told_its_limit() -> None:
    interchange = Interchange(LOOKING)
    try:
        stream = interchange.ready().send(tasks.want, (3 * LIMIT + SPARE_BYTES,), needs=NEEDS)
        (outcome,) = interchange.wait(stream, 1)
        told = error(outcome)
    finally:
        interchange.close()
    assert "MemoryError" in told
    assert "limit of memory is 100.0 MB" in told
    assert "gets 712.0 MB at most" in told
    assert not interchange.lost
