"""Waves of tasks that mark what they do, and how they are submitted and collected by their ids."""

from __future__ import annotations

import concurrent.futures as cf
import random
import time
from pathlib import Path

from fxhpc import FuncXClient

#: Lost attempts that a task survives: kills here are many, and none is the task's fault.
RETRIES = 1000

#: Tasks in one wave, and how many may be on their way at once.
WAVE, MOST = 100, 300

#: Seconds: short tasks sleep up to the first, one in a wave the second.
_SHORT_S, _LONG_S = 0.02, 1.0


def batch_run(
    client: FuncXClient, function: str, endpoint: str, marks: Path, wave: list[tuple[int, float]]
) -> list[str]:
    """Submit a wave: the ids, in its order."""
    batch = client.create_batch()
    for index, seconds in wave:
        batch.add(str(marks), index, seconds, endpoint_id=endpoint, function_id=function)
    ids: list[str] = client.batch_run(batch)
    return ids


def collect(
    client: FuncXClient, pending: dict[str, int], outcomes: dict[int, object], within_s: float
) -> int:
    """Wait for outcomes, and move them; how many are missing still."""
    if not pending:
        time.sleep(within_s)
        return 0
    done, _ = client.wait(list(pending), within_s, cf.FIRST_COMPLETED)
    for name, task in client.get_batch_result(done).items():
        index = pending.pop(name)
        outcomes[index] = task["exception"].e_value if "exception" in task else task["result"]
    return len(pending)


def wave(draws: random.Random, first: int) -> list[tuple[int, float]]:
    """Tasks: index and seconds of each."""
    return [
        (first + number, _LONG_S if number == WAVE // 2 else draws.random() * _SHORT_S)
        for number in range(WAVE)
    ]
