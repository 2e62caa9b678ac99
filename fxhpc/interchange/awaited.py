"""Words for whom is waited after a restart, and for the tasks that wait for them."""

from __future__ import annotations

from collections.abc import Mapping

#: Whom tasks wait for that some manager may hold, while an incomplete journal does not say which.
UNKNOWN = "(unknown)"

_NOT_NAMED = (
    "one that the endpoint's journal does not name (its disk was full or damaged, or its host went "
    "down)"
)


def words(
    waiting: Mapping[str, int], expected: list[str], blocks: Mapping[str, str], return_s: float
) -> str:
    """Which tasks wait for managers to come back, and for which; empty: there are none.

    Args:
        waiting: how many tasks wait for each manager.
        expected: managers that are told of if no task waits.
        blocks: of managers that had one.
        return_s: how long they have, in seconds.
    """
    count = sum(waiting.values())
    if count:
        names = list(waiting)
        tasks = f"{count:,} tasks" if count > 1 else "1 task"
        what = f"{tasks} may still be with managers of before the restart, which have"
    elif expected:
        names, what = expected, "the managers of before the restart have"
    else:
        return ""
    told = [
        f"manager {name}" + (f" of block {block}" if (block := blocks.get(name)) else "")
        for name in names
        if name != UNKNOWN
    ]
    who = ", ".join(told[:3])
    if len(told) > 3:
        who += f" and {len(told) - 3} more"
    if UNKNOWN in names:
        who += f", or {_NOT_NAMED}" if who else _NOT_NAMED
    return f"{what} {return_s:.0f} s to come back: {who}"
