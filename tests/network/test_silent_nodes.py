"""Nodes that vanish without a word: links that are cut, in both directions or in one."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from fxhpc import FuncXClient
from tests.faults.figures import record_figure
from tests.network.scattered_endpoint import HEARTBEAT_S, Notes, ScatteredEndpoint, is_running, note
from tests.waiting import eventually

#: For tests where it does not matter when a silent node is noticed.
SHORT_S = 0.5


class Lost:
    """One task that runs on a node, which is then cut off; the task runs again on the other."""

    def __init__(
        self, client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path, fault: str
    ) -> None:
        self.notes, self.gate = Notes(tmp_path / "notes"), tmp_path / "gate"
        self.client = client
        self.function = client.register_function(note)
        self.task = client.run(
            str(self.notes.path),
            "task",
            until=str(self.gate),
            endpoint_id=endpoint.endpoint_id,
            function_id=self.function,
        )
        eventually(lambda: self.notes.lines("began"))
        self.first = int(self.notes.lines("began")[0][1])
        self.node = endpoint.node_of(self.first)
        at = time.monotonic()
        getattr(endpoint.network, fault)(self.node)
        eventually(lambda: len(self.notes.lines("began")) == 2)
        self.seconds = float(self.notes.lines("began")[1][2]) - at


def test_m03_a_node_is_lost_without_a_word(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path
) -> None:
    """A node's cable is pulled: no reset, no end of the connection.

    After three missed heartbeats its task runs on another node. When the cable is back, the old
    manager is told, its late attempt is ended or its result dropped: there is one result.
    """
    endpoint.start()
    endpoint.await_managers(client, 2)
    lost = Lost(client, endpoint, tmp_path, "cut")
    record_figure("M3", "detection, heartbeats of 1 s", lost.seconds, "s")
    assert lost.seconds < 10 * 3 * HEARTBEAT_S
    assert is_running(lost.first)  # nobody can tell it
    endpoint.network.mend(lost.node)
    eventually(lambda: not is_running(lost.first))  # told at last: nothing runs for nobody
    endpoint.await_managers(client, 2)
    lost.gate.touch()
    assert client.get_result(lost.task, timeout=30) == "task"
    assert len(lost.notes.lines("ended")) == 1
    assert lost.notes.begun() == {"task": 2}


def test_m03_a_late_result_counts_if_it_is_the_first(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path
) -> None:
    """The cut-off attempt ends on its node; the second attempt is still at it when the link is
    back: the first one's result is taken, and the second attempt is ended."""
    endpoint.start(heartbeat_s=SHORT_S)
    endpoint.await_managers(client, 2)
    notes, gate = Notes(tmp_path / "notes"), tmp_path / "gate"

    def once(path: str, gate: str, run: object) -> str:
        import os
        import time

        with open(path, "a") as file:
            file.write(f"began task {os.getpid()} {time.monotonic():.6f}\n")
        with open(path) as file:
            mine = file.read().count("began")
        while not os.path.exists(gate if mine == 1 else gate + "-never"):
            time.sleep(0.01)
        return f"attempt {mine}"

    function = client.register_function(once)
    task = client.run(
        str(notes.path), str(gate), None, endpoint_id=endpoint.endpoint_id, function_id=function
    )
    eventually(lambda: notes.lines("began"))
    first = int(notes.lines("began")[0][1])
    node = endpoint.node_of(first)
    endpoint.network.cut(node)
    eventually(lambda: len(notes.lines("began")) == 2)
    second = int(notes.lines("began")[1][1])
    gate.touch()
    # The first attempt's worker is idle when it has ended: only its manager knows.
    eventually(lambda: psutil.Process(first).cpu_percent(0.1) == 0.0)
    endpoint.network.mend(node)
    assert client.get_result(task, timeout=30) == "attempt 1"
    eventually(lambda: not is_running(second))
    assert len(notes.lines("began")) == 2


@pytest.mark.parametrize("fault", ["deafen_hub", "deafen_node"])
def test_m04_both_sides_of_an_asymmetric_partition_agree(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path, fault: str
) -> None:
    """Packets pass in one direction alone: the interchange gives the node up, and the node looks
    for its interchange anew; the task runs elsewhere, and when both hear again there is one
    result."""
    endpoint.start(heartbeat_s=SHORT_S)
    endpoint.await_managers(client, 2)
    lost = Lost(client, endpoint, tmp_path, fault)
    name = "what the node says is lost" if fault == "deafen_hub" else "the node hears nothing"
    record_figure("M4", f"detection, heartbeats of {SHORT_S:g} s, {name}", lost.seconds, "s")
    assert lost.seconds < 10 * 3 * SHORT_S
    log = endpoint.directory.path / f"manager-{lost.node}.log"
    eventually(lambda: "the interchange is lost" in log.read_text())
    endpoint.network.hear(lost.node)
    eventually(lambda: not is_running(lost.first))
    endpoint.await_managers(client, 2)
    lost.gate.touch()
    assert client.get_result(lost.task, timeout=30) == "task"
    assert len(lost.notes.lines("ended")) == 1


@pytest.mark.load
def test_m03_with_heartbeats_as_they_come(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path
) -> None:
    """A silent node is noticed after three missed heartbeats of 5 s."""
    endpoint.start(heartbeat_s=5.0)
    endpoint.await_managers(client, 2)
    lost = Lost(client, endpoint, tmp_path, "cut")
    record_figure("M3", "detection, heartbeats of 5 s", lost.seconds, "s")
    lost.gate.touch()
    assert client.get_result(lost.task, timeout=30) == "task"


@pytest.mark.load
def test_m03_a_silent_node_is_waited_for_as_long_as_the_configuration_says(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path
) -> None:
    """`heartbeat_threshold: 60`: a node whose switch starts anew for 25 s is not given up."""
    endpoint.start_hub(heartbeat_s=5.0, missed_heartbeats=12)
    endpoint.start_node(0)
    endpoint.await_managers(client, 1)
    notes, gate = Notes(tmp_path / "notes"), tmp_path / "gate"
    task = client.run(
        str(notes.path),
        "task",
        until=str(gate),
        endpoint_id=endpoint.endpoint_id,
        function_id=client.register_function(note),
    )
    eventually(lambda: notes.lines("began"))
    back = time.monotonic() + 25.0
    endpoint.network.cut(0)
    eventually(lambda: time.monotonic() > back)
    assert "is gone" not in endpoint.log()
    endpoint.network.mend(0)
    gate.touch()
    assert client.get_result(task, timeout=40) == "task"
    # The end of its old connection may arrive a second before it has a new one: see COME_BACK_S.
    assert notes.begun()["task"] <= 2
