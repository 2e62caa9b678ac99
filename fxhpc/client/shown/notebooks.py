"""What a notebook shows of clients, endpoints, batches, tasks and functions.

What is shown is what is known now: nothing is asked for, so a cell ends also while a forwarder is
away.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fxhpc.tables import brief, facts, grid


class TaskRecord(dict[str, Any]):
    """What `get_task` tells of a task; a notebook shows it as a table."""

    def _repr_html_(self) -> str:
        return of_task(self)


class EndpointRecord(dict[str, Any]):
    """What `get_endpoint_status` tells of an endpoint; a notebook shows it as a table."""

    def _repr_html_(self) -> str:
        return of_endpoint(self)


def of_client(
    place: object, group: str, attached: tuple[str, int] | None, closed: bool = False
) -> str:
    """A client.

    Args:
        place: of its home; None: its forwarder lives in this process.
        attached: version and epoch of its forwarder, if it is attached now.
    """
    state = "closed" if closed else "not attached: it attaches when it is used next"
    if attached is not None and not closed:
        state = f"attached to fxhpc {attached[0]}, epoch {attached[1]}"
    home = "in this process" if place is None else place
    return facts("FuncXClient", [("home", home), ("forwarder", state), ("task group", group)])


def of_batch(group: str, parts: Iterable[tuple[str, str, int]], total: int) -> str:
    """A batch: its group; endpoint, function and number of tasks of each of its parts."""
    return grid(
        f"Batch of {total:,} tasks, group {group}", ("endpoint", "function", "tasks"), [*parts]
    )


def of_group(group: str) -> str:
    """A task group, of which nothing is known until it is asked for."""
    return facts("TaskGroup", [("task_group_id", group), ("see", ".counts(), .results()")])


def of_future(task_id: str | None, state: str) -> str:
    """A future."""
    return facts("TaskFuture", [("task_id", task_id or "not submitted yet"), ("state", state)])


def of_task(told: Mapping[str, Any]) -> str:
    """What `get_task` tells."""
    details = told.get("details") or {}
    shown = [(name, told.get(name)) for name in ("task_id", "status", "reason")]
    if "result" in told:
        shown.append(("result", brief(told["result"])))
    if told.get("exception") is not None:
        shown.append(("exception", brief(told["exception"], str)))
    shown += [
        (str(name).replace("_", " "), _moment(name, value)) for name, value in details.items()
    ]
    return facts("Task", shown)


def of_endpoint(told: Mapping[str, Any]) -> str:
    """What `get_endpoint_status` tells."""
    details = told.get("details") or {}
    names = (
        ("endpoint_id", "UUID"),
        ("managers", "managers"),
        ("total_workers", "workers"),
        ("idle_workers", "idle workers"),
        ("pending_tasks", "pending tasks"),
        ("running_tasks", "running tasks"),
        ("reason", "why nothing runs"),
        ("paused", "no new blocks"),
        ("scheduler_trouble", "batch system"),
        ("set_aside", "set aside"),
    )
    shown = facts(
        f"Endpoint {details.get('endpoint_name') or ''}: {told.get('status')}",
        [(words, details.get(name)) for name, words in names],
    )
    blocks = details.get("blocks") or []
    if blocks:
        columns = ("block", "job", "state", "words", "managers", "workers")
        rows = [[block.get(column, "") for column in columns] for block in blocks]
        shown += grid("Blocks", columns, rows)
    return shown


def of_functions(found: Sequence[Mapping[str, Any]], columns: Sequence[str], total: int) -> str:
    """What a search has found."""
    rows = [[one.get(column) for column in columns] for one in found]
    return grid("Functions", columns, rows, total)


def _moment(name: str, value: Any) -> Any:
    """Times of day as people read them."""
    if (
        name in ("submitted", "queued", "started", "ended", "created")
        and isinstance(value, int | float)
        and value
    ):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    return value
