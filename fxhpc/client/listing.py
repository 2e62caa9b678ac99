"""Lists of tasks as dictionaries: what the forwarder knows, with the names of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fxhpc import errors, ids
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

Ask = Callable[[Any], Any]


def wanted_states(given: str | Iterable[str] | None) -> list[str]:
    """States as a message names them; none stands for all.

    Raises:
        UsageError: there is no such state.
    """
    if given is None:
        return []
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
) -> TaskList:
    """Streams with their tasks by state, the newest first.

    Args:
        ask: makes a call, and returns its answer.
        endpoint: its UUID; empty for all.
        state: see `wanted_states`.
        limit: so many streams at most.
        prefix: of streams whose name begins so.
    """
    call = service.ListTasks(0, endpoint, wanted_states(state), limit, prefix=prefix)
    answer: TaskList = ask(call)
    return answer


def tasks(
    ask: Ask,
    endpoint: str = "",
    state: str | Iterable[str] | None = None,
    limit: int = 100,
    prefix: bytes = b"",
) -> list[dict[str, Any]]:
    """Single tasks, the newest first: see `FuncXClient.tasks`."""
    call = service.ListTasks(0, endpoint, wanted_states(state), limit, True, prefix)
    answer: TaskList = ask(call)
    names = function_names(ask, answer.streams)
    shared = {summary.stream: _shared(summary, names) for summary in answer.streams}
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


def _shared(summary: StreamSummary, names: dict[str, str]) -> dict[str, Any]:
    return {
        "function_name": names.get(summary.function_id, ""),
        "function_id": summary.function_id,
        "endpoint": summary.endpoint_name,
        "endpoint_id": summary.endpoint,
        "submitted": summary.created,
        "group": summary.group,
    }
