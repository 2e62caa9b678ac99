"""Clients on other hosts, which have no process and no `local` here: what waits for them."""

from __future__ import annotations

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.attaching import AFAR_S
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from tests.unit.forwarder.acting import STREAM, Stage, info

NAMED = "5a4e0000-0000-4000-8000-000000000002"
FAR, AGAIN, HERE = b"far", b"again", b"here"


def attach(stage: Stage, peer: bytes, streams: list[bytes] | None = None) -> None:
    message = service.Attach(FAR, b"", 0, "laptop", 0.0, "1", streams=streams or [])
    stage.client(peer, message)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.tell(ev.EndpointKnown(NAMED, "midway"))
    attach(stage, FAR)
    return stage


def test_it_has_no_local(stage: Stage) -> None:
    assert not [one for one in stage.actions if isinstance(one, ev.OpenLocal)]
    stage.client(FAR, service.GetStatus(3, LOCAL_ENDPOINT))
    (failed,) = stage.said(FAR, service.Failed)
    assert (failed.call, failed.error) == (3, "EndpointNotFound")


def test_work_of_a_local_is_not_run_for_it(stage: Stage) -> None:
    stage.attach(HERE)
    stage.submit(HERE, 2, info(endpoint=LOCAL_ENDPOINT))
    stage.client(HERE, msg.Bye("closed"))
    stage.tell(ev.LocalClosed(b"local:" + HERE))
    stage.clear()
    stage.fetch(FAR, [0, 1])
    stage.client(FAR, service.Resume(9))
    assert not stage.said(FAR, service.NeedLocal)
    assert stage.core._state.streams[STREAM].owner == b"local:" + HERE


def test_it_names_endpoints_as_people_do(stage: Stage) -> None:
    stage.client(FAR, service.GetStatus(3, "midway"))
    (status,) = stage.said(FAR, service.EndpointStatus)
    assert (status.endpoint, status.name) == (NAMED, "midway")


def test_its_work_waits_while_it_is_away(stage: Stage) -> None:
    stage.submit(FAR, 2, info(keep=False))
    stage.up()
    for _ in range(3):
        stage.tick(AFAR_S)  # whoever watches its connection says when it is gone
    stage.finish([0, 1])
    stage.clear()
    attach(stage, AGAIN, [STREAM])
    assert [run.stream for push in stage.said(AGAIN, service.Push) for run in push.runs] == [STREAM]


def test_its_work_ends_with_it(stage: Stage) -> None:
    stage.submit(FAR, 2, info(keep=False))
    stage.tell(ev.ClientGone(FAR))
    assert not stage.core.knows_stream(STREAM)


def test_after_a_restart_it_is_waited_for(stage: Stage) -> None:
    stage.submit(FAR, 2, info(keep=False))
    after = Stage(stage.store)
    after.tick(0.5)
    after.tick(AFAR_S / 2)
    attach(after, AGAIN, [STREAM])
    after.tick(AFAR_S)
    assert after.core.knows_stream(STREAM)
    assert not after.said(AGAIN, service.Forgotten)


def test_after_a_restart_it_is_not_waited_for_ever(stage: Stage) -> None:
    stage.submit(FAR, 2, info(keep=False))
    after = Stage(stage.store)
    after.tick(0.5)
    after.tick(AFAR_S + 1)
    assert not after.core.knows_stream(STREAM)
