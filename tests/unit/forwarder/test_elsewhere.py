"""A home's forwarder on another host: it answers, it has ended, or nobody knows."""

from __future__ import annotations

import platform
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.errors import ForwarderUnreachable
from fxhpc.forwarder import attach, elsewhere
from fxhpc.forwarder.home import ForwarderAddress, Home
from fxhpc.transport import probing

SILENT = "tcp://192.0.2.77:9"  # of a network that is nowhere


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    monkeypatch.setattr(elsewhere, "PROBE_S", 0.05)
    monkeypatch.setattr("fxhpc.interchange.addresses.host_addresses", lambda: ["10.9.9.9"])
    return home


@pytest.fixture
def port() -> Iterator[int]:
    """Where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def at(*hosts: str) -> ForwarderAddress:
    names = "ipc:///nowhere/clients", "ipc:///nowhere/managers"
    return ForwarderAddress(
        "login1", "b", 4711, 1.0, *names, 3, "0.1", " ".join(hosts), "key", since=1.0
    )


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def test_the_address_that_answers(home: Home, port: int) -> None:
    home.write_owner(at(SILENT, f"tcp://127.0.0.1:{port}"))
    found = attach.find_forwarder(home)
    assert found is not None
    assert (found.clients, found.pid, found.server_key) == (f"tcp://127.0.0.1:{port}", 0, "key")


@pytest.mark.parametrize("others", [(), (SILENT,)])
def test_one_that_has_ended(home: Home, others: tuple[str, ...]) -> None:
    """It would listen at all of its addresses, of which one may lead nowhere from here."""
    home.write_owner(at(f"tcp://127.0.0.1:{free_port()}", *others))
    assert attach.find_forwarder(home) is None


def test_a_port_that_is_closed_for_a_moment(
    home: Home, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"tcp://127.0.0.1:{port}"
    told = iter([{address: probing.REFUSED}, {address: ""}])
    monkeypatch.setattr(probing, "answers", lambda *_: next(told))
    home.write_owner(at(address))
    assert attach.find_forwarder(home) is not None


@pytest.mark.parametrize(
    "hosts",
    [
        (SILENT,),
        ("tcp://10.9.9.9:1",),  # this host has that address, too: it says nothing
    ],
)
def test_nobody_knows(home: Home, hosts: tuple[str, ...]) -> None:
    home.write_owner(at(*hosts))
    with pytest.raises(ForwarderUnreachable) as caught:
        attach.find_forwarder(home)
    for words in ("login1", "pid 4711", "ago", platform.node(), "--take-over", "cut off"):
        assert words in str(caught.value)


def test_one_that_has_no_port(home: Home) -> None:
    home.write_owner(at())
    with pytest.raises(ForwarderUnreachable, match=r"own host alone.*fxhpc access init"):
        attach.find_forwarder(home)


def test_it_has_ended_and_its_lock_is_held(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_owner(at(f"tcp://127.0.0.1:{free_port()}"))
    monkeypatch.setattr(attach, "READY_S", 0.0)
    monkeypatch.setattr(attach, "_start", lambda *_: "busy")
    with pytest.raises(ForwarderUnreachable, match=r"still locked.*90 s.*--take-over"):
        attach.ensure_forwarder(home.path)
