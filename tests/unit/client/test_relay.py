"""A relay between a client's connection and a forwarder's, without ssh: what it passes on, and when
it ends.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fxhpc.client.connection import relay
from fxhpc.client.connection.relay import Relay
from fxhpc.protocol import service
from fxhpc.protocol.codec import FROM_CLIENT, TO_CLIENT
from fxhpc.protocol.link import Link
from fxhpc.protocol.messages import Bye, Heartbeat, Reset
from fxhpc.transport import parts
from fxhpc.transport.sockets import MAX_FRAME
from fxhpc.transport.unix_sockets import PipedDealer, UnixDealer
from tests.waiting import LIMIT, eventually, readable

LARGE = os.urandom(2_000_000)


def pair(kind: type[UnixDealer]) -> tuple[UnixDealer, UnixDealer]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    return kind("one", one, MAX_FRAME), kind("other", other, MAX_FRAME)


def frames_of(end: UnixDealer, sender: UnixDealer | None = None) -> list[bytes]:
    """The next message, which has come in parts if the other end is on another host.

    Args:
        sender: who has not sent all yet, and belongs to this thread, too.
    """
    assembly = parts.Assembly()
    for _ in range(2_000):
        if sender is not None:
            sender._stream.flush()
        assert readable(end, 0.05 if sender is not None else LIMIT) or sender is not None
        if (frames := end.receive_message()) is None:
            continue
        if end.crosses_hosts and parts.is_part(frames):
            if (whole := assembly.add(frames)) is None:
                continue
            frames = whole
        return frames
    raise AssertionError("nothing comes")


def put(end: UnixDealer, frames: list[bytes]) -> None:
    is_cut = end.crosses_hosts and parts.is_large(frames)
    for one in parts.split(frames) if is_cut else [frames]:
        assert end.send_message(one)


class Scene:
    """A relay in a thread, a client before it and a forwarder behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[UnixDealer]) -> None:
        self.is_lost = False
        self.kind = kind
        up, self.forwarder = pair(kind)
        self.forwarders: list[UnixDealer] = []
        monkeypatch.setattr(relay, "_connect", self._connect)
        near, far = socket.socketpair()
        far.setblocking(False)
        self.client = PipedDealer("client", far, MAX_FRAME)
        self._link = Link(7)
        self._relay = Relay(near, up, None)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=self._relay.run, args=(lambda: self.is_lost,))
        self.thread.start()

    def _connect(self, home: Any) -> UnixDealer:
        if not self.forwarders:
            raise OSError("not yet")
        up, self.forwarder = pair(self.kind)
        return up

    def say(self, message: Any) -> None:
        put(self.client, FROM_CLIENT.encode(self._link.stamp(message)))

    def heard(self) -> Any:
        """What the forwarder hears."""
        return FROM_CLIENT.decode(frames_of(self.forwarder, self.client))

    def close(self) -> None:
        self.is_lost = True
        self.client.close()
        self.thread.join(10.0)
        self.forwarder.close()
        assert not self.thread.is_alive()


@pytest.fixture(params=[UnixDealer, PipedDealer], ids=["here", "on another host"])
def scene(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(monkeypatch, request.param)
    yield scene
    scene.close()


def test_messages_of_all_sizes_pass(scene: Scene) -> None:
    scene.say(service.PutBody(1, b"d" * 32, LARGE))
    scene.say(Heartbeat())
    assert scene.heard().message == service.PutBody(1, b"d" * 32, LARGE)
    assert scene.heard().message == Heartbeat()
    answer = [b"head", LARGE, b"", LARGE]
    for _ in range(3):
        put(scene.forwarder, answer)
    put(scene.forwarder, [b"small"])
    for _ in range(3):
        assert frames_of(scene.client, scene.forwarder) == answer
    assert frames_of(scene.client, scene.forwarder) == [b"small"]


def test_another_forwarder_is_greeted_when_the_client_has_something_to_say(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_RETRY_S", 0.01)
    scene.say(Heartbeat())
    scene.heard()
    first = scene.forwarder
    first.close()
    scene.say(Heartbeat())  # which may still go to the one that has ended
    scene.forwarders.append(first)
    scene.say(Heartbeat())
    reset = TO_CLIENT.decode(frames_of(scene.client))
    assert isinstance(reset.message, Reset)
    assert reset.session == 7
    assert scene.forwarder is not first
    scene.say(service.Resume(1))
    eventually(lambda: scene.heard().message == service.Resume(1), every=0)


def test_the_end_of_the_clients_process_is_told(scene: Scene) -> None:
    scene.say(Heartbeat())
    scene.client.close()
    assert scene.heard().message == Heartbeat()
    told = scene.heard()
    assert isinstance(told.message, Bye)
    assert (told.session, told.number) == (7, 1)


@pytest.mark.parametrize("how", ["lost", "goodbye"])
def test_nothing_is_told_of_what_is_lost_or_has_left(scene: Scene, how: str) -> None:
    scene.is_lost = how == "lost"
    message = Heartbeat() if scene.is_lost else Bye("closed")
    scene.say(message)
    scene.client.close()
    assert scene.heard().message == message
    scene.thread.join(10.0)
    eventually(lambda: scene.forwarder.receive_message() is None and scene.forwarder.ended)


def test_a_client_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "SILENCE_S", 0.1)
    monkeypatch.setattr(relay, "_TURN_S", 0.05)
    scene = Scene(monkeypatch, UnixDealer)
    scene.thread.join(10.0)
    assert not scene.thread.is_alive()
    scene.close()
