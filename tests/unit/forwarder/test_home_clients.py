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
