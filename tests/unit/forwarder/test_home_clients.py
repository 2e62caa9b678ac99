"""What a home's clients send is read as fast as it can be stored, and not faster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from fxhpc.forwarder import clients as home_clients
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.clients import HomeClients
from fxhpc.ids import LOCAL_ENDPOINT, new_stream
from fxhpc.protocol import service
from fxhpc.protocol.messages import Heartbeat, StreamInfo

INFO = StreamInfo(new_stream(), LOCAL_ENDPOINT, b"f" * 32)


class Acceptor:
    """Messages that have come from some peers."""

    def __init__(self, *messages: Any) -> None:
        self.socket = object()
        self.messages = list(messages)
        self.sent: list[tuple[bytes, Any]] = []

    def receive(self) -> Iterator[tuple[bytes, Any]]:
        while self.messages:
            yield b"peer", self.messages.pop(0)

    def peers(self) -> list[bytes]:
        return [b"one", b"two"]

    def send(self, peer: bytes, message: Any) -> bool:
        self.sent.append((peer, message))
        return True

    def forget(self, peer: bytes) -> None:
        pass

    def close(self) -> None:
        pass


def submit(first: int, size: int) -> service.Submit:
    return service.Submit(first, [service.Submission(INFO, first, [b"x" * size])])


def test_few_large_messages_are_read_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_clients, "READ_BYTES", 1000)
    said = [
        *(submit(0, 600), service.PutBody(1, b"d" * 32, b"x" * 600)),
        *(submit(2, 10), Heartbeat()),
    ]
    acceptor: Any = Acceptor(*said)
    clients = HomeClients(acceptor)
    assert clients.receive({acceptor.socket}) == [ev.ClientSaid(b"peer", m) for m in said[:2]]
    assert clients.receive({acceptor.socket}) == [ev.ClientSaid(b"peer", m) for m in said[2:]]
    clients.close()


def test_clients_wait_and_hear_that_somebody_lives_while_much_is_to_be_stored() -> None:
    acceptor: Any = Acceptor()
    clients = HomeClients(acceptor)
    clients.expect(b"instance", os.getpid(), 0.0)  # whose end is seen all the same
    assert clients.sockets()[0] is acceptor.socket
    watched = clients.sockets()[1:]
    clients.tick()
    assert not acceptor.sent
    clients.is_full = lambda: True
    assert clients.sockets() == watched
    clients.tick()
    assert acceptor.sent == [(b"one", Heartbeat()), (b"two", Heartbeat())]
    clients.is_full = lambda: False
    assert clients.sockets() == [acceptor.socket, *watched]
    clients.close()


class Others:
    """The port for other hosts."""

    managers_address = "tcp://10.0.0.1:1\nkey"

    def __init__(self, *messages: Any) -> None:
        self.clients: Any = Acceptor(*messages)
        self.names = {"the home", "laptop"}
        self.sender = "laptop"


def attach(local: bytes) -> service.Attach:
    return service.Attach(b"client", local, os.getpid(), "login9", 1.0, "0.1")


def test_a_client_on_another_host_ends_when_it_is_silent_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody here sees its process: a pid of this host says nothing of it."""
    acceptor: Any = Acceptor()
    clients = HomeClients(acceptor)
    others: Any = Others(attach(b"instance"))
    others.sender = "the home"
    clients.others = others
    assert clients.receive({others.clients.socket}) == [ev.ClientSaid(b"peer", attach(b"instance"))]
    assert clients.sockets() == [acceptor.socket, others.clients.socket]
    assert clients.lives(b"instance")
    clients.send(b"peer", service.Attached(1, "0.1", 1, "ipc:///here"))
    ((_, attached),) = others.clients.sent
    assert attached.managers == others.managers_address
    assert clients.tick() == []
    monkeypatch.setattr(home_clients, "AWAY_S", -1.0)
    assert clients.tick() == [ev.ClientGone(b"peer")]
    clients.close()


def test_one_of_before_a_restart_is_expected_for_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = HomeClients(Acceptor())  # type: ignore[arg-type]
    clients.expect_from("login9", b"instance", 4711, 1.0)
    assert clients.hosts == {b"instance": "login9"}
    assert clients.tick() == []
    monkeypatch.setattr(home_clients, "AWAY_S", -1.0)
    clients.expect_from("login9", b"instance", 4711, 1.0)
    assert clients.tick() == [ev.LocalGone(b"instance")]
    assert clients.tick() == []
    clients.close()


@pytest.mark.parametrize("local", [b"", b"instance"])
def test_one_whose_access_was_taken_back_has_ended(local: bytes) -> None:
    """Also one that claims a `local`, which nobody has by an access file."""
    clients = HomeClients(Acceptor())  # type: ignore[arg-type]
    others: Any = Others(attach(local))
    clients.others = others
    (said,) = clients.receive({others.clients.socket})
    assert isinstance(said, ev.ClientSaid)
    assert said.message.local == b""
    assert not clients.processes
    assert clients.tick() == []
    others.names.discard("laptop")
    assert clients.tick() == [ev.ClientGone(b"peer")]
    clients.close()
