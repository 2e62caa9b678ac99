"""Endpoints' own limits of arguments, as clients keep to them without asking."""

from __future__ import annotations

from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, errors
from fxhpc.client.sending.sizes import KnownLimits
from fxhpc.protocol import service
from fxhpc.protocol.sizes import CHUNK_BYTES, EndpointLimits, SizeLimits
from fxhpc.serialize import ArgumentPacker
from fxhpc.serialize.sharing import SharedPayload

MIDWAY = "5a4e0000-0000-4000-8000-000000000001"
OTHER = "5a4e0000-0000-4000-8000-000000000002"


def known(limit: int = 5000, *, spill: bool = False) -> KnownLimits:
    limits = KnownLimits()
    limits.tell([EndpointLimits(MIDWAY, "midway", SizeLimits(argument=limit, spill=spill))])
    return limits


def packed(*args: Any) -> bytes:
    return ArgumentPacker().pack(args, {}, 2**30)


def test_what_is_no_larger_goes_as_it_is() -> None:
    payloads = [packed(b"x" * size) for size in (1, 4000, 4900)]
    assert known().fit(MIDWAY, payloads, False) == payloads
    large = [packed(b"x" * 90_000)]
    assert known().fit(OTHER, large, False) is large
    assert KnownLimits().fit(MIDWAY, large, False) is large


def test_what_is_larger_is_refused_in_words() -> None:
    with pytest.raises(errors.PayloadTooLarge) as caught:
        known().fit(MIDWAY, [packed(1), packed(b"x" * 6000)], False)
    error = caught.value
    assert (error.limit, error.option, error.endpoint) == (5000, "limits.argument", "midway")
    assert error.size > 6000
    assert "(`limits.argument` of endpoint midway). Nothing was sent." in str(error)
    assert "`on_exceed: spill`" in str(error)


def test_what_lies_apart_counts() -> None:
    packer = ArgumentPacker()
    shared = b"x" * 90_000
    for _ in range(3):
        payload = packer.pack((shared,), {}, 2**30)
    assert isinstance(payload, SharedPayload)
    assert len(payload) < 4000
    with pytest.raises(errors.PayloadTooLarge, match="bytes"):
        known().fit(MIDWAY, [payload], False)
    assert known(100_000).fit(MIDWAY, [payload], False) == [payload]


@pytest.mark.parametrize("who", ["endpoint", "client"])
def test_what_is_larger_goes_apart_where_either_says_so(who: str) -> None:
    small, large = packed(1), packed(b"x" * 6000)
    limits = known(spill=who == "endpoint")
    found = limits.fit(MIDWAY, [small, large], who == "client")
    assert found[0] is small
    assert isinstance(found[1], SharedPayload)
    assert len(found[1]) < 1000


@pytest.mark.parametrize(
    ("limits", "given", "found"),
    [
        (known(), (9000, False), (5000, False)),
        (known(), (3000, False), (3000, False)),
        (known(spill=True), (9000, False), (5000, True)),
        (known(spill=True), (3000, False), (3000, False)),
        (known(), (9000, True), (5000, True)),
        (KnownLimits(), (9000, False), (9000, False)),
    ],
)
def test_of_two_limits_the_smaller_one_counts(
    limits: KnownLimits, given: tuple[int, bool], found: tuple[int, bool]
) -> None:
    assert limits.of(MIDWAY, *given) == found


# --- with a forwarder ---------------------------------------------------------------------------


def limited(forwarder: FakeForwarder, *users: Any, spill: bool = False) -> None:
    """Have the forwarder tell of an endpoint's limit, which these use then."""
    forwarder.service.endpoints.add(MIDWAY)
    forwarder.service.hold = True
    told = EndpointLimits(MIDWAY, "midway", SizeLimits(argument=5000, spill=spill))
    for connection in users:
        forwarder.do(lambda connection=connection: connection._dispatch(service.Limits([told])))


def sent(forwarder: FakeForwarder) -> list[bytes]:
    return [task.payload for known in forwarder.service.tasks.values() for task in known.values()]


