"""What the ends of blocks mean for tasks: who may start what, and what was cut off by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from fxhpc.interchange.held import Manager
from fxhpc.interchange.state import State
from fxhpc.protocol.messages import TaskRun
from fxhpc.protocol.outcome import Loss
from fxhpc.units import format_duration

#: Seconds that sending a task, starting it and telling its result may take.
MARGIN_S = 5.0

#: A manager that vanishes so long before the end of its block, or after it, was ended with it.
NEAR_END_S = 60.0

#: A task that had so much of a block needs more, and one that was cut off so often ends, too.
MOST_OF_A_BLOCK = 0.9
CUT_OFFS = 3


def room(manager: Manager, now: float) -> Callable[[TaskRun], int] | None:
    """How many tasks of a run would end at a manager before its block does; None: any.

    Tasks that declare no duration are started anywhere, and count nothing: a manager takes more of
    them than it has workers only where they were measured to be short.
    """
    if manager.ends == math.inf:
        return None
    left = manager.ends - now - MARGIN_S
    declared = [
        (next(iter(tasks.values())).walltime_s, len(tasks)) for tasks in manager.held.values()
    ]
    longest = max((walltime_s for walltime_s, _ in declared), default=0.0)
    waiting = sum(count for walltime_s, count in declared if walltime_s)
    idle = max(0, manager.slots - manager.held_tasks)

    def fits(run: TaskRun) -> int:
        if not run.walltime_s:
            return len(run.payloads)
        if run.walltime_s > left:
            return 0
        # Behind those that it has, as many rounds as there is time for.
        rounds = int(left / max(longest, run.walltime_s))
        return max(idle, rounds * manager.slots - waiting)

    return fits


class OutOfTime(NamedTuple):
    """Tasks that wait because of how long they declare to take."""

    unfit: int = 0  # no manager that is there has that much time left
    never: int = 0  # no block ever has
    size: int = 0  # bytes of both
    longest_s: float = 0.0  # what they declare at most


def count_out_of_time(state: State, longest_task_s: float) -> OutOfTime:
    """How many tasks wait for time rather than for a worker."""
    if not state.declared:
        return OutOfTime()
    ends = [manager.ends for manager in state.managers.values() if not manager.draining]
    left = max(ends) - state.now - MARGIN_S if ends else math.inf
    unfit = never = size = 0
    longest_s = 0.0
    for run in state.ready_runs():
        if run.walltime_s > longest_task_s:
            never += len(run.payloads)
        elif run.walltime_s > left:
            unfit += len(run.payloads)
        else:
            continue
        size += sum(map(len, run.payloads))
        longest_s = max(longest_s, run.walltime_s)
    return OutOfTime(unfit, never, size, longest_s)


def is_near_end(manager: Manager, now: float) -> bool:
    """Whether the batch system may have ended a manager because its time was over."""
    return now >= manager.ends - NEAR_END_S


def needs_more(loss: Loss, cut_offs: int, longest_s: float, endpoint: str) -> str:
    """Why a task that was cut off by the end of a block is not tried again; empty if it is.

    Args:
        cut_offs: how often that has happened to it, this time included.
        longest_s: the longest that it ever ran.
        endpoint: its name, for the advice.
    """
    where = f"of endpoint {endpoint!r} " if endpoint else ""
    if loss.block_s and loss.ran_s >= MOST_OF_A_BLOCK * loss.block_s:
        return (
            f"It needs more than {format_duration(loss.ran_s)}, and a block lasts "
            f"{format_duration(loss.block_s)}: raise `walltime` {where}to more than that, or split "
            f"the task"
        )
    if cut_offs >= CUT_OFFS:
        block = f"; a block lasts {format_duration(loss.block_s)}" if loss.block_s else ""
        return (
            f"That has happened {cut_offs} times; it needs more than "
            f"{format_duration(longest_s)}{block}: raise `walltime` {where}, or declare how long "
            f"the task takes, so that it is started where it can end, or split it"
        ).replace(" ,", ",")
    return ""
