"""Which forwarder an interchange speaks with, and when that one counts as away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fxhpc.interchange import events as ev
from fxhpc.interchange import forwarder_link
from fxhpc.interchange.forwarder_link import SILENCE_S, ForwarderLink
from fxhpc.protocol import messages as msg

ONE, TWO = b"one", b"two"


class Wire:
    """In the place of an acceptor."""

    def __init__(self) -> None:
        self.came: list[tuple[bytes, Any]] = []
        self.said: list[tuple[bytes, Any]] = []
        self.forgotten: list[bytes] = []
        self.works = True

    def receive(self) -> list[tuple[bytes, Any]]:
        came, self.came = self.came, []
        return came

    def send(self, peer: bytes, message: Any) -> bool:
        self.said.append((peer, message))
        return self.works

    def forget(self, peer: bytes) -> None:
        self.forgotten.append(peer)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def link(wire: Wire) -> ForwarderLink:
    acceptor: Any = wire
    return ForwarderLink(acceptor)


def hear(link: ForwarderLink, wire: Wire, peer: bytes, *messages: Any) -> list[ev.Event]:
    wire.came += [(peer, message) for message in messages]
    return list(link.receive())


def test_the_last_one_that_greets_is_spoken_with(link: ForwarderLink, wire: Wire) -> None:
    assert link.send(msg.Window(1, 1)), "nobody is there: that is no end of a link"
    assert not wire.said
    hello = msg.Hello(1, "9.9")
    assert hear(link, wire, ONE, hello) == [ev.ForwarderSaid(hello)]
    assert hear(link, wire, TWO, hello) == [ev.ForwarderSaid(hello)]
    assert wire.forgotten == [ONE]
    assert hear(link, wire, ONE, msg.Backlog(3)) == []
    assert wire.said == [(ONE, msg.Reset())]
    assert link.send(msg.Window(1, 1))
    assert wire.said[-1] == (TWO, msg.Window(1, 1))


def test_one_of_an_earlier_epoch_and_one_of_another_protocol_are_refused(
    link: ForwarderLink, wire: Wire
) -> None:
    assert hear(link, wire, ONE, msg.Hello(5, "9.9"))
    assert not hear(link, wire, TWO, msg.Hello(4, "9.9"))
    assert not hear(link, wire, TWO, msg.Hello(6, "99", 999, 999))
    (_, old), (_, new) = wire.said
    assert "a forwarder of epoch 5 was here; this one, of epoch 4," in old.reason
    assert "fxhpc 99 (protocol 999)" in new.reason


def test_its_ends(link: ForwarderLink, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(forwarder_link, "time", SimpleNamespace(monotonic=lambda: now))
    assert not link.is_lost()
    hear(link, wire, ONE, msg.Hello(1, "9.9"))
    assert hear(link, wire, ONE, msg.Bye()) == [ev.ForwarderGone()]
    hear(link, wire, ONE, msg.Hello(1, "9.9"))
    now += SILENCE_S
    assert not hear(link, wire, ONE, msg.Heartbeat())
    assert wire.said[-1] == (ONE, msg.Heartbeat())
    now += SILENCE_S + 1
    assert link.is_lost()
    assert not link.is_lost(), "once"
    hear(link, wire, ONE, msg.Hello(1, "9.9"))
    wire.works = False
    assert not link.send(msg.Window(1, 1))
    assert link.send(msg.Window(1, 1))
