"""Links to interchanges of a home: found at once, refused in words, told of when they are away."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fxhpc import hosts
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import Forwarder, endpoint_key
from fxhpc.forwarder.loop import Loop
from fxhpc.forwarder.remotes import RemoteInterchanges
from fxhpc.interchange.forwarder_door import ForwarderDoor
from fxhpc.protocol import codec, service
from fxhpc.protocol import messages as msg
from fxhpc.protocol.sizes import SizeLimits
from fxhpc.transport import unix_sockets
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.ipc import ipc_address, make_ipc_directory
from fxhpc.transport.keys import new_keys
from fxhpc.version import __version__
from tests.waiting import eventually, readable

ENDPOINT = "5a4e0000-0000-4000-8000-000000000001"
KEY = endpoint_key(ENDPOINT)


class Place:
    """A home's endpoints, the links to them, and an interchange in this process."""

    def __init__(self, path: Path) -> None:
        self.directory = path / "midway"
        self.directory.mkdir()
        self.ipc = make_ipc_directory("fxhpc-test")
        self.remotes = RemoteInterchanges(path)
        self.acceptor: Acceptor[Any] | None = None
        record = {"endpoint": ENDPOINT, "name": "midway", "walltime_s": 3600.0}
        (self.directory / "endpoint.json").write_text(json.dumps(record))

    def interchange(self, host: str = platform.node()) -> None:
        """Start an interchange, or tell of one on another host."""
        address = ipc_address(self.ipc, "interchange")
        if self.acceptor is None:
            socket = unix_sockets.router(address)
            self.acceptor = Acceptor(socket, codec.TO_INTERCHANGE, msg.Hello)
        record = {
            "host": host,
            "pid": os.getpid(),
            "started": hosts.start_time(os.getpid()),
            "forwarder": address,
        }
        (self.directory / "interchange.json").write_text(json.dumps(record))

    def answer(self, message: Any) -> list[ev.Event]:
        """Wait for a greeting and answer it: what the forwarder is told then."""
        assert self.acceptor is not None
        self.remotes.tell(KEY, msg.Hello(1, "9.9"))
        assert readable(self.acceptor.socket)
        for peer, _ in self.acceptor.receive():
            self.acceptor.send(peer, message)
        (socket,) = self.remotes.sockets()
        assert readable(socket)
        return [*self.remotes.receive()]

    def close(self) -> None:
        self.remotes.close()
        if self.acceptor is not None:
            self.acceptor.close()
        shutil.rmtree(self.ipc)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock."""
    import fxhpc.forwarder.remotes as module

    def set_clock(now: float) -> None:
        clock = SimpleNamespace(monotonic=lambda: now, time=time.time)
        monkeypatch.setattr(module, "time", clock)

    set_clock(1000.0)
    return set_clock


def told(events: list[ev.Event]) -> list[str]:
    return [event.away for event in events if isinstance(event, ev.EndpointTold)]


def test_how_long_its_blocks_last_is_known_as_soon_as_it_was_started(
    place: Place, at: Callable[[float], None]
) -> None:
    """It is written down as an endpoint is started: whoever submits right after that is refused
    what no block lasts, also where the last look at the home was before."""
    [*place.remotes.tick()]
    record = place.directory / "endpoint.json"
    changed = {**json.loads(record.read_text()), "walltime_s": 60, "limits": {"argument": 5000}}
    record.write_text(json.dumps(changed))
    found = [event for event in place.remotes.want(ENDPOINT) if isinstance(event, ev.EndpointTold)]
    assert [event.longest_s for event in found] == [60.0]
    assert [event.limits for event in found] == [SizeLimits(argument=5000)]


def test_an_endpoint_is_told_of_once_and_again_when_it_changes(
    place: Place, at: Callable[[float], None]
) -> None:
    known, away = place.remotes.tick()
    assert known == ev.EndpointKnown(ENDPOINT, "midway")
    assert isinstance(away, ev.EndpointTold)
    assert "never started" in away.away
    assert away.longest_s == 3600.0
    at(1001.0)
    assert not [*place.remotes.tick()]
    (place.directory / "failure.txt").write_text("no port is free")
    at(1002.0)
    assert "has failed: no port is free" in told([*place.remotes.tick()])[0]
    place.interchange(host="login2")
    at(1003.0)
    assert "runs on host login2" in told([*place.remotes.tick()])[0]
    shutil.rmtree(place.directory)
    at(1004.0)
    (deleted,) = place.remotes.tick()
    assert isinstance(deleted, ev.EndpointTold)
    assert deleted.deleted
    assert "was deleted" in deleted.away


def test_one_that_was_found_just_now_is_told_of_to_whoever_asks(place: Place) -> None:
    """The loop handles a client's question before what a tick has found behind it."""
    [*place.remotes.tick()]
    assert not [*place.remotes.look()]
    assert [*place.remotes.look(again=True)] == [ev.EndpointKnown(ENDPOINT, "midway")]


def test_a_question_that_came_before_the_tick_finds_the_endpoint(place: Place) -> None:
    core = Forwarder(1)
    said: list[Any] = []
    clients: Any = SimpleNamespace(send=lambda peer, message: said.append(message))
    host: Any = SimpleNamespace(
        closed=lambda: [], open=lambda instance: None, tell=lambda key, message: []
    )
    writer: Any = SimpleNamespace(completed=lambda: [])
    waker: Any = None
    loop = Loop(core, clients, writer, host, waker, place.remotes)
    attach = service.Attach(b"c" * 16, b"l" * 16, os.getpid(), platform.node(), 1.0, __version__)
    loop.feed(ev.ClientSaid(b"peer", attach))
    loop._events += [
        ev.ClientSaid(b"peer", service.GetStatus(1, ENDPOINT)),
        *place.remotes.tick(),
    ]
    loop._handle_all()
    assert isinstance(said[-1], service.EndpointStatus), said


