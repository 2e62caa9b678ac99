"""Whoever has no admitted key gets nothing over tcp, and is counted."""

from __future__ import annotations

import os
import random
import socket as plain
from collections.abc import Callable, Iterator

import psutil
import pytest
import zmq

from fxhpc.transport.authenticator import Authenticator
from fxhpc.transport.curve import CurveClient, CurveServer
from fxhpc.transport.keys import KeyPair, new_keys
from fxhpc.transport.monitor import Monitor
from fxhpc.transport.tcp_sockets import dealer, make_context, router
from tests.waiting import eventually


class Endpoint:
    """An acceptor as an interchange has it: a socket for managers, and nobody else's keys."""

    def __init__(self) -> None:
        self.context = make_context()
        self.keys, self.manager = new_keys("endpoint"), new_keys("manager")
        self.authenticator = Authenticator(self.context)
        self.authenticator.allow("managers", {self.manager.public: "manager"})
        curve = CurveServer(self.keys, "managers")
        self.socket = router(self.context, "tcp://127.0.0.1:*", curve=curve)
        self.address = self.socket.address
        self.monitor = Monitor(self.socket)
        self.messages: list[list[bytes]] = []

    def turn(self, limit_ms: int = 20) -> None:
        """One turn of its loop."""
        poller = zmq.Poller()
        for socket in (self.socket, self.authenticator.socket, self.monitor.socket):
            poller.register(socket, zmq.POLLIN)
        poller.poll(limit_ms)
        self.authenticator.handle()
        self.monitor.look()
        while (frames := self.socket.receive_message()) is not None:
            self.messages.append(frames[1:])

    def turn_until(self, holds: Callable[[], object]) -> None:
        """Turns of its loop until something holds."""
        eventually(
            lambda: holds() or self.turn(), 10, every=0, told=lambda: f"heard {self.messages}"
        )

    def turn_until_refused(self, count: int = 1) -> None:
        self.turn_until(lambda: self.monitor.refused >= count)

    def assert_well(self) -> None:
        """It has heard nobody, and serves its manager as before."""
        assert self.messages == []
        manager = self.connect(self.manager, self.keys.public)
        manager.send_message([b"hello"])
        self.turn_until(lambda: self.messages == [[b"hello"]])
        manager.close(0)

    def connect(self, keys: KeyPair, server: bytes) -> zmq.SyncSocket:
        return dealer(self.context, self.address, curve=CurveClient(keys, server))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.monitor.close()
    endpoint.context.destroy(linger=0)


def test_a_key_that_is_not_admitted(endpoint: Endpoint) -> None:
    with endpoint.connect(new_keys("manager"), endpoint.keys.public) as stranger:
        refusals = Monitor(stranger)
        stranger.send_message([b"let me in"])
        endpoint.turn_until_refused()
        assert endpoint.authenticator.refused >= 1
        # The stranger learns why, so that a person can be told.
        endpoint.turn_until(lambda: refusals.look().refused)
        refusals.close()
    endpoint.assert_well()


def test_the_endpoints_own_key_is_no_managers_key(endpoint: Endpoint) -> None:
    with endpoint.connect(endpoint.keys, endpoint.keys.public) as stranger:
        stranger.send_message([b"I have the server's file"])
        endpoint.turn_until_refused()
    endpoint.assert_well()


def test_a_key_of_another_domain(endpoint: Endpoint) -> None:
    client = new_keys("client")
    endpoint.authenticator.allow("clients", {client.public: "client"})
    with endpoint.connect(client, endpoint.keys.public) as stranger:
        stranger.send_message([b"a client is no manager"])
        endpoint.turn_until_refused()
    endpoint.assert_well()


def test_a_key_that_was_taken_away(endpoint: Endpoint) -> None:
    endpoint.authenticator.allow("managers", {})
    with endpoint.connect(endpoint.manager, endpoint.keys.public) as stranger:
        stranger.send_message([b"still here"])
        endpoint.turn_until_refused()
    endpoint.authenticator.allow("managers", {endpoint.manager.public: "manager"})
    endpoint.assert_well()


def test_the_wrong_servers_key(endpoint: Endpoint) -> None:
    with endpoint.connect(endpoint.manager, new_keys("endpoint").public) as mistaken:
        mistaken.send_message([b"for somebody else"])
        endpoint.turn_until_refused()
        assert endpoint.authenticator.refused == 0
    endpoint.assert_well()


def test_null(endpoint: Endpoint) -> None:
    with endpoint.context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.connect(endpoint.address)
        stranger.send(b"no keys at all")
        endpoint.turn_until_refused()
    endpoint.assert_well()


def test_plain(endpoint: Endpoint) -> None:
    with endpoint.context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.plain_username = b"root"
        stranger.plain_password = b"secret"
        stranger.connect(endpoint.address)
        stranger.send(b"a password")
        endpoint.turn_until_refused()
    endpoint.assert_well()


def test_nobody_is_admitted_while_nobody_answers() -> None:
    context = make_context()
    keys, manager = new_keys("endpoint"), new_keys("manager")
    server = router(context, "tcp://127.0.0.1:*", curve=CurveServer(keys, "managers"))
    address = server.address
    with server, dealer(context, address, curve=CurveClient(manager, keys.public)) as client:
        monitor = Monitor(server)
        client.send_message([b"hello"])
        assert monitor.socket.poll(10_000)
        assert monitor.look().opened == 0
        assert server.receive_message() is None
        monitor.close()
    context.destroy(linger=0)


def test_garbage_on_a_raw_connection(endpoint: Endpoint) -> None:
    host, port = endpoint.address.removeprefix("tcp://").split(":")
    source = random.Random(7)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE".ljust(22, b"\0") + bytes(32)
    garbage = [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01" + source.randbytes(500),
        greeting[:9],
        greeting[:30],
        b"\xff" + b"\xff" * 8 + b"\x7f",
        greeting + source.randbytes(300),
        greeting + b"\x06" + b"\xff" * 8 + source.randbytes(100),
        greeting + b"\x04\xc8\x05HELLO" + source.randbytes(200),
        *(source.randbytes(source.randrange(1, 2000)) for _ in range(40)),
    ]
    for data in garbage:
        with plain.create_connection((host, int(port)), timeout=5) as connection:
            try:
                connection.sendall(data)
            except OSError:
                pass  # it was closed already
        endpoint.turn(0)
    for _ in range(10):
        endpoint.turn()
    endpoint.assert_well()


def test_only_the_named_interface_is_bound(endpoint: Endpoint) -> None:
    host, port = endpoint.address.removeprefix("tcp://").split(":")
    assert host == "127.0.0.1"
    listening = [
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.Process(os.getpid()).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", int(port))]
