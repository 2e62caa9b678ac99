"""Cancelling tasks: by ids, or all of a group; what is told of each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.names import group_name
from fxhpc.client.selection import Selection
from fxhpc.client.tasks import Reader
from fxhpc.protocol import service, states

_Id = str | uuid.UUID


def cancel(
    ask: Callable[[Any], Any],
    reader: Callable[[], Reader],
    own_group: str,
    task_id: _Id | Iterable[_Id] | None,
    interrupt: bool,
    group: _Id | None,
) -> bool | dict[str, bool]:
    """See `FuncXClient.cancel`.

    Args:
        ask: makes a call, and returns its answer.
        reader: whoever asks for the states of tasks.
        own_group: the group of the client's tasks, of which there may be none yet.
    """
    group = group or None  # no text is no group
    if task_id is None and group is None:
        raise errors.UsageError(
            "cancel() was told neither tasks nor a group: pass an id, a list of ids, or "
            "task_group_id=. (An Executor has a group only if it was given one.)"
        )
    is_single = group is None and isinstance(task_id, str | uuid.UUID)
    named = [task_id] if isinstance(task_id, str | uuid.UUID) else task_id
    selection = Selection(() if named is None else named, "cancel")
    groups = [] if group is None else [group_name(group)]
    try:
        answer: service.Cancelled = ask(
            service.CancelTasks(0, selection.ranges(), interrupt, groups)
        )
    except errors.TaskGroupNotFound:
        if groups != [own_group]:
            raise
        # Nothing was submitted in it yet, which is no mistake.
        answer = ask(service.CancelTasks(0, selection.ranges(), interrupt))
    selection.add(answer.asked)
    cancelled = {
        (part.stream, index) for part in answer.tasks for index in ids.from_ranges(part.ranges)
    }
    if not cancelled.issuperset(selection.places):  # the others may have been, before this
        found = reader().fetch(selection.by_stream(), outcomes=False, adopt=False)
        cancelled.update(
            (stream, index)
            for stream, told_of in found.items()
            for index, state in told_of.items()
            if state.status == states.CANCELLED
        )
    told = {
        name: place in cancelled
        for name, place in zip(selection.names, selection.places, strict=True)
    }
    return told[selection.names[0]] if is_single else told