@pytest.fixture
def at_midway(client: FuncXClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> FuncXClient:
    monkeypatch.setattr(client, "_home", tmp_path)
    client.retries = 0
    return client


def test_a_client_sends_nothing_that_is_too_large(
    at_midway: FuncXClient, forwarder: FakeForwarder
) -> None:
    client = at_midway
    limited(forwarder, client._attached().connection)
    place = {"endpoint_id": MIDWAY, "function_id": client.register_function(len)}
    client.run(b"x" * 4000, **place)
    with pytest.raises(errors.PayloadTooLarge, match="of endpoint midway"):
        client.run(b"x" * 6000, **place)
    with pytest.raises(errors.PayloadTooLarge, match="of endpoint midway"):
        client.map_run([b"x", b"x" * 6000], **place)
    batch = client.create_batch()
    batch.add(b"x", **place)
    batch.add(b"x" * 6000, **place)
    with pytest.raises(errors.PayloadTooLarge, match="of endpoint midway"):
        client.batch_run(batch)
    client.run(b"x" * 4000, **place)  # the stream of calls has no gap
    assert len(sent(forwarder)) == 2
    client.on_exceed = "spill"
    client.batch_run(batch)
    assert len(sent(forwarder)) == 4


def test_a_client_sends_apart_what_is_to_go_apart(
    at_midway: FuncXClient, forwarder: FakeForwarder
) -> None:
    client = at_midway
    limited(forwarder, client._attached().connection, spill=True)
    place = {"endpoint_id": MIDWAY, "function_id": client.register_function(len)}
    before = len(forwarder.service.bodies)
    client.run(b"x" * 6000, **place)
    client.map_run([b"x", b"y" * 6000, b"z" * 90_000], **place)
    assert len(forwarder.service.bodies) == before + 3
    assert max(map(len, sent(forwarder))) < 1000


def test_an_executor_refuses_at_once_and_nobody_else_suffers(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    executor._submitter.endpoint = MIDWAY
    limited(forwarder, executor._submitter.attachment().connection)
    forwarder.service.teach(len)
    forwarder.service.hold = False
    first = executor.submit(len, b"x")
    with pytest.raises(errors.PayloadTooLarge, match="of endpoint midway"):
        executor.submit(len, b"x" * 6000)
    for chunksize in (1, 2):
        with pytest.raises(errors.PayloadTooLarge, match="of endpoint midway"):
            executor.map(len, [b"x", b"x" * 6000], chunksize=chunksize)
    assert [first.result(10), executor.submit(len, b"xx").result(10)] == [1, 2]


def test_chunks_are_as_large_as_the_endpoint_wants_them(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    executor._submitter.endpoint = MIDWAY
    limited(forwarder, executor._submitter.attachment().connection)
    values = executor.map(len, [bytes([n]) * 1000 for n in range(16)], chunksize=16)
    forwarder.do(lambda: None)
    assert [4000 < len(payload) < 5000 + CHUNK_BYTES for payload in sent(forwarder)] == [True] * 4
    values.close()


def test_chunks_of_a_client_too(at_midway: FuncXClient, forwarder: FakeForwarder) -> None:
    client = at_midway
    client.retries = 2
    limited(forwarder, client._attached().connection)
    place = {"endpoint_id": MIDWAY, "function_id": client.register_function(len), "chunksize": 16}
    client.map_run([bytes([n]) * 1000 for n in range(16)], **place)
    assert [4000 < len(payload) < 5000 + CHUNK_BYTES for payload in sent(forwarder)] == [True] * 4
    with pytest.raises(errors.PayloadTooLarge, match="of endpoint midway"):
        client.map_run([b"x", b"x" * 6000], **place)
    client.max_payload = 4500
    with pytest.raises(errors.PayloadTooLarge, match="`max_payload` of the FuncXClient"):
        client.map_run([b"x", b"x" * 4600], **place)


def test_an_executor_sends_apart_what_is_to_go_apart(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    executor._submitter.endpoint = MIDWAY
    limited(forwarder, executor._submitter.attachment().connection, spill=True)
    executor.submit(len, b"x" * 6000)
    executor.map(len, [b"x", b"y" * 6000]).futures  # noqa: B018
    forwarder.do(lambda: None)
    assert max(map(len, sent(forwarder))) < 1000


@pytest.mark.parametrize("told", [True, False])
def test_as_it_attaches_a_client_hears_of_them_anew(told: bool) -> None:
    limits = known()
    limits.tell([EndpointLimits(OTHER, "other", SizeLimits(argument=5000))] if told else [])
    assert limits.of(MIDWAY, 9000, False) == (9000, False)
    assert limits.of(OTHER, 9000, False) == (5000 if told else 9000, False)
