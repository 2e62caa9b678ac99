"""What the task commands know: which tasks people name, and what is told of one."""

from __future__ import annotations

import re
import time
from typing import Any, NamedTuple

from fxhpc import errors, ids
from fxhpc.client import calls, outcomes
from fxhpc.client.client import FuncXClient
from fxhpc.client.names import group_name, task_name
from fxhpc.client.selection import Selection
from fxhpc.client.sending.chunk_sizes import ChunkSizes
from fxhpc.client.shown import listing
from fxhpc.client.shown.details import details_of
from fxhpc.client.tasks import Reader
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.protocol.service import StreamSummary, TaskState
from fxhpc.units import format_duration

#: Digits of a stream's id in lists: enough to tell a user's streams apart.
SHORT = 8

#: Characters of a result that are shown.
_RESULT_CHARACTERS = 2000

#: Tasks of which the numbers are looked for at most.
_FOUND_TASKS = 10_000

_SHORT = re.compile(r"([0-9a-f]{4,24})(?::(\d+)(?:-(\d+))?)?", re.IGNORECASE)


class QuietClient(FuncXClient):
    """A client for a look: it says nothing by itself, and runs no older work."""

    def _tell_older(self, attachment: Any) -> None:
        """That is not what was asked for."""

    def __enter__(self) -> QuietClient:
        return self

    def ask(self, message: Any) -> Any:
        """Make a call, and return its answer."""
        return self._ask(message)

    @property
    def reader(self) -> Reader:
        """What reads tasks, and runs none."""
        return self._results.reader

    def look(self, name: str) -> tuple[TaskState, StreamSummary | None]:
        """A task's state and what it shares with its stream.

        Raises:
            TaskNotFound: nobody knows it, or its chunk has no such call.
        """
        state, summary = self._results.details(Selection([name]), adopt=False)
        if state.status == states.UNKNOWN:
            raise errors.TaskNotFound(name)
        stream, number = task_name(name)
        index, call = ids.locate(stream, number)
        if summary is not None and call >= (size := ChunkSizes(stream, summary.sizes)[index]) > 0:
            raise errors.TaskNotFound(
                name, f"Chunk {short_id(stream, index)} has {many(size, 'call')}."
            )
        return state, summary


class Named(NamedTuple):
    """Consecutive tasks of one stream."""

    stream: bytes
    first: int
    tasks: int


