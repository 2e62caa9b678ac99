"""Sockets between processes of one host: messages whole or not at all, as the kernel takes them."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxhpc.errors import HomeError
from fxhpc.transport import unix_stream
from fxhpc.transport.ipc import check_private, ipc_address, ipc_path, make_ipc_directory
from fxhpc.transport.poller import Poller
from fxhpc.transport.sockets import HIGH_WATER_MARK, MessageSocket
from fxhpc.transport.unix_sockets import dealer, router
from tests.waiting import eventually, readable

LARGE = os.urandom(3_000_000)


@pytest.fixture
def directory() -> Iterator[str]:
    path = make_ipc_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def address(directory: str) -> str:
    return ipc_address(directory, "clients")


def wait_for(one: MessageSocket) -> list[bytes]:
    assert readable(one)
    return eventually(one.receive_message, 5)


def is_silent(one: MessageSocket) -> bool:
    """Whether there is nothing: not behind what was read before, nor at another look."""
    return one.receive_message() is None and one.receive_message() is None


def test_a_message_goes_there_and_back(address: str) -> None:
    with router(address) as server, dealer(address) as client:
        assert client.send_message([b"hello", b"", b"x" * 1000])
        identity, *frames = wait_for(server)
        assert frames == [b"hello", b"", b"x" * 1000]
        assert server.send_message([identity, b"back"])
        assert wait_for(client) == [b"back"]
        assert client.receive_message() is None
        assert os.stat(ipc_path(address)).st_mode & 0o777 == 0o600


def test_what_the_kernel_does_not_take_at_once_goes_when_there_is_room(address: str) -> None:
    """Both say more than a socket holds before either reads."""
    messages = [[b"a", LARGE], [b"b"], [LARGE[:300_000]] * 5, [b"c"] * 3000]
    with router(address) as server, dealer(address) as client:
        client.send_message([b"hello"])
        identity, _ = wait_for(server)
        for message in messages:
            assert client.send_message(message)
            assert server.send_message([identity, *message])
        heard: tuple[list[list[bytes]], list[list[bytes]]] = ([], [])
        poller = Poller()
        poller.register(server)
        poller.register(client)

        def turn() -> bool:
            poller.poll(1.0)
            for one, found in ((server, heard[0]), (client, heard[1])):
                while (frames := one.receive_message()) is not None:
                    found.append(frames)
            return len(heard[0]) == len(heard[1]) == len(messages)

        eventually(turn, 30, every=0)
        assert [frames[1:] for frames in heard[0]] == messages
        assert heard[1] == messages


@given(
    st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=5), min_size=1, max_size=5),
    st.data(),
)
def test_messages_are_the_same_however_they_are_cut(
    messages: list[list[bytes]], data: st.DataObject
) -> None:
    """Whoever reads gets the pieces that the kernel hands out."""
    directory = make_ipc_directory()
    try:
        address = ipc_address(directory, "x")
        with router(address) as server:
            client = socket.socket(socket.AF_UNIX)
            client.connect(ipc_path(address))
            raw = b"".join(
                struct.pack(f"<4sI{len(m)}Q", b"fxm1", len(m), *map(len, m)) + b"".join(m)
                for m in messages
            )
            heard: list[list[bytes]] = []
            while raw:
                count = data.draw(st.integers(1, len(raw)))
                client.sendall(raw[:count])
                raw = raw[count:]
                for _ in range(2):  # it is accepted, and then read
                    while (frames := server.receive_message()) is not None:
                        heard.append(frames[1:])
            assert heard == messages
            client.close()
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"fxm1" + b"\xff" * 100,
        struct.pack("<4sI", b"fxm1", 0),
        struct.pack("<4sIQ", b"fxm1", 1, 1 << 62),
        struct.pack("<4sI100Q", b"fxm1", 100, *[1 << 30] * 100),
        b"\0" * 1000,
    ],
)
def test_what_is_no_message_ends_its_connection_alone(address: str, raw: bytes) -> None:
    with router(address) as server, dealer(address) as client:
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(ipc_path(address))
        stranger.sendall(raw)
        stranger.settimeout(5)

        def closed() -> bool:
            assert server.receive_message() is None
            readable(server, 0.1)
            try:
                return stranger.recv(1, socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        eventually(closed, 5)
        client.send_message([b"hello"])
        assert wait_for(server)[1:] == [b"hello"]
        stranger.close()


def test_sending_to_a_peer_that_is_gone_is_false(address: str) -> None:
    with router(address) as server:
        assert not server.send_message([b"nobody", b"x"])
        client = dealer(address)
        client.send_message([b"hello"])
        identity, _ = wait_for(server)
        client.close()
        eventually(lambda: not server.send_message([identity, b"x"]), 5)
        assert not server.send_message([identity, b"x" * 100_000])


def test_what_was_said_before_the_end_is_heard(address: str) -> None:
    with router(address) as server, dealer(address) as client:
        for number in range(100):
            assert client.send_message([b"%d" % number])
        client.close(linger=200)
        heard = [wait_for(server)[1] for _ in range(100)]
        assert heard == [b"%d" % number for number in range(100)]
        identity = b""
        with dealer(address) as other:
            other.send_message([b"hello"])
            identity, _ = wait_for(server)
            for _ in range(10):
                server.send_message([identity, b"last words"])
            other.send_message([b"unread"])
            server.close(linger=200)
            assert [wait_for(other) for _ in range(10)] == [[b"last words"]] * 10
            assert is_silent(other)
            assert other.ended


def test_what_comes_while_others_are_read_the_descriptor_tells(address: str) -> None:
    with router(address) as server, dealer(address) as client:
        for number in range(3):
            assert client.send_message([b"%d" % number])
            identity, said = wait_for(server)
            assert server.send_message([identity, said])
            assert wait_for(client) == [said]
            assert client.send_message([b"more"])
            assert server.send_message([identity, b"more"])
            assert server.receive_message() is None
            assert client.receive_message() is None
            assert wait_for(server)[1:] == wait_for(client) == [b"more"]
            assert is_silent(server)
            assert is_silent(client)


def test_what_one_read_does_not_take_is_read_at_once(address: str) -> None:
    sizes = [10, 20_000, 2**15 - 16, 10, 60_000, 1]
    with router(address) as server, dealer(address) as client:
        client.send_message([b"hello"])
        wait_for(server)
        assert is_silent(server)
        for size in sizes:
            assert client.send_message([b"x" * size])
        for size in sizes:
            heard = server.receive_message()
            assert heard is not None
            assert len(heard[1]) == size


def test_closing_waits_for_what_was_sent(address: str) -> None:
    with router(address) as server, dealer(address) as client:
        client.send_message([b"hello"])
        wait_for(server)
        client.send_message([LARGE])
        closing = threading.Thread(target=client.close, args=(5_000,))
        closing.start()
        assert wait_for(server)[1:] == [LARGE]
        closing.join(5)
        assert not closing.is_alive()


def test_what_waits_for_a_peer_that_does_not_read_is_bounded(address: str) -> None:
    with router(address) as server, dealer(address) as client:
        client.send_message([b"hello"])
        identity, _ = wait_for(server)
        sent = 0
        while server.send_message([identity, b"x" * 100]):
            sent += 1
            assert sent < 10 * HIGH_WATER_MARK
        assert sent >= HIGH_WATER_MARK
        heard = 0

        def turn() -> bool:
            nonlocal heard
            while client.receive_message() is not None:
                heard += 1
            server.receive_message()  # as every loop does
            return heard == sent

        eventually(turn, 10, every=0)
        assert server.send_message([identity, b"there is room again"])


def test_a_dealer_notices_the_end_of_its_acceptor(address: str) -> None:
    server = router(address)
    with dealer(address) as client:
        client.send_message([b"hello"])
        wait_for(server)
        server.close()
        assert readable(client)
        assert client.receive_message() is None
        assert client.ended
        assert not client.send_message([b"x"])
        # Nobody else gets its messages by taking the address.
        with router(address) as other:
            assert not client.send_message([b"x"])
            assert other.receive_message() is None


def test_an_address_that_one_who_was_killed_has_left_is_taken(address: str) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(ipc_path(address))
    left.close()
    with pytest.raises(ConnectionRefusedError):
        dealer(address)
    with router(address) as server, dealer(address) as client:
        client.send_message([b"hello"])
        assert wait_for(server)[1:] == [b"hello"]
    with pytest.raises(FileNotFoundError):
        dealer(address)


def test_a_frame_above_the_limit_ends_the_connection(address: str) -> None:
    with router(address, max_frame=1000) as server, dealer(address) as client:
        client.send_message([b"x" * 2000])

        def ended() -> bool:
            assert server.receive_message() is None
            client.receive_message()
            return client.ended

        eventually(ended, 5)


def test_many_peers_and_one_that_is_silent(address: str) -> None:
    with router(address) as server:
        clients = [dealer(address) for _ in range(200)]
        for number, client in enumerate(clients[1:]):
            client.send_message([b"%d" % number])
        heard = {tuple(wait_for(server)) for _ in clients[1:]}
        assert len({identity for identity, _ in heard}) == 199
        for identity, said in heard:
            assert server.send_message([identity, said])
        for number, client in enumerate(clients[1:]):
            assert wait_for(client) == [b"%d" % number]
        for client in clients:
            client.close()


def test_who_comes_when_no_descriptor_is_left_is_turned_away(address: str) -> None:
    """And those who are there go on; nobody spins."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with router(address) as server, dealer(address) as client:
        client.send_message([b"hello"])
        wait_for(server)
        late = socket.socket(socket.AF_UNIX)
        used = max(map(int, os.listdir("/proc/self/fd"))) + 1
        held = [os.dup(0) for _ in range(used - len(os.listdir("/proc/self/fd")) + 1)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, limits[1]))
        try:
            late.connect(ipc_path(address))
            assert is_silent(server)
            assert late.recv(1) == b""
            client.send_message([b"still here"])
            assert wait_for(server)[1:] == [b"still here"]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in held:
                os.close(descriptor)
        late.close()
        with dealer(address) as other:
            other.send_message([b"there is room again"])
            assert wait_for(server)[1:] == [b"there is room again"]


