"""Messages that go in parts: whole again at the other end, or not there at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxhpc.protocol import messages as msg
from fxhpc.protocol.codec import FROM_MANAGER, TO_MANAGER
from fxhpc.protocol.link import Envelope
from fxhpc.transport import parts as parts_module
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.authenticator import Authenticator
from fxhpc.transport.curve import CurveClient, CurveServer
from fxhpc.transport.keys import new_keys
from fxhpc.transport.opener import Opener
from fxhpc.transport.parts import PART_BYTES, Assembly, is_large, is_part, split
from fxhpc.transport.tcp_sockets import dealer, make_context, router
from tests.waiting import readable

_FRAMES = [b"head", b"x" * 200_000, b"", b"y" * PART_BYTES, b"z" * 70_001, b""]


def _parts(frames: list[bytes]) -> list[list[bytes]]:
    return [[bytes(piece) for piece in part] for part in split(frames)]


@pytest.mark.parametrize(
    "frames", [_FRAMES, [b"x"], [b""], [b"", b""], [b"a" * PART_BYTES], [b"a", b"b" * PART_BYTES]]
)
def test_a_message_is_whole_with_its_last_part(frames: list[bytes]) -> None:
    parts = _parts(frames)
    assembly = Assembly()
    if not any(frames):  # nothing of this size is ever split
        return
    assert all(map(is_part, parts))
    assert not is_part(FROM_MANAGER.encode(Envelope(1, 2, msg.Heartbeat())))
    for _ in range(2):
        assert [assembly.add(part) for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert assembly.add(parts[-1]) == frames


def test_parts_are_small_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_large([b"x" * PART_BYTES])
    assert is_large(_FRAMES)
    assert max(sum(map(len, part)) for part in _parts(_FRAMES)) < PART_BYTES + 100
    monkeypatch.setattr(parts_module, "MOST_PARTS", 10)
    huge = [b"x" * (20 * PART_BYTES)]
    assert sum(1 for _ in split(huge)) <= 10 + 2


def test_a_message_of_which_a_part_is_missing_or_bad_is_not_there() -> None:
    parts = _parts(_FRAMES)
    for lost in range(len(parts)):
        assembly = Assembly()
        found = [assembly.add(part) for at, part in enumerate(parts) if at != lost]
        assert not any(found)
        assert [assembly.add(part) for part in parts][-1] == _FRAMES
    other = _parts(_FRAMES)
    mixed = [assembly.add(part) for pair in zip(parts, other, strict=True) for part in pair]
    assert not any(mixed)
    for bad in ([parts[1][0], b""], [parts[1][0], b"x" * (1 << 20)], [parts[1][0]]):
        assembly = Assembly()
        found = [assembly.add(part) for part in (parts[0], bad, *parts[2:])]
        assert not any(found)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), max_size=8), st.data())
def test_nothing_that_comes_in_does_any_harm(noise: list[list[bytes]], data: st.DataObject) -> None:
    heads = [part[0] for part in _parts(_FRAMES)]
    assembly = Assembly()
    for pieces in noise:
        part = [data.draw(st.sampled_from(heads)), *pieces]
        assert assembly.add(part) is None
    assert [assembly.add(part) for part in _parts(_FRAMES)][-1] == _FRAMES


@pytest.fixture
def link() -> Iterator[tuple[Acceptor[msg.FromManager], Opener[msg.ToManager], Authenticator]]:
    """Both sides of a link over tcp."""
    context = make_context()
    endpoint, manager = new_keys("endpoint"), new_keys("manager")
    authenticator = Authenticator(context)
    authenticator.allow("managers", {manager.public: "manager"})
    server = router(context, "tcp://127.0.0.1:*", curve=CurveServer(endpoint, "managers"))
    client = dealer(context, server.address, curve=CurveClient(manager, endpoint.public))
    yield (
        Acceptor(server, FROM_MANAGER, msg.Register),
        Opener(client, TO_MANAGER),
        authenticator,
    )
    authenticator.close()
    client.close(0)
    server.close(0)
    context.term()


def test_what_has_arrived_of_a_message_says_that_its_sender_lives(
    link: tuple[Acceptor[msg.FromManager], Opener[msg.ToManager], Authenticator],
) -> None:
    acceptor, opener, authenticator = link
    body = msg.Body(b"digest", b"x" * 4_000_000)
    opener.greet(msg.Register("manager", b"", 1, ""))
    assert authenticator.socket.poll(5_000)
    authenticator.handle()
    said: list[msg.FromManager] = []
    while not said:
        assert readable(acceptor.socket)
        said += [message for _, message in acceptor.receive()]
    (peer,) = acceptor.peers()
    assert acceptor.send(peer, body)
    assert acceptor.send(peer, msg.Drain())
    heard: list[msg.ToManager] = []
    while msg.Drain() not in heard:
        assert readable(opener.socket)
        heard += opener.receive()
    assert heard[-2:] == [body, msg.Drain()]
    assert msg.Heartbeat() in heard[:-2]
    assert not opener.broken
