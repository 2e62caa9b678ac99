"""A port takes no more connections while few files may be opened; who is in stays."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
import zmq

from fxhpc.transport import crowd
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.keys import new_keys
from fxhpc.transport.tcp_dealer import TcpDealer
from fxhpc.transport.tcp_door import TcpDoor
from tests.waiting import eventually


@pytest.fixture
def door() -> Iterator[TcpDoor]:
    made = TcpDoor("tcp://127.0.0.1:*", new_keys("endpoint"), "clients", {})
    yield made
    made.close()


def _is_let_in(door: TcpDoor) -> bool:
    """Whether a connection comes to be."""
    place = "127.0.0.1", int(door.address.rpartition(":")[2])
    try:
        socket.create_connection(place, 0.3).close()
    except TimeoutError:
        return False
    return True


def test_newcomers_are_turned_away_and_who_is_in_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, client = new_keys("endpoint"), new_keys("client")
    door = TcpDoor("tcp://127.0.0.1:*", server, "clients", {client.public: "laptop"})
    one = TcpDealer(door.address, CurveClient(client, server.public))
    try:
        one.send_message([b"one"])
        name, _ = eventually(door.receive_message)
        assert _is_let_in(door)
        monkeypatch.setattr(crowd, "_open_files", lambda: 10**9)
        place = "127.0.0.1", int(door.address.rpartition(":")[2])
        with caplog.at_level(logging.WARNING), socket.create_connection(place):
            eventually(lambda: door.receive_message() or caplog.text)  # it is noticed by that
        assert "no more are let in" in caplog.text
        assert not _is_let_in(door)
        one.send_message([b"two"])
        assert eventually(door.receive_message) == [name, b"two"]
        assert door.send_message([name, b"three"])
        assert eventually(one.receive_message) == [b"three"]
        monkeypatch.undo()
        door.look()
        assert _is_let_in(door)
    finally:
        one.close()
        door.close()


def test_the_port_is_free_again_when_it_is_closed(door: TcpDoor) -> None:
    address = door.address
    with pytest.raises(zmq.ZMQError, match="in use"):
        TcpDoor(address, new_keys("endpoint"), "clients", {})
    door.close()
    eventually(lambda: _bound(address))


def _bound(address: str) -> bool:
    try:
        TcpDoor(address, new_keys("endpoint"), "clients", {}).close()
    except zmq.ZMQError:
        return False
    return True


def test_files_that_are_open_are_counted() -> None:
    before = crowd._open_files()
    with socket.socket(), socket.socket():
        assert crowd._open_files() >= before
    assert crowd._open_files() == before
