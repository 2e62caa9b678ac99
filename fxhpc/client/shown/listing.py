"""Lists of tasks as dictionaries: what the forwarder knows, with the names of functions."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.declared.labels import noted
from fxhpc.protocol import service, states
from fxhpc.protocol.service import StreamSummary, TaskList

#: States that a list may be asked for, in the order of a task's life.
STATES = (
    states.WAITING_FOR_ENDPOINT,
    states.WAITING_FOR_NODES,
    states.WAITING_FOR_LAUNCH,
    states.RUNNING,
    states.SUCCESS,
    states.FAILED,
    states.CANCELLED,
)

#: What stands for all that have not ended.
PENDING = "pending"

#: Tasks that are asked for at a time: as many as an answer has at most.
_PAGE = 10_000

Ask = Callable[[Any], Any]


def wanted_states(given: str | Iterable[str] | None) -> list[str]:
    """States as a message names them; none stands for all.

    Raises:
        UsageError: there is no such state.
    """
    if given is None:
        return []
    if not isinstance(given, Iterable):
        raise errors.UsageError(
            f"state={reprlib.repr(given)}: it is a state, or a list of them; there are "
            f"{', '.join(STATES)}, and {PENDING} for all that have not ended."
        )
    names = [given] if isinstance(given, str) else list(given)
    found: list[str] = []
    for name in names:
        if name == PENDING:
            found += [state for state in STATES if state in states.PENDING]
        elif name in STATES:
            found.append(name)
        else:
            raise errors.UsageError(
                f"there is no state {name!r}; there are {', '.join(STATES)}, and {PENDING} for all "
                f"that have not ended."
            )
    return found


def streams(
    ask: Ask,
    endpoint: str = "",
    state: str | Iterable[str] | None = None,
    limit: int = 100,
    prefix: bytes = b"",
    group: str = "",
    label: str = "",
) -> TaskList:
    """Streams with their tasks by state, the newest first.

    Args:
        ask: makes a call, and returns its answer.
        endpoint: its UUID; empty for all.
        state: see `wanted_states`.
        limit: so many streams at most.
        prefix: of streams whose name begins so.
        group: of this task group alone: its UUID.
        label: with this label alone.
    """
    wanted = wanted_states(state)
    call = service.ListTasks(0, endpoint, wanted, limit, False, prefix, group, label)
    answer: TaskList = ask(call)
    return answer


def tasks(
    ask: Ask,
    endpoint: str = "",
    state: str | Iterable[str] | None = None,
    limit: int = 100,
    group: str = "",
    label: str = "",
) -> list[dict[str, Any]]:
    """Single tasks, the newest first: see `FuncXClient.tasks`."""
    wanted = wanted_states(state)
    found: list[dict[str, Any]] = []
    after: tuple[float, bytes, int] | None = None
    while len(found) < limit:
        page = min(limit - len(found), _PAGE)
        call = service.ListTasks(0, endpoint, wanted, page, True, b"", group, label, after)
        answer: TaskList = ask(call)
        created = {summary.stream: summary.created for summary in answer.streams}
        places = [(created[task.stream], task.stream, task.index) for task in answer.tasks]
        if after is not None and places and places[0] >= after:
            break  # a forwarder of an older version begins again
        found += _told(ask, answer)
        if len(places) < page:
            break
        after = places[-1]
    return found


def _told(ask: Ask, answer: TaskList) -> list[dict[str, Any]]:
    """The tasks of an answer."""
    names = function_names(ask, answer.streams)
    shared = {summary.stream: shared_by_tasks(summary, names) for summary in answer.streams}
    reasons = {summary.stream: summary.reason for summary in answer.streams}
    found = []
    for task in answer.tasks:
        pending = task.status in states.PENDING
        told = {
            "task_id": ids.task_id(task.stream, task.index),
            "status": task.status,
            "pending": pending,
            **shared[task.stream],
        }
        if pending and task.status != states.RUNNING and reasons[task.stream]:
            told["reason"] = reasons[task.stream]
        found.append(told)
    return found


def function_names(ask: Ask, summaries: Iterable[StreamSummary]) -> dict[str, str]:
    """The names of the functions of streams, by id."""
    wanted = sorted({summary.function_id for summary in summaries if summary.function_id})
    if not wanted:
        return {}
    answer: service.Functions = ask(service.GetFunctions(0, wanted))
    return {record.function_id: record.name for record in answer.records}


def shared_by_tasks(summary: StreamSummary, names: dict[str, str]) -> dict[str, Any]:
    """What is told of each task of a stream; `names` has those of functions by their ids."""
    chunks = {"calls": summary.calls} if summary.calls else {}
    return {
        **chunks,
        "function_name": names.get(summary.function_id, ""),
        "function_id": summary.function_id,
        "endpoint": summary.endpoint_name,
        "endpoint_id": summary.endpoint,
        "submitted": summary.created,
        "group": summary.group,
        **noted(summary),
    }
