"""Nodes that vanish without a word: links that are cut, in both directions or in one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
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


def first_is_slow(path: str, gate: str) -> str:
    """Its first run ends when there is a gate; a later one does not end by itself."""
    import os
    import time

    with open(path, "a") as file:
        file.write(f"began task {os.getpid()} {time.monotonic():.6f}\n")
    with open(path) as file:
        mine = file.read().count("began")
    while not os.path.exists(gate if mine == 1 else gate + "-never"):
        time.sleep(0.01)
    return f"attempt {mine}"


def late_result(
    client: FuncXClient,
    endpoint: ScatteredEndpoint,
    tmp_path: Path,
    lose: Callable[[int], None],
    come_back: Callable[[int], None],
) -> tuple[int, float]:
    """A node cannot be heard while its task ends there, and comes back while the next attempt is
    still at it elsewhere: the first one's result is taken, and the second attempt is ended.

    Returns the node, and the seconds until the second attempt began.
    """
    endpoint.start(heartbeat_s=SHORT_S)
    endpoint.await_managers(client, 2)
    notes, gate = Notes(tmp_path / "notes"), tmp_path / "gate"
    function = client.register_function(first_is_slow)
    task = client.run(
        str(notes.path), str(gate), endpoint_id=endpoint.endpoint_id, function_id=function
    )
    eventually(lambda: notes.lines("began"))
    first = int(notes.lines("began")[0][1])
    node = endpoint.node_of(first)
    at = time.monotonic()
    lose(node)
    eventually(lambda: len(notes.lines("began")) == 2)
    took = float(notes.lines("began")[1][2]) - at
    second = int(notes.lines("began")[1][1])
    gate.touch()
    # The first attempt's worker is idle when it has ended: only its manager knows.
    eventually(lambda: psutil.Process(first).cpu_percent(0.1) == 0.0)
    come_back(node)
    assert client.get_result(task, timeout=30) == "attempt 1"
    eventually(lambda: not is_running(second))
    assert len(notes.lines("began")) == 2
    return node, took


def test_m03_a_late_result_counts_if_it_is_the_first(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path
) -> None:
    """The cut-off attempt ends on its node, whose cable is plugged in again later."""
    late_result(client, endpoint, tmp_path, endpoint.network.cut, endpoint.network.mend)


def test_m06_a_manager_that_stands_still_while_its_kernel_answers(
    client: FuncXClient, endpoint: ScatteredEndpoint, tmp_path: Path
) -> None:
    """SIGSTOP: its node's kernel takes and acknowledges all that is sent to it, and its workers go
    on. It goes on when others have its task: its result counts, and it serves as before.
    """

    def signals(number: signal.Signals) -> Callable[[int], None]:
        return lambda node: endpoint.managers[node].send_signal(number)

    stop, go_on = signals(signal.SIGSTOP), signals(signal.SIGCONT)
    node, took = late_result(client, endpoint, tmp_path, stop, go_on)
    name = f"SIGSTOP on a node until its task runs on another, 3 x {SHORT_S} s"
    record_figure("M6", name, took, "s")
    assert took < 10 * 3 * SHORT_S
    endpoint.managers[1 - node].terminate()
    endpoint.await_managers(client, 1)
    function = client.register_function(os.getpid)
    task = client.run(endpoint_id=endpoint.endpoint_id, function_id=function)
    assert endpoint.node_of(client.get_result(task, timeout=30)) == node


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
