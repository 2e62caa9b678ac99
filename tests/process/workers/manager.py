"""A real manager with two workers for a test, and what tests ask of its outcomes and processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.serialize import unpack_exception, unpack_result

from .interchange import Interchange


@pytest.fixture
def interchange() -> Iterator[Interchange]:
    """The interchange of a manager whose workers have started."""
    interchange = Interchange()
    try:
        interchange.ready()
        interchange.until(lambda: len(worker_pids(interchange)) == 2)
        yield interchange
    finally:
        interchange.close()


def values(outcomes: list[Outcome]) -> list[Any]:
    """What the tasks returned: all of them did."""
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.VALUE}
    return [unpack_result(outcome.data) for outcome in outcomes]


def error(outcome: Outcome) -> str:
    """What the task raised: it did."""
    assert outcome.kind == OutcomeKind.ERROR
    return str(unpack_exception(outcome.data))


def count(tasks: list[msg.TaskRefs]) -> int:
    """How many tasks these are."""
    return sum(sum(refs.ranges[1::2]) for refs in tasks)


def worker_pids(interchange: Interchange) -> set[int]:
    """The workers' processes: the children of the seed."""
    return {process.pid for process in psutil.Process(seed_pid(interchange)).children()}


def seed_pid(interchange: Interchange) -> int:
    """The manager's only child."""
    (seed,) = psutil.Process(interchange.process.pid).children()
    return seed.pid