def named(client: QuietClient, text: str) -> Named:
    """The tasks that a person means: a task's id, or `5f1c9b1e`, `5f1c9b1e:17`, `5f1c9b1e:0-99`
    as lists show them.

    Raises:
        TaskNotFound: there are none.
        UsageError: it may mean several streams, or is no id.
    """
    match = check_name(text)
    if match is None:
        stream, number = task_name(text)
        return Named(stream, ids.locate(stream, number)[0], 1)
    digits, first, last = match[1].lower(), match[2], match[3]
    prefix = bytes.fromhex(digits[: len(digits) // 2 * 2])
    answer = listing.streams(client.ask, limit=1000, prefix=prefix)
    found = [summary for summary in answer.streams if summary.stream.hex().startswith(digits)]
    if not found:
        raise errors.TaskNotFound(text)
    if len(found) > 1:
        shown = ", ".join(summary.stream.hex()[:16] for summary in found[:5])
        raise errors.UsageError(f"{text!r} may mean several: {shown}; write more digits of one")
    count = sum(found[0].counts.values())
    begin = int(first) if first is not None else 0
    end = count - 1 if first is None else int(last) if last is not None else begin
    if not begin <= end < count:
        there = f"{digits}:0" if count == 1 else f"{digits}:0-{count - 1}"
        raise errors.TaskNotFound(text, f"Of that batch there are {there}.")
    return Named(found[0].stream, begin, end - begin + 1)


def check_name(text: str) -> re.Match[str] | None:
    """The parts of a short name of tasks; None for a task's id.

    Raises:
        UsageError, InvalidUUID: it names no tasks, whatever tasks there are.
    """
    if len(text.replace("-", "")) == 32:
        task_name(text)
        return None
    match = _SHORT.fullmatch(text)
    if match is None:
        raise errors.UsageError(
            f"{text!r} is no task: name one by its id, or as `fxhpc task list` does, for example "
            f"5f1c9b1e:17"
        )
    return match


def named_one(client: QuietClient, text: str) -> str:
    """The id of the one task that a person means.

    Raises:
        TaskNotFound, UsageError: see `named`; or it is more than one.
    """
    if check_name(text) is None:
        return str(ids.parse_uuid(text))  # it may be a call of a chunk
    found = named(client, text)
    if found.tasks > 1:
        short = found.stream.hex()[:SHORT]
        raise errors.UsageError(
            f"{text!r} are {found.tasks:,} tasks: name one of them, for example "
            f"{short}:{found.first}; those that failed are named by: "
            f"fxhpc task list --state failed"
        )
    return ids.task_id(found.stream, found.first)


def short_id(stream: bytes, first: int, count: int = 1) -> str:
    """Consecutive tasks of a stream as lists show them: `5f1c9b1e:0-99`."""
    last = f"-{first + count - 1}" if count > 1 else ""
    return f"{stream.hex()[:SHORT]}:{first}{last}"


def endpoint_of(client: QuietClient, text: str) -> str:
    """The UUID of an endpoint that a person names; of a deleted one too, while it has tasks.

    Raises:
        EndpointNotFound: neither the home has such an endpoint, nor has any task.
        UsageError: several that were deleted had this name.
    """
    try:
        return client._endpoint(text)
    except errors.EndpointNotFound:
        summaries = listing.streams(client.ask, limit=10_000).streams
        found = sorted({one.endpoint for one in summaries if one.endpoint_name == text})
        if not found:
            raise
    if len(found) > 1:
        raise errors.UsageError(f"{text!r} may mean several: {', '.join(found)}; name one of them")
    return found[0]


class Found(NamedTuple):
    """Consecutive tasks that are in one state."""

    summary: StreamSummary
    status: str
    first: int
    tasks: int


def find(
    client: QuietClient, endpoint: str, wanted: list[str], group: str = "", label: str = ""
) -> tuple[list[Found], int]:
    """The tasks that are in one of these states, by their numbers; and of how many tasks these are
    the newest.
    """
    call = service.ListTasks(0, endpoint, wanted, _FOUND_TASKS, True, b"", group, label)
    answer: service.TaskList = client.ask(call)
    of_stream = {summary.stream: summary for summary in answer.streams}
    total = sum(summary.counts.get(state, 0) for summary in answer.streams for state in wanted)
    found: list[Found] = []
    for task in answer.tasks:
        last = found[-1] if found else None
        if (
            last is not None
            and (last.summary.stream, last.status) == (task.stream, task.status)
            and task.index == last.first - 1  # the newest come first
        ):
            found[-1] = last._replace(first=task.index, tasks=last.tasks + 1)
        else:
            found.append(Found(of_stream[task.stream], task.status, task.index, 1))
    return found, total


def age(created: float) -> str:
    """How long ago something was, as lists show it."""
    return format_duration(max(0.0, time.time() - created)) if created else "?"


def many(count: int, what: str) -> str:
    """So many of something, as people say it.

    >>> many(1, "task"), many(2000, "task"), many(0, "task")
    ('1 task', '2,000 tasks', 'no tasks')
    """
    if count == 1:
        return f"1 {what}"
    return f"{count:,} {what}s" if count else f"no {what}s"


def ago(when: float) -> str:
    """When something was, for a sentence."""
    return f"{age(when)} ago" if when else "at a time that nobody knows"


def cancel(client: QuietClient, chosen: list[Named], interrupt: bool) -> int:
    """Cancel tasks: how many are cancelled now."""
    cancelled = 0
    for start in range(0, len(chosen), 100):
        part = [
            service.StreamRanges(one.stream, [one.first, one.tasks])
            for one in chosen[start : start + 100]
        ]
        answer: service.Cancelled = client.ask(service.CancelTasks(0, part, interrupt))
        cancelled += sum(sum(ranges.ranges[1::2]) for ranges in answer.tasks)
    return cancelled


def group_of(client: QuietClient, group: str) -> str:
    """The id of a task group of the home.

    Raises:
        TaskGroupNotFound: it has none of this name.
    """
    try:
        return client.group(group_name(group)).task_group_id
    except errors.InvalidUUID:
        raise errors.TaskGroupNotFound(group) from None


def cancel_group(client: QuietClient, group: str, interrupt: bool) -> tuple[int, int]:
    """Cancel the tasks of a group: how many are cancelled now, and how many have not ended."""
    call = service.CancelTasks(0, [], interrupt, [group_name(group)])
    answer: service.Cancelled = client.ask(call)
    asked = {part.stream: ids.from_ranges(part.ranges) for part in answer.asked}
    found = Reader(client._attached().connection).fetch(asked, outcomes=False, adopt=False)
    running = sum(
        state.status in states.PENDING for told_of in found.values() for state in told_of.values()
    )
    return sum(sum(part.ranges[1::2]) for part in answer.tasks), running


def describe(
    client: QuietClient, name: str, state: TaskState, summary: StreamSummary | None
) -> dict[str, Any]:
    """All that is known of a task, in plain values.

    Raises:
        TaskNotFound: its chunk has no such call.
    """
    told: dict[str, Any] = {"task_id": name, "status": state.status}
    stream, number = task_name(name)
    index, call = ids.locate(stream, number)
    if call >= 0:
        told["chunk"] = short_id(stream, index)
    if state.status in states.PENDING and state.reason:
        told["reason"] = state.reason
    details = details_of(state, summary)
    for measured in ("ran_s", "cpu_s"):
        if measured in details:
            details[measured] = round(details[measured], 6)
    if summary is not None:
        names = listing.function_names(client.ask, [summary])
        told["function_name"] = names.get(summary.function_id, "")
    told.update(details)
    if state.ended:
        told.setdefault("ended", state.ended)
    if state.outcome is not None:
        told.update(_ending(state, name))
    return told


def _ending(state: TaskState, name: str) -> dict[str, str]:
    """The result as text, or the error: what cannot be unpacked here is no error of this."""
    outcome = state.outcome
    assert outcome is not None
    try:
        _, call = ids.locate(*task_name(name))
        if call >= 0:
            told = calls.task_dict(state, call, name)
            if "exception" in told:
                return {"status": told["status"], "error": str(told["exception"]).rstrip()}
            return {"status": told["status"], "result": _cut(repr(told["result"]))}
        if outcome.kind == OutcomeKind.VALUE:
            return {"result": _cut(repr(outcomes.value_of(outcome)))}
        if outcome.kind == OutcomeKind.ERROR:
            return {"error": str(outcomes.failure_of(outcome, name)).rstrip()}
        return {"error": str(outcomes.error_of(outcome, name))}
    except errors.TaskNotFound:  # its chunk has no such call, which only its outcome tells
        raise
    except Exception as error:  # whatever a user's object does when it is made or shown
        return {"result": f"cannot be shown here: {type(error).__name__}: {error}"}


def _cut(text: str) -> str:
    return f"{text[:_RESULT_CHARACTERS]}..." if len(text) > _RESULT_CHARACTERS else text
