"""Cancelling what runs on a node that nobody can reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc import FuncXClient
from fxhpc.errors import TaskCancelled
from tests.network.scattered_endpoint import Notes, ScatteredEndpoint, is_running, note
from tests.waiting import eventually


@pytest.mark.parametrize("comes_back", [True, False])
def test_f11_a_task_of_a_node_that_is_cut_off_is_cancelled(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path, comes_back: bool
) -> None:
    """`cancel(interrupt=True)` of a task on a node that is cut off.

    The answer says that it is cancelled when that is certain: when the node has been given up. It
    does not run elsewhere. If the node comes back, the task is ended there, and is cancelled still.
    """
    endpoint.start(heartbeat_s=0.5)
    endpoint.await_managers(client, 2)
    notes, gate = Notes(tmp_path / "notes"), tmp_path / "gate"
    function = client.register_function(note)
    arguments = {"endpoint_id": endpoint.endpoint_id, "function_id": function}
    task = client.run(str(notes.path), "task", until=str(gate), **arguments)
    eventually(lambda: notes.lines("began"))
    worker = int(notes.lines("began")[0][1])
    node = endpoint.node_of(worker)
    eventually(lambda: client.get_task(task)["status"] == "running")
    endpoint.network.cut(node)
    assert client.cancel(task, interrupt=True)
    with pytest.raises(TaskCancelled):
        client.get_result(task)
    if comes_back:
        endpoint.network.mend(node)
        eventually(lambda: not is_running(worker))
        endpoint.await_managers(client, 2)
    gate.touch()
    after = client.run(str(notes.path), "after", **arguments)
    assert client.get_result(after, timeout=30) == "after"
    assert notes.begun() == {"task": 1, "after": 1}
    with pytest.raises(TaskCancelled):
        client.get_result(task)