def test_a_signal_for_broken_pipes_is_not_raised(address: str) -> None:
    """Users' scripts give SIGPIPE its meaning back: a peer's end must not end them."""
    assert unix_stream._NO_SIGNAL == socket.MSG_NOSIGNAL


@pytest.mark.parametrize("address", ["ipc://@abstract", "ipc://relative", "ipc://*", "inproc://x"])
def test_odd_addresses_are_refused(address: str) -> None:
    for open_socket in (dealer, router):
        with pytest.raises(ValueError, match="absolute"):
            open_socket(address)


def test_a_path_longer_than_the_kernel_allows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"107|103"):
        ipc_address("/tmp/" + "x" * 120, "clients")


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


def test_an_open_directory_is_not_connected_to(directory: str, address: str) -> None:
    os.chmod(directory, 0o777)
    for open_socket in (dealer, router):
        with pytest.raises(HomeError, match="chmod 700"):
            open_socket(address)


def test_frames_of_a_message_in_many_reads() -> None:
    frames = [b"head", b"", os.urandom(100_000), os.urandom(3 * 2**20), b"", b"tail", b""]
    lengths = tuple(map(len, frames))
    whole = b"".join(frames)
    for begin in (0, 4, 50, 100_004, len(whole) - 1, len(whole)):
        large = unix_stream._Large(lengths, whole[:begin])
        at = begin
        while (room := large.room()) is not None:
            with room:
                count = min(len(room), 70_000)
                room[:count] = whole[at : at + count]
            large.filled += count
            at += count
        assert large.frames == frames
        assert {type(frame) for frame in large.frames} == {bytes}
        assert at == len(whole)


def test_what_is_announced_takes_no_memory_before_it_comes() -> None:
    large = unix_stream._Large((2**40,), b"x")
    sizes = []
    for _ in range(2):
        room = large.room()
        assert room is not None
        sizes.append(large.filled + len(room))
        large.filled += len(room)
        room.release()
    assert sizes == [2**24, 2**25]
