"""When what a worker is at has to end: a task, or of a chunk each call, has a declared walltime."""

from __future__ import annotations

from fxhpc.manager.held import Ending, Slot

#: In the time that a call may take, its worker is looked at so often: it is ended late by no more.
LOOKS = 8

#: After this time without a look, and half of what a call may take, it may be another that has the
#: same number: values are packed, call by call, when all calls are made.
UNSEEN_S = 0.05


def began(slot: Slot) -> bool:
    """A worker was seen at another task. Returns whether its calls have to be watched."""
    place = slot.running_place
    part = slot.part_at(place) if place is not None else None
    run = part.run if part is not None else None
    slot.call, slot.limited_since = -1, slot.begun_since
    slot.limit_s = slot.call_limit_s = slot.due = 0.0
    if run is not None and run.walltime_s > 0:
        slot.limit_s = run.walltime_s
        slot.due = slot.begun_since + run.walltime_s
        if run.calls:
            # It was multiplied, which is not undone to the last bit.
            slot.call_limit_s = round(run.walltime_s / run.calls, 9)
    return slot.call_limit_s > 0


def at_call(slot: Slot, call: int, now: float) -> None:
    """A worker was seen at this call of its chunk; -1: at none.

    What it does between calls may take what is declared for the whole chunk.
    """
    unseen_s, slot.call_seen = now - slot.call_seen, now
    if call != slot.call or unseen_s > max(slot.call_limit_s / 2, UNSEEN_S):
        slot.call, slot.limited_since = call, now
        slot.due = now + (slot.call_limit_s if call >= 0 else slot.limit_s)


def ending(slot: Slot, now: float) -> Ending:
    """How the task ends whose walltime, or that of the call that the worker is at, is over."""
    limit_s = slot.call_limit_s if slot.call >= 0 else slot.limit_s
    return Ending(ran_s=now - slot.limited_since, limit_s=limit_s, call=slot.call)
