"""Sockets with the house's options, over ipc and tcp."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from fxhpc.errors import HomeError
from fxhpc.transport.authenticator import Authenticator
from fxhpc.transport.ipc import check_private, ipc_address, make_ipc_directory
from fxhpc.transport.keys import new_keys
from fxhpc.transport.monitor import Monitor
from fxhpc.transport.sockets import (
    CurveClient,
    CurveServer,
    bound_address,
    dealer,
    make_context,
    receive,
    router,
    send,
)
from tests.waiting import eventually


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    context = make_context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def directory() -> Iterator[str]:
    path = make_ipc_directory()
    yield path
    shutil.rmtree(path)


def wait_for(socket: zmq.SyncSocket, limit_s: float = 5.0) -> list[bytes]:
    assert socket.poll(limit_s * 1000), "no message within the limit"
    frames = receive(socket)
    assert frames is not None
    return frames


def test_a_message_goes_there_and_back(context: zmq.SyncContext, directory: str) -> None:
    address = ipc_address(directory, "clients")
    with router(context, address) as server, dealer(context, address) as client:
        assert send(client, [b"hello", b"x" * 1_000_000])
        identity, *frames = wait_for(server)
        assert frames == [b"hello", b"x" * 1_000_000]
        assert send(server, [identity, b"back"])
        assert wait_for(client) == [b"back"]
        assert receive(client) is None
        assert os.stat(os.path.join(directory, "clients")).st_mode & 0o777 == 0o600


def test_sending_to_a_peer_that_is_gone_is_false(context: zmq.SyncContext, directory: str) -> None:
    address = ipc_address(directory, "clients")
    with router(context, address) as server:
        assert not send(server, [b"nobody", b"x"])
        monitor = Monitor(server)
        client = dealer(context, address)
        send(client, [b"hello"])
        identity, _ = wait_for(server)
        client.close(0)
        ended = 0
        while not ended:
            assert monitor.socket.poll(5_000)
            ended += monitor.look().ended
        eventually(lambda: not send(server, [identity, b"x"]), 5)
        assert not send(server, [identity, b"x" * 100_000])
        monitor.close()


def test_an_ipc_dealer_notices_the_end_of_its_acceptor(
    context: zmq.SyncContext, directory: str
) -> None:
    address = ipc_address(directory, "clients")
    server = router(context, address)
    with dealer(context, address) as client:
        send(client, [b"hello"])
        wait_for(server)
        server.close(0)
        eventually(lambda: not send(client, [b"x"]), 5)
        # Nobody else gets its messages by taking the address.
        with router(context, address) as other:
            assert not other.poll(100)


def test_a_peer_that_comes_back_under_its_identity_is_heard(
    context: zmq.SyncContext, directory: str
) -> None:
    address = ipc_address(directory, "managers")
    with router(context, address) as server, dealer(context, address) as client:
        send(client, [b"one"])
        identity, _ = wait_for(server)
        again = context.socket(zmq.DEALER)
        again.setsockopt(zmq.ROUTING_ID, identity)
        again.connect(address)
        again.send(b"two")
        assert wait_for(server) == [identity, b"two"]
        assert send(server, [identity, b"back"])
        assert again.poll(5_000)
        again.close(0)


def test_tcp_with_keys(context: zmq.SyncContext) -> None:
    endpoint, manager = new_keys("endpoint"), new_keys("manager")
    authenticator = Authenticator(context)
    authenticator.allow("managers", {manager.public: "manager"})
    server = router(context, "tcp://127.0.0.1:*", curve=CurveServer(endpoint, "managers"))
    address = bound_address(server)
    with server, dealer(context, address, curve=CurveClient(manager, endpoint.public)) as client:
        assert address.startswith("tcp://127.0.0.1:")
        assert not address.endswith(":*")
        send(client, [b"hello"])
        assert authenticator.socket.poll(5_000)
        authenticator.handle()
        assert wait_for(server)[1:] == [b"hello"]
    assert authenticator.refused == 0
    authenticator.close()


@pytest.mark.parametrize("open_socket", [dealer, router])
def test_tcp_without_keys_is_refused(context: zmq.SyncContext, open_socket: type) -> None:
    with pytest.raises(ValueError, match="without keys"):
        open_socket(context, "tcp://127.0.0.1:5555")


@pytest.mark.parametrize("address", ["ipc://@abstract", "ipc://relative", "ipc://*", "inproc://x"])
def test_odd_addresses_are_refused(context: zmq.SyncContext, address: str) -> None:
    with pytest.raises(ValueError, match=r"address|absolute"):
        router(context, address)


def test_a_path_longer_than_the_kernel_allows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"107|103"):
        ipc_address("/tmp/" + "x" * 120, "clients")


def test_a_frame_above_the_limit_ends_the_connection(
    context: zmq.SyncContext, directory: str
) -> None:
    address = ipc_address(directory, "clients")
    with router(context, address, max_frame=1000) as server, dealer(context, address) as client:
        monitor = Monitor(server)
        send(client, [b"x" * 2000])
        ended = 0
        while not ended:
            assert monitor.socket.poll(5_000)
            ended += monitor.look().ended
        assert receive(server) is None
        monitor.close()


def test_the_directory_is_private() -> None:
    path = make_ipc_directory("fxhpc-test")
    try:
        assert path.startswith(f"/tmp/fxhpc-test-{os.getuid()}-")
        check_private(path)
        os.chmod(path, 0o755)
        with pytest.raises(HomeError, match=f"chmod 700 {path}"):
            check_private(path)
    finally:
        os.rmdir(path)
    with pytest.raises(HomeError, match="No such file"):
        check_private(path)


def test_links_and_files_are_no_private_directories(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch(mode=0o600)
    with pytest.raises(HomeError, match="symbolic link"):
        check_private(str(tmp_path / "link"))
    with pytest.raises(HomeError, match="not a directory"):
        check_private(str(tmp_path / "file"))


def test_an_open_directory_is_not_connected_to(context: zmq.SyncContext, directory: str) -> None:
    address = ipc_address(directory, "clients")
    os.chmod(directory, 0o777)
    for open_socket in (dealer, router):
        with pytest.raises(HomeError, match="chmod 700"):
            open_socket(context, address)
