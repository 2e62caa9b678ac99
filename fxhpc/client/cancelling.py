"""Cancelling tasks: by ids, or all of a group; what is told of each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.names import group_name
from fxhpc.client.selection import Selection, to_ranges
from fxhpc.client.sending.chunk_sizes import ChunkSizes
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
    task_id = getattr(task_id, "task_id", task_id)  # of a future
    is_single = group is None and isinstance(task_id, str | uuid.UUID)
    named = [task_id] if isinstance(task_id, str | uuid.UUID) else task_id
    selection = Selection(() if named is None else named, "cancel")
    groups = [] if group is None else [group_name(group)]
    sizes: dict[bytes, ChunkSizes] = {}
    wanted = selection.ranges()
    if selection.has_calls:
        sizes = sizes_of(selection.by_stream(), reader())
        # A worker makes the calls of a chunk one after the other: they are cancelled together.
        wanted = to_ranges(selection.whole(sizes))
    try:
        answer: service.Cancelled = ask(service.CancelTasks(0, wanted, interrupt, groups))
    except errors.TaskGroupNotFound:
        if groups != [own_group]:
            raise
        # Nothing was submitted in it yet, which is no mistake.
        answer = ask(service.CancelTasks(0, wanted, interrupt))
    of_groups = {part.stream: part.ranges for part in answer.asked if part.stream not in sizes}
    if any(map(ids.calls_of, of_groups)):
        sizes |= sizes_of(of_groups, reader())
    selection.add(answer.asked, sizes)
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
        and (place[0] not in sizes or selection.call(position) < sizes[place[0]][place[1]])
        for position, (name, place) in enumerate(
            zip(selection.names, selection.places, strict=True)
        )
    }
    return told[selection.names[0]] if is_single else told


def sizes_of(tasks: Mapping[bytes, Sequence[int]], reader: Reader) -> dict[bytes, ChunkSizes]:
    """How many calls the chunks of these streams have, those of them that are of chunks.

    Args:
        tasks: some numbers of tasks by stream, the first of which is one of its tasks.
        reader: whoever asks where the streams are.
    """
    first_of = {stream: [first[0]] for stream, first in tasks.items() if ids.calls_of(stream)}
    reader.fetch(first_of, outcomes=False, adopt=False, details=True)
    found = reader.summaries
    return {
        stream: ChunkSizes(stream, found[stream].sizes if stream in found else ())
        for stream in first_of
    }
