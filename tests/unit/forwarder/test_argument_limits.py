"""Endpoints' own limits of arguments: clients hear of them, and are held to them."""

from __future__ import annotations

import msgspec
import pytest

from fxhpc import errors
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import endpoint_key
from fxhpc.protocol import service
from fxhpc.protocol.sizes import CHUNK_BYTES, EndpointLimits, SizeLimits
from tests.unit.forwarder.acting import ENDPOINT, KEY, OTHER, Stage, info

C, D = b"c", b"d"

LIMITS = SizeLimits(argument=5000, result=9000)
MIDWAY = EndpointLimits(ENDPOINT, "midway", LIMITS)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.core._state.endpoints[KEY].title = "midway"
    stage.attach(C)
    return stage


def limit(stage: Stage, limits: SizeLimits) -> None:
    stage.tell(ev.EndpointTold(KEY, "", limits=limits))


def test_a_client_hears_of_them_as_it_attaches_and_when_they_change(stage: Stage) -> None:
    assert stage.said(C, service.Attached)[-1].limits == []
    limit(stage, LIMITS)
    assert stage.said(C, service.Limits) == [service.Limits([MIDWAY])]
    limit(stage, LIMITS)  # as it is told again when the interchange has been away
    limit(stage, msgspec.structs.replace(LIMITS, result=0))  # which is nothing to a client
    assert len(stage.said(C, service.Limits)) == 1
    limit(stage, LIMITS)
    stage.attach(D)
    assert stage.said(D, service.Attached)[-1].limits == [MIDWAY]
    limit(stage, SizeLimits())
    assert [stage.said(peer, service.Limits)[-1].limits for peer in (C, D)] == [[], []]


def test_who_does_not_know_them_yet_is_refused_in_words(stage: Stage) -> None:
    limit(stage, LIMITS)
    stage.submit(C, 3, size=5001 + CHUNK_BYTES)
    (failed,) = stage.said(C, service.Failed)
    error = errors.error_named(failed.error, failed.arguments)
    assert isinstance(error, errors.PayloadTooLarge)
    assert (error.size, error.limit, error.endpoint) == (5001 + CHUNK_BYTES, 5000, "midway")
    assert "5,129 bytes" in str(error)
    assert "limit of 5,000 (`limits.argument` of endpoint midway). Nothing was sent." in str(error)
    stage.submit(C, 3, size=5000)
    assert stage.said(C, service.Done)
    assert stage.store.stored_tasks(info().stream) == 3


def test_what_is_accepted_stays_so_when_they_change(stage: Stage) -> None:
    """It is sent again, since the answer was lost."""
    stage.submit(C, 3, size=9000)
    limit(stage, LIMITS)
    stage.submit(C, 3, size=9000, call=2)
    assert stage.said(C, service.Done)[-1].call == 2
    stage.submit(C, 3, size=9000, first=3, call=3)
    assert stage.said(C, service.Failed)[-1].call == 3


@pytest.mark.parametrize("who", ["endpoint", "client"])
def test_where_larger_ones_go_apart_nobody_is_refused(stage: Stage, who: str) -> None:
    limit(stage, msgspec.structs.replace(LIMITS, spill=who == "endpoint"))
    stage.submit(C, 1, msgspec.structs.replace(info(), spill=who == "client"), size=90_000)
    assert stage.said(C, service.Done)


def test_other_endpoints_have_no_part_in_it(stage: Stage) -> None:
    limit(stage, LIMITS)
    other = "5a4e0000-0000-4000-8000-000000000002"
    stage.tell(ev.EndpointKnown(other), ev.EndpointTold(endpoint_key(other), ""))
    stage.submit(C, 1, info(endpoint=other), size=90_000)
    stage.submit(C, 1, info(OTHER, endpoint="4b116d3c-1703-4f8f-9f6f-39921e5864df"), size=90_000)
    assert len(stage.said(C, service.Done)) == 2
    unknown = "5a4e0000-0000-4000-8000-00000000dead"
    stage.submit(C, 1, info(b"unknown-----", endpoint=unknown), size=90_000)
    assert stage.said(C, service.Failed)[-1].error == "EndpointNotFound"