def test_who_waits_for_one_connects_at_once(place: Place, at: Callable[[float], None]) -> None:
    [*place.remotes.tick()]
    assert place.remotes.next_eager_look() == float("inf")
    assert not [*place.remotes.want(ENDPOINT)]
    assert place.remotes.next_eager_look() <= 1000.0
    assert not [*place.remotes.eager_look()]
    place.interchange()
    at(1000.05)
    assert not [*place.remotes.eager_look()]
    at(1000.11)
    assert ev.InterchangeUp(KEY) in [*place.remotes.eager_look()]
    assert place.remotes.next_eager_look() == float("inf")
    present = msg.Present(ENDPOINT, 1, "9.9")
    assert place.answer(present) == [ev.InterchangeSaid(KEY, present)]
    assert not [
        *place.remotes.want("4b116d3c-1703-4f8f-9f6f-39921e5864df"),
        *place.remotes.want("x"),
    ]


def test_a_refusal_is_told_and_not_asked_for_again_at_once(
    place: Place, at: Callable[[float], None]
) -> None:
    place.interchange()
    assert ev.InterchangeUp(KEY) in [*place.remotes.tick()]
    events = place.answer(msg.Refuse("it is fxhpc 2, this is fxhpc 9"))
    assert events[0] == ev.InterchangeGone(KEY)
    (words,) = told(events)
    assert words == (
        "endpoint midway cannot be spoken to: it refuses this home's forwarder: "
        "it is fxhpc 2, this is fxhpc 9"
    )
    at(1020.0)
    assert ev.InterchangeUp(KEY) not in [*place.remotes.tick()]
    at(1031.0)
    assert ev.InterchangeUp(KEY) in [*place.remotes.tick()]


def test_one_that_is_silent(place: Place, at: Callable[[float], None]) -> None:
    place.interchange()
    [*place.remotes.tick()]
    at(1016.0)
    events = [*place.remotes.tick()]
    assert ev.InterchangeGone(KEY) in events
    assert f"its process {os.getpid()} is alive, and does not answer" in told(events)[-1]


def test_one_that_says_goodbye(place: Place, at: Callable[[float], None]) -> None:
    place.interchange()
    [*place.remotes.tick()]
    events = place.answer(msg.Bye("stopped"))
    assert events[0] == ev.InterchangeGone(KEY)
    assert "is being stopped" in told(events)[-1]  # its process lives for a moment
    (place.directory / "interchange.json").unlink()
    at(1001.0)
    assert "never started" in told([*place.remotes.tick()])[-1]


def test_one_that_was_deleted_a_moment_ago(place: Place, at: Callable[[float], None]) -> None:
    [*place.remotes.tick()]
    shutil.rmtree(place.directory)
    said = told([*place.remotes.want(ENDPOINT)])[-1]
    assert "was deleted" in said
    assert f"fxhpc task cancel --endpoint {ENDPOINT}" in said


def test_one_that_has_said_goodbye_is_not_greeted_again(
    place: Place, at: Callable[[float], None]
) -> None:
    place.interchange()
    [*place.remotes.tick()]
    place.answer(msg.Bye("stopped"))
    for now in (1001.0, 1005.0, 1029.0):
        at(now)
        assert ev.InterchangeUp(KEY) not in [*place.remotes.tick()]
    at(1031.0)  # it has stayed, for whatever reason
    assert ev.InterchangeUp(KEY) in [*place.remotes.tick()]


def test_one_on_another_host_is_spoken_to_there(tmp_path: Path) -> None:
    """Over tcp, by the key of the home's forwarders. Where nobody answers, its host is told."""
    home = tmp_path / "home"
    (home / "endpoints").mkdir(parents=True)
    endpoint = new_keys("endpoint")
    door = ForwarderDoor(endpoint, home / "forwarder.key")
    place = Place(home / "endpoints")
    place.acceptor = door.acceptor
    port = door.acceptor.socket.address.rpartition(":")[2]
    record = {
        "host": "login9",
        "pid": 4711,
        "started": 1.0,
        "forwarder": "ipc:///tmp/nowhere",
        "forwarders": f"tcp://127.0.0.1:{port}",
        "server_key": endpoint.public.decode(),
    }
    (place.directory / "interchange.json").write_text(json.dumps(record))
    events: list[ev.Event] = [*place.remotes.tick()]
    assert ev.InterchangeUp(KEY) in events
    place.remotes.tell(KEY, msg.Hello(1, "9.9"))

    def answered() -> bool:
        for peer, message in door.acceptor.receive():
            assert isinstance(message, msg.Hello)
            door.acceptor.send(peer, msg.Heartbeat())
        return ev.InterchangeSaid(KEY, msg.Heartbeat()) in [*place.remotes.receive()]

    eventually(answered, 10)
    door.close()
    place.acceptor = None

    def lost() -> bool:
        events.extend([*place.remotes.receive(), *place.remotes.tick()])
        return ev.InterchangeGone(KEY, False) in events

    eventually(lost, 10)
    assert "host login9 (pid 4711" in told(events)[-1]
    place.close()
