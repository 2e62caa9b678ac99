"""Futures end, fail and begin to run many at a time, as the forwarder tells it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any

from fxhpc.client.futures.futures import ENDED, PACKED, UNPACKING, FutureGroup, TaskFuture
from fxhpc.protocol.outcome import CANCELLED, VALUE, Outcome


def complete(
    futures: dict[int, TaskFuture],
    group: FutureGroup,
    outcomes: Iterable[Outcome],
    host: str = "",
) -> int:
    """End futures, all under one lock, and take them out of `futures`; return how many.

    Those that are not in `futures` have ended before.

    Args:
        host: where their tasks ran.
    """
    count = 0
    with_more: list[TaskFuture] = []
    with group.lock:
        for outcome in outcomes:
            future = futures.pop(outcome.index, None)
            if future is None:
                continue
            count += 1
            if future._state in ENDED:
                continue
            kind = outcome.kind
            if kind == CANCELLED:
                state = CANCELLED_AND_NOTIFIED
            else:
                state = FINISHED
                future._result = outcome
                future._exception = PACKED
            if outcome.output:
                future._more().told = (outcome.output, outcome.ran, host)
            if future._extra is None:
                future._state = state
            else:
                future._end(state, kind != VALUE)
                with_more.append(future)
        group.condition.notify_all()
    for future in with_more:
        future._tell()
    return count


def fail(futures: Iterable[TaskFuture], group: FutureGroup, error: BaseException) -> None:
    """End futures by an error that is not their task's own."""
    with group.lock:
        ended = [future for future in futures if future._state not in ENDED]
        for future in ended:
            future._exception = error
            future._end(FINISHED, True)
    for future in ended:
        future._tell()


def set_running(futures: Iterable[TaskFuture], group: FutureGroup) -> None:
    """Note that these run now."""
    with group.lock:
        for future in futures:
            if future._state == PENDING:
                future._state = RUNNING


def has_failed(future: Any) -> bool:
    """Whether a future that has ended, and was not cancelled, has an exception. Unpacks nothing."""
    if getattr(future, "has_failed", False):  # a call of a chunk
        return True
    error = future._exception
    if error is PACKED or error is UNPACKING:
        outcome = future._result
        return isinstance(outcome, Outcome) and outcome.kind != VALUE
    return error is not None
