"""Containers that are registered: stored, and told of when they are."""

from __future__ import annotations

import msgspec

from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.containers import Container
from fxhpc.protocol.needs import Needs, pack
from tests.unit.forwarder.acting import ENDPOINT, STREAM, Stage, info

C = b"client"


def reason(stage: Stage) -> str:
    stage.clear()
    stage.client(C, service.Fetch(7, [service.StreamRanges(STREAM, [0, 1])]))
    (answer,) = stage.said(C, service.States)
    return answer.streams[0].states[0].reason


def test_a_task_that_is_about_to_run_in_a_container_says_so() -> None:
    stage = Stage()
    stage.attach(C)
    needs = pack(Needs(container=Container("podman", "img:1")))
    stage.submit(C, 1, msgspec.structs.replace(info(), needs=needs))
    assert "podman" not in reason(stage)  # its endpoint is not there
    stage.up()
    stage.interchange(msg.Status(1, 2, 2, 1, 0))
    assert reason(stage) == (
        f"on its way to a worker of endpoint {ENDPOINT}; it runs in the podman container of "
        f"img:1, which may have to be fetched and started first"
    )
    waits = msg.WaitingReport(needs, 1, "waits for a worker")
    report = msg.EndpointReport(waiting=[waits])
    stage.interchange(msg.Status(1, 2, 2, 1, 0, report=report))
    assert reason(stage) == "waits for a worker"


def test_registered_containers_are_stored_and_told() -> None:
    stage = Stage()
    stage.attach(C)
    records = [
        service.ContainerRecord(name, Container("podman", f"img:{name}"), f"the {name}")
        for name in ("a", "b")
    ]
    for call, record in enumerate(records):
        stage.client(C, service.RegisterContainer(call, record))
    assert [done.call for done in stage.said(C, service.Done)] == [0, 1]
    stage.client(C, service.GetContainers(2))
    stage.client(C, service.GetContainers(3, ["nobody's", "b"]))
    every, one = stage.said(C, service.Containers)
    assert (every.call, every.records) == (2, records)
    assert (one.call, one.records) == (3, records[1:])
