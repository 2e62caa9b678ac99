"""Sockets between hosts, with the house's options."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import zmq

from fxhpc.transport.authenticator import Authenticator
from fxhpc.transport.curve import CurveClient, CurveServer
from fxhpc.transport.keys import new_keys
from fxhpc.transport.monitor import Monitor
from fxhpc.transport.tcp_sockets import TcpSocket, dealer, make_context, router
from tests.waiting import eventually, readable


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    context = make_context()
    yield context
    context.destroy(linger=0)


def wait_for(socket: TcpSocket) -> list[bytes]:
    assert readable(socket)
    return eventually(socket.receive_message, 5)


def test_tcp_with_keys(context: zmq.SyncContext) -> None:
    endpoint, manager = new_keys("endpoint"), new_keys("manager")
    authenticator = Authenticator(context)
    authenticator.allow("managers", {manager.public: "manager"})
    server = router(context, "tcp://127.0.0.1:*", curve=CurveServer(endpoint, "managers"))
    address = server.address
    with server, dealer(context, address, curve=CurveClient(manager, endpoint.public)) as client:
        assert address.startswith("tcp://127.0.0.1:")
        assert not address.endswith(":*")
        client.send_message([b"hello"])
        assert authenticator.socket.poll(5_000)
        authenticator.handle()
        assert wait_for(server)[1:] == [b"hello"]
    assert authenticator.refused == 0
    authenticator.close()


@pytest.mark.parametrize("open_socket", [dealer, router])
def test_tcp_without_keys_is_refused(context: zmq.SyncContext, open_socket: type) -> None:
    with pytest.raises(ValueError, match="without keys"):
        open_socket(context, "tcp://127.0.0.1:5555", curve=None)


@pytest.mark.parametrize("open_socket", [dealer, router])
@pytest.mark.parametrize("address", ["ipc:///tmp/x", "inproc://x", "localhost:5"])
def test_what_is_not_tcp_is_refused(
    context: zmq.SyncContext, open_socket: type, address: str
) -> None:
    with pytest.raises(ValueError, match="tcp://"):
        open_socket(context, address, curve=CurveServer(new_keys("endpoint"), "managers"))


def test_a_peer_that_comes_back_under_its_identity_is_heard(context: zmq.SyncContext) -> None:
    endpoint, manager = new_keys("endpoint"), new_keys("manager")
    authenticator = Authenticator(context)
    authenticator.allow("managers", {manager.public: "manager"})
    server = router(context, "tcp://127.0.0.1:*", curve=CurveServer(endpoint, "managers"))
    curve = CurveClient(manager, endpoint.public)
    with server, dealer(context, server.address, curve=curve) as client:
        client.send_message([b"one"])
        assert authenticator.socket.poll(5_000)
        authenticator.handle()
        identity, _ = wait_for(server)
        again = context.socket(zmq.DEALER)
        again.setsockopt(zmq.ROUTING_ID, identity)
        again.setsockopt(zmq.CURVE_PUBLICKEY, manager.public)
        again.setsockopt(zmq.CURVE_SECRETKEY, manager.secret)
        again.setsockopt(zmq.CURVE_SERVERKEY, endpoint.public)
        again.connect(server.address)
        again.send(b"two")
        assert authenticator.socket.poll(5_000)
        authenticator.handle()
        assert wait_for(server) == [identity, b"two"]
        assert server.send_message([identity, b"back"])
        assert again.poll(5_000)
        again.close(0)
    authenticator.close()


def test_a_frame_above_the_limit_ends_the_connection(context: zmq.SyncContext) -> None:
    endpoint, manager = new_keys("endpoint"), new_keys("manager")
    authenticator = Authenticator(context)
    authenticator.allow("managers", {manager.public: "manager"})
    server = router(
        context, "tcp://127.0.0.1:*", curve=CurveServer(endpoint, "managers"), max_frame=1000
    )
    curve = CurveClient(manager, endpoint.public)
    with server, dealer(context, server.address, curve=curve) as client:
        monitor = Monitor(server)
        client.send_message([b"x" * 2000])
        assert authenticator.socket.poll(5_000)
        authenticator.handle()
        eventually(lambda: monitor.look().ended, 5)
        assert server.receive_message() is None
        monitor.close()
    authenticator.close()


def test_who_tries_whether_an_address_answers_has_no_wrong_key(context: zmq.SyncContext) -> None:
    server = router(context, "tcp://127.0.0.1:*", curve=CurveServer(new_keys("endpoint"), "peers"))
    with server:
        monitor = Monitor(server)
        host, _, port = server.address.removeprefix("tcp://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        assert eventually(lambda: monitor.look().unborn, 5) == 1
        assert monitor.refused == 0
        with socket.create_connection((host, int(port)), timeout=5) as stranger:
            # A greeting of ZMTP 3.0, without CURVE.
            stranger.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))
            assert eventually(lambda: monitor.look().refused, 5)
        assert monitor.refused == 1
        monitor.close()
