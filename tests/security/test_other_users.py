"""Another user of the same machine reaches neither our sockets nor gets us to reach his."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fxhpc.errors import HomeError
from fxhpc.transport import unix_sockets
from fxhpc.transport.ipc import check_private, ipc_address, ipc_path, make_ipc_directory
from fxhpc.transport.unix_sockets import dealer, router
from tests.waiting import eventually, readable

NOBODY = 65534


def as_nobody(act: Callable[[], None]) -> str:
    """What `act` meets when another user does it: an error's name, or "" if it succeeds.

    Only root can become another user. Run by anybody else, these tests rely on what they assert
    of modes and owners beside.
    """
    if os.getuid() != 0:
        return "PermissionError"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = "failed to become another user"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            try:
                act()
                outcome = ""
            except OSError as error:
                outcome = type(error).__name__
        finally:
            os.write(writer, outcome.encode())
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        outcome = file.read()
    os.waitpid(child, 0)
    return outcome


@pytest.fixture
def directory() -> Iterator[str]:
    path = make_ipc_directory("fxhpc-test")
    yield path
    shutil.rmtree(path)


# The child only becomes another user, connects and ends: it needs no lock of any thread.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("umask", [0, 0o022])
def test_another_user_cannot_connect(directory: str, umask: int) -> None:
    address = ipc_address(directory, "clients")
    before = os.umask(umask)
    server = router(address)
    os.umask(before)

    def inject() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(ipc_path(address))

    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert os.stat(ipc_path(address)).st_mode & 0o777 == 0o600
    assert as_nobody(inject) == "PermissionError"
    assert as_nobody(lambda: print(os.listdir(directory))) == "PermissionError"
    # Even if the directory were open, the socket is not.
    os.chmod(directory, 0o755)
    assert as_nobody(inject) == "PermissionError"
    os.chmod(directory, 0o700)
    with dealer(address) as client:
        assert client.send_message([b"ours"])
        assert readable(server)
        frames = server.receive_message()
        assert frames is not None
        assert frames[1:] == [b"ours"]
        assert server.receive_message() is None
    server.close(0)


def test_another_user_who_could_connect_is_not_heard(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were directory and socket open to all: the kernel tells whose process it is."""
    address = ipc_address(directory, "clients")
    with router(address) as server:
        client = socket.socket(socket.AF_UNIX)
        client.connect(ipc_path(address))
        monkeypatch.setattr(unix_sockets, "_is_own", lambda connected: False)
        assert readable(server)
        assert server.receive_message() is None
        assert client.recv(1) == b""  # closed
        with pytest.raises(PermissionError, match="another user"):
            dealer(address)
        client.close()


def test_another_users_directory_is_not_used(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(HomeError, match=f"belongs to the user with id {owner}"):
        check_private(directory)
    for open_socket in (dealer, router):
        with pytest.raises(HomeError, match=f"belongs to the user with id {owner}"):
            open_socket(f"ipc://{directory}/clients")


def test_a_place_taken_over_by_another_user_gets_no_message(directory: str) -> None:
    """The forwarder ends, its directory goes, and somebody makes one of the same name."""
    address = ipc_address(directory, "clients")
    server = router(address)
    client = dealer(address)
    client.send_message([b"hello"])
    assert readable(server)
    server.close(0)
    shutil.rmtree(directory)
    os.mkdir(directory, 0o777)
    impostor = socket.socket(socket.AF_UNIX)
    impostor.bind(ipc_path(address))
    impostor.listen()
    impostor.setblocking(False)
    try:
        eventually(lambda: not client.send_message([b"my tasks"]), 5)
        with pytest.raises(BlockingIOError):
            impostor.accept()
        os.chmod(directory, 0o777)
        with pytest.raises(HomeError, match="open to other users"):
            dealer(address)
    finally:
        impostor.close()
        client.close(0)


def test_store_files_are_private(tmp_path: Path) -> None:
    from fxhpc.forwarder.store.store import Store

    before = os.umask(0)
    try:
        store = Store(str(tmp_path / "store.db"))
        store.raise_epoch()
        for path in tmp_path.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
        store.close()
    finally:
        os.umask(before)
