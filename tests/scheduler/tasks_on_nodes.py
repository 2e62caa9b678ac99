"""What the tests run on nodes, and how they look at what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from login_node import Endpoint, soon

from fxhpc import Executor, FuncXClient, errors


def note(directory: str, index: int, seconds: float = 0.0) -> dict[str, Any]:
    """Where a task ran. Each run leaves a file when it begins and another when it has ended."""
    import socket

    told = {
        "index": index,
        "host": socket.gethostname(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "block": os.environ.get("FXHPC_BLOCK", ""),
        "pid": os.getpid(),
    }
    run = f"{index}-{told['host']}-{time.time_ns()}"
    with open(f"{directory}/{run}.begun", "w") as file:
        json.dump(told, file)
    time.sleep(seconds)
    with open(f"{directory}/{run}.ended", "w"):
        pass
    return told


@contextlib.contextmanager
def executing(client: FuncXClient, endpoint: Endpoint, **options: Any) -> Iterator[Executor]:
    """An executor that a failing test does not wait for."""
    executor = Executor(client=client, endpoint_id=endpoint.id, **options)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def runs(directory: Path, index: int | None = None, what: str = "begun") -> list[str]:
    """The files that runs have left, of one task or of all."""
    return [path.name for path in directory.glob(f"{'*' if index is None else index}-*.{what}")]


def submit(
    client: FuncXClient, endpoint: Endpoint, function: Callable[..., Any], *calls: tuple[Any, ...]
) -> list[str]:
    """One batch of calls: their ids."""
    function_id = client.register_function(function)
    batch = client.create_batch()
    for arguments in calls:
        batch.add(*arguments, endpoint_id=endpoint.id, function_id=function_id)
    ids = client.batch_run(batch)
    assert isinstance(ids, list)
    return ids


def results(client: FuncXClient, ids: list[str], within: float = 90.0) -> list[Any]:
    """What the tasks returned, in the order of their ids."""
    found = client.get_batch_result(ids, timeout=within)
    for name in ids:
        assert not found[name]["pending"], f"{name} is pending: {found[name]}"
    return [found[name].get("result", found[name].get("exception")) for name in ids]


def reasons(client: FuncXClient, endpoint: Endpoint, task: str) -> dict[str, str]:
    """Why a task has not run, as each place tells it."""
    pending = ""
    try:
        client.get_result(task, timeout=0)
    except errors.TaskPending as error:
        pending = error.reason
    status = client.get_endpoint_status(endpoint.id)
    return {
        "get_task": str(client.get_task(task).get("reason", "")),
        "TaskPending": pending,
        "get_endpoint_status": str(status["logs"][0].get("reason", "")),
        "explain": endpoint.login.fxhpc("task", "explain", task),
    }


def all_tell(
    client: FuncXClient, endpoint: Endpoint, task: str, *words: str, within: float = 30.0
) -> dict[str, str]:
    """Wait until every place tells the cause in these words: what they tell."""
    seen: dict[str, str] = {}

    def agree() -> bool:
        seen.update(reasons(client, endpoint, task))
        return all(word in told for word in words for told in seen.values())

    try:
        soon(agree, within)
    except AssertionError:
        raise AssertionError(
            f"not all say {words}:\n"
            + "\n".join(f"{place}: {told}" for place, told in seen.items())
            + f"\n{endpoint.status()}\n{endpoint.logs()}"
        ) from None
    return seen
