"""Containers that functions run in: registered, found, and part of what their tasks need."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, errors
from fxhpc.protocol.containers import Container
from fxhpc.protocol.needs import Needs, needs_of
from fxhpc.protocol.service import Submit

ENDPOINT = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
IMAGE = "registry.example.org/me/simulation:3"


def double(value: int) -> int:
    return 2 * value


def submitted(forwarder: FakeForwarder) -> list[Needs]:
    """What the tasks that were submitted need."""
    return [
        needs_of(part.info.needs)
        for message in forwarder.service.seen
        if isinstance(message, Submit)
        for part in message.submissions
    ]


def test_a_container_is_registered_and_found(client: FuncXClient) -> None:
    first = client.register_container(IMAGE, "Podman", "simulation", "with MPI")
    second = client.register_container("/images/a b.sif", "apptainer")
    found = client.get_container(uuid.UUID(first), "podman")
    assert {key: found[key] for key in ("container_uuid", "name", "type", "location")} == {
        "container_uuid": first,
        "name": "simulation",
        "type": "podman",
        "location": IMAGE,
    }
    assert found["description"] == "with MPI"
    assert [one["container_uuid"] for one in client.get_containers()] == [first, second]
    assert [one["container_uuid"] for one in client.get_containers("simulation")] == [first]


def test_a_container_that_nobody_knows(client: FuncXClient) -> None:
    nobodys = str(uuid.uuid4())
    with pytest.raises(errors.ContainerNotFound, match=f"{nobodys} not found.*get_containers"):
        client.register_function(double, container_uuid=nobodys)
    known = client.register_container(IMAGE, "podman")
    with pytest.raises(errors.ContainerNotFound, match="It is of podman, not of docker"):
        client.get_container(known, "docker")


@pytest.mark.parametrize(
    ("location", "kind", "said"),
    [
        (IMAGE, "shifter", "'shifter'; it is the command.*apptainer, docker, podman"),
        ("", "podman", "'', which is no image"),
        ("--privileged", "podman", "which is no image"),
        ("two\nlines", "podman", "which is no image"),
        ("x" * 1001, "podman", "which is no image"),
        ("images/sim.sif", "apptainer", "give the whole path of the image"),
        (3, "podman", "location"),
    ],
)
def test_what_is_no_container(client: FuncXClient, location: Any, kind: str, said: str) -> None:
    with pytest.raises(errors.UsageError, match=said):
        client.register_container(location, kind)


def test_tasks_of_a_function_need_its_container(
    client: FuncXClient, forwarder: FakeForwarder
) -> None:
    container = client.register_container(IMAGE, "podman")
    forwarder.service.teach(double)
    own = {"cores": 2}
    function = client.register_function(
        double, container_uuid=container, resource_specification=own
    )
    assert forwarder.service.records[function].container == container
    client.run(1, endpoint_id=ENDPOINT, function_id=function)
    batch = client.create_batch(resource_specification={"memory": "1GB"})
    batch.add(1, endpoint_id=ENDPOINT, function_id=function)
    client.batch_run(batch)
    plain, more = submitted(forwarder)
    assert plain == Needs(cores=2000, container=Container("podman", IMAGE))
    assert (more.cores, more.memory, more.container) == (2000, 2**30, plain.container)


def test_a_container_has_one_node(client: FuncXClient) -> None:
    container = client.register_container(IMAGE, "podman")
    needs = {"nodes": 2, "ranks": 4}
    with pytest.raises(errors.InvalidResourceSpecification, match="a container has one node"):
        client.register_function(double, container_uuid=container, resource_specification=needs)
    client.register_function(double, container_uuid=container, resource_specification={"ranks": 4})
    function = client.register_function(double, container_uuid=container)
    batch = client.create_batch(resource_specification=needs)
    batch.add(1, endpoint_id=ENDPOINT, function_id=function)
    with pytest.raises(errors.InvalidResourceSpecification, match=f"podman container of {IMAGE}"):
        client.batch_run(batch)


def test_an_executor_has_a_container(client: FuncXClient, forwarder: FakeForwarder) -> None:
    image = client.register_container(IMAGE, "podman")
    other = client.register_container("other:1", "podman")
    forwarder.service.teach(double)
    own = client.register_function(double, container_uuid=other)
    with Executor(client=client, endpoint_id=ENDPOINT, container_id=image.upper()) as executor:
        assert executor.container_id == image
        executor.submit(double, 1).result(10)
        executor.resource_specification = {"cores": 2}
        executor.submit(double, 1).result(10)
        executor.submit_to_registered_function(own, (1,)).result(10)
        with pytest.raises(
            errors.ContainerNotFound, match=r"nobodys not found.*register_container"
        ):
            executor.container_id = "nobodys"
        with pytest.raises(errors.InvalidResourceSpecification, match="one node"):
            executor.resource_specification = {"nodes": 2, "ranks": 2}
        assert executor.container_id == image
        executor.container_id = None
        executor.submit(double, 1).result(10)
    ran_in = [(needs.cores, needs.container) for needs in submitted(forwarder)]
    assert ran_in == [
        (0, Container("podman", IMAGE)),
        (2000, Container("podman", IMAGE)),
        (2000, Container("podman", "other:1")),
        (2000, None),
    ]
