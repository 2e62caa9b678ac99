"""Tasks of which it is certain that no node can ever run them are refused; others may wait."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc.errors import ResourcesTooLarge
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.containers import Container
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack
from tests.unit.forwarder.acting import ENDPOINT, KEY, Stage

C = b"client"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    return stage


ONE_GPU = Size((Cell(UNIT),) * 4, 1, 8 << 30)


def refused(stage: Stage, stream: bytes, **needs: Any) -> list[service.Failed]:
    stage.clear()
    stage.submit(C, 1, msg.StreamInfo(stream, ENDPOINT, b"f" * 32, needs=pack(Needs(**needs))))
    return stage.said(C, service.Failed)


def reason(stage: Stage, stream: bytes) -> str:
    """What its first task waits for."""
    stage.clear()
    stage.client(C, service.Fetch(10, [service.StreamRanges(stream, [0, 1])], 0.0, 0))
    (answer,) = stage.said(C, service.States)
    return answer.streams[0].states[0].reason


def test_what_the_configuration_says_is_certain(stage: Stage) -> None:
    assert not refused(stage, b"stream-a----", gpus=2 * UNIT)  # nobody knows what it has
    stage.up()
    details = {"accelerators_in_all": 1, "cores_per_node": 8, "memory_for_tasks": 4 << 30}
    stage.interchange(msg.Status(0, 0, 0, 1, 0, report=msg.EndpointReport(details=details)))
    assert not refused(stage, b"stream-b----", gpus=UNIT, cores=8 * UNIT)
    (failed,) = refused(stage, b"stream-c----", gpus=2 * UNIT)
    assert failed.error == "ResourcesTooLarge"
    assert failed.arguments == [
        ENDPOINT,
        "2 accelerators",
        "1 accelerator (available_accelerators)",
    ]
    (failed,) = refused(stage, b"stream-d----", cores=9 * UNIT)
    assert "9 cores on one node" in str(ResourcesTooLarge(*failed.arguments))
    details["cores_for_tasks"] = 6.0
    stage.interchange(msg.Status(0, 0, 0, 1, 0, report=msg.EndpointReport(details=details)))
    assert not refused(stage, b"stream-g----", cores=6 * UNIT)
    (failed,) = refused(stage, b"stream-h----", cores=7 * UNIT)
    told = str(ResourcesTooLarge(*failed.arguments))
    assert "where a node has 6 cores for tasks" in told
    assert "give it more workers (max_workers_per_node" in told
    assert not refused(stage, b"stream-e----", memory=4 << 30)
    (failed,) = refused(stage, b"stream-f----", memory=5 << 30)
    assert "has 4.0 GB of memory for tasks" in str(ResourcesTooLarge(*failed.arguments))
    # What was accepted before goes on.
    stage.clear()
    stream = msg.StreamInfo(b"stream-a----", ENDPOINT, b"f" * 32, needs=pack(Needs(gpus=2 * UNIT)))
    stage.submit(C, 1, stream, first=1, call=2)
    assert not stage.said(C, service.Failed)


def test_as_many_nodes_as_a_block_has(stage: Stage) -> None:
    stage.up()
    report = msg.EndpointReport(details={"nodes_per_block": 2})
    stage.interchange(msg.Status(0, 0, 0, 1, 0, report=report))
    assert not refused(stage, b"stream-a----", nodes=2)
    (failed,) = refused(stage, b"stream-b----", nodes=3, cores=UNIT)
    told = str(ResourcesTooLarge(*failed.arguments))
    assert "3 whole nodes with 1 core each on one block" in told
    assert "a block has 2 nodes (nodes_per_block)" in told
    stage.interchange(msg.Status(1, 4, 4, 0, 0, report=msg.EndpointReport(only=ONE_GPU)))
    (failed,) = refused(stage, b"stream-c----", nodes=2)
    assert failed.arguments[2:] == ["1 node", "block"]


def test_the_node_of_a_lone_manager_is_certain(stage: Stage) -> None:
    stage.up()
    stage.interchange(msg.Status(1, 4, 4, 0, 0, report=msg.EndpointReport(only=ONE_GPU)))
    assert not refused(stage, b"stream-a----", cores=4 * UNIT, gpus=UNIT)
    assert not refused(stage, b"stream-c----", labels=("host:n1",)), "it does not tell its labels"
    report = msg.EndpointReport(only=ONE_GPU, labels=["host:n1"])
    stage.interchange(msg.Status(1, 4, 4, 0, 0, report=report))
    assert not refused(stage, b"stream-d----", labels=("host:n1",))
    (failed,) = refused(stage, b"stream-e----", labels=("fat",))
    assert failed.arguments[1:3] == ["the label 'fat'", "the label 'host:n1'"]
    told = str(ResourcesTooLarge(*failed.arguments))
    assert told.endswith(
        "Submit them to an endpoint whose nodes have it (`labels` of its configuration)."
    )
    (failed,) = refused(stage, b"stream-b----", cores=5 * UNIT)
    assert failed.arguments[1:3] == ["5 cores", "4 cores, 1 accelerator and 8.0 GB of memory"]
    assert "more workers (max_workers of an Executor" in str(ResourcesTooLarge(*failed.arguments))


def test_the_more_urgent_leaves_first(stage: Stage) -> None:
    later = pack(Needs(priority=200 * UNIT))
    urgent = pack(Needs(priority=1 * UNIT))
    stage.submit(C, 3, msg.StreamInfo(b"later-------", ENDPOINT, b"f" * 32, needs=later))
    stage.submit(C, 3, msg.StreamInfo(b"any---------", ENDPOINT, b"f" * 32), call=2)
    stage.submit(C, 3, msg.StreamInfo(b"urgent------", ENDPOINT, b"f" * 32, needs=urgent), call=3)
    stage.up(tasks=5)
    sent = [(run.stream, len(run.payloads)) for run in stage.runs(KEY)]
    assert sent[:2] == [(b"urgent------", 3), (b"any---------", 2)]


def test_what_a_size_waits_for_is_told_of_its_tasks_alone(stage: Stage) -> None:
    big = pack(Needs(cores=4 * UNIT))
    stage.submit(C, 1, msg.StreamInfo(b"big---------", ENDPOINT, b"f" * 32, needs=big))
    stage.submit(C, 1, msg.StreamInfo(b"any---------", ENDPOINT, b"f" * 32), call=2)
    stage.up()
    why = "waits for 4 cores on one node: node3 is being emptied for it, 2 of 4 cores are free"
    report = msg.EndpointReport(waiting=[msg.WaitingReport(big, 1, why)])
    stage.interchange(msg.Status(1, 4, 1, 2, 3, report=report))
    assert reason(stage, b"big---------") == why
    assert "on its way" in reason(stage, b"any---------")


def test_what_no_block_is_asked_for_is_told_where_none_is(stage: Stage) -> None:
    big = pack(Needs(cores=9 * UNIT))
    stage.submit(C, 1, msg.StreamInfo(b"big---------", ENDPOINT, b"f" * 32, needs=big))
    stage.submit(C, 1, msg.StreamInfo(b"any---------", ENDPOINT, b"f" * 32), call=2)
    stage.up()
    why = "needs 9 cores on one node, and no more blocks are asked for that"
    report = msg.EndpointReport(waiting=[msg.WaitingReport(big, 1, why)])
    stage.interchange(msg.Status(0, 0, 0, 2, 0, reason="block 2 is coming", report=report))
    assert reason(stage, b"big---------") == why
    assert reason(stage, b"any---------") == "block 2 is coming"


def test_containers_that_no_node_can_have(stage: Stage) -> None:
    needs = {"container": Container("podman", "mine/a:1")}
    assert not refused(stage, b"stream-a----", **needs)  # nobody knows what it has
    stage.up()
    for number, (details, certain) in enumerate(
        (
            ({"containers": ["podman *"]}, False),
            ({"containers": ["docker *", "podman mine/*"]}, False),
            ({"containers": ["docker *"]}, True),
            ({"containers": []}, True),
            ({"cores_per_node": 4}, True),  # a version that knows no containers
        )
    ):
        report = msg.EndpointReport(details=details)
        stage.interchange(msg.Status(0, 0, 0, 1, 0, report=report))
        assert bool(refused(stage, b"stream-%d----" % number, **needs)) is certain
        assert not refused(stage, b"stream-c----", cores=UNIT)
    report = msg.EndpointReport(details={"containers": ["podman yours/*"]})
    stage.interchange(msg.Status(0, 0, 0, 1, 0, report=report))
    (failed,) = refused(stage, b"stream-b----", **needs)
    told = str(ResourcesTooLarge(*failed.arguments))
    assert "need the podman container of mine/a:1 on one node" in told
    assert "a node has containers of podman with the images yours/* alone" in told
    assert "allow that image (`containers` in its configuration)" in told
    assert "Ask for less" not in told


def test_a_lone_node_without_the_runtime(stage: Stage) -> None:
    stage.up()
    size = Size((Cell(UNIT),), containers=("docker *",))
    stage.interchange(msg.Status(0, 1, 1, 1, 0, report=msg.EndpointReport(only=size)))
    assert not refused(stage, b"stream-a----", container=Container("docker", "img"))
    (failed,) = refused(stage, b"stream-b----", container=Container("podman", "img"))
    assert "where a node has containers of docker" in str(ResourcesTooLarge(*failed.arguments))
