"""Calls that name a group or an endpoint of which nothing is known are refused, and do nothing."""

from __future__ import annotations

import msgspec
import pytest

from fxhpc.forwarder import events as ev
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import service
from tests.unit.forwarder.acting import ENDPOINT, KEY, STREAM, Stage, info

C = b"c"
GROUP = "5a4e0000-0000-4000-8000-00000000000a"
NOBODYS = "5a4e0000-0000-4000-8000-0000000000ff"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    stage.submit(C, 2, msgspec.structs.replace(info(), group=GROUP))
    stage.clear()
    return stage


def refused(stage: Stage, message: service.FromClient) -> tuple[str, list[str]] | None:
    stage.clear()
    stage.client(C, message)
    found = stage.said(C, service.Failed)
    return (found[0].error, found[0].arguments) if found else None


@pytest.mark.parametrize("name", [NOBODYS, "nonsense"])
def test_a_group_that_nobody_knows(stage: Stage, name: str) -> None:
    asked = service.StreamRanges(STREAM, [0, 2])
    assert refused(stage, service.CancelTasks(8, [asked], groups=[name])) == (
        "TaskGroupNotFound",
        [name],
    )
    assert stage.core._state.streams[STREAM].pending == 2  # not the tasks that are named, either
    for message in (
        service.PurgeTasks(9, group=name, pending=True),
        service.PurgeTasks(9, group=name, dry_run=True),
    ):
        assert refused(stage, message) == ("TaskGroupNotFound", [name])
    assert refused(stage, service.PurgeTasks(9, group=GROUP)) is None
    assert refused(stage, service.CancelTasks(8, [], groups=[GROUP])) is None
    stage.client(C, service.PurgeTasks(9, group=GROUP))
    assert refused(stage, service.CancelTasks(8, [], groups=[GROUP])) is not None  # all is gone


@pytest.mark.parametrize("name", [NOBODYS, "nonsense"])
def test_an_endpoint_that_nobody_knows(stage: Stage, name: str) -> None:
    for message in (
        service.ListTasks(7, name),
        service.PurgeTasks(7, endpoint=name),
    ):
        assert stage.core.awaited(message) <= {name}
        assert refused(stage, message) == ("EndpointNotFound", [name])
    assert stage.core.awaited(service.GetStatus(7, name)) == {name}
    words = f"The home has {ENDPOINT}. Make one on its host: fxhpc endpoint configure NAME."
    told = [name] if name == NOBODYS else [name, words]  # it may be meant as an endpoint's name
    assert refused(stage, service.GetStatus(7, name)) == ("EndpointNotFound", told)
    for known in (ENDPOINT, LOCAL_ENDPOINT, ""):
        assert refused(stage, service.ListTasks(7, known)) is None
        assert refused(stage, service.PurgeTasks(7, endpoint=known, dry_run=True)) is None


def test_one_that_was_deleted_is_known_while_it_has_tasks(stage: Stage) -> None:
    stage.tell(ev.EndpointTold(KEY, "endpoint midway was deleted", deleted=True))
    assert refused(stage, service.ListTasks(7, ENDPOINT)) is None
    stage.client(C, service.PurgeTasks(8, pending=True))
    assert refused(stage, service.ListTasks(9, ENDPOINT)) == ("EndpointNotFound", [ENDPOINT])
