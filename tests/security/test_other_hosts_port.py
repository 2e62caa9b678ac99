"""The ports for other hosts: who is let in with which key, and what becomes of who is not."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fxhpc.forwarder.access import Access, Grant, read_seen, write_access
from fxhpc.forwarder.home import Home
from fxhpc.forwarder.other_hosts import OtherHosts
from fxhpc.interchange.forwarder_door import ForwarderDoor
from fxhpc.protocol import codec, service
from fxhpc.protocol import messages as msg
from fxhpc.protocol.link import Link
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.keys import KeyPair, load_keys, new_keys
from fxhpc.transport.tcp_dealer import TcpDealer
from tests.waiting import eventually

ATTACH = service.Attach(b"c" * 16, b"l" * 16, 1, "elsewhere", 1.0, "0.1")


class Ports:
    """The ports of a home, and those who come to them."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.hosts = OtherHosts(home, "")
        self.heard: list[object] = []
        self.dealers: list[TcpDealer] = []

    def turn(self) -> None:
        for acceptor in (self.hosts.clients, self.hosts.managers):
            if acceptor is not None:
                self.heard += [message for _, message in acceptor.receive()]

    def turn_until(self, holds: Callable[[], object]) -> None:
        eventually(lambda: self.turn() or holds(), 10)

    def connect(self, keys: KeyPair, managers: bool = False) -> TcpDealer:
        address = self.hosts.managers_address if managers else self.hosts.addresses
        first = address.split()[0]
        dealer = TcpDealer(first, CurveClient(keys, self.hosts.server_key.encode()))
        self.dealers.append(dealer)
        dealer.send_message(codec.FROM_CLIENT.encode(Link(7).stamp(ATTACH)))
        return dealer

    def is_refused(self, keys: KeyPair, managers: bool = False) -> bool:
        dealer = self.connect(keys, managers)
        self.turn_until(lambda: dealer.ended)
        return bool(dealer.refused)

    def close(self) -> None:
        for dealer in self.dealers:
            dealer.close()
        self.hosts.close()


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    home = Home(tmp_path / "home")
    home.create()
    ports = Ports(home)
    yield ports
    ports.close()


def grant(ports: Ports, *keys: KeyPair) -> None:
    granted = [Grant(f"laptop{at}", one.public.decode(), 1.0) for at, one in enumerate(keys)]
    write_access(ports.home, Access(0, "127.0.0.1", granted))
    ports.hosts.look()


def test_no_port_without_a_reason(ports: Ports) -> None:
    before = psutil.Process().net_connections()
    assert not ports.hosts.look()
    assert ports.hosts.clients is None
    assert psutil.Process().net_connections() == before
    assert not ports.home.forwarder_key.exists()


def test_each_key_opens_its_own_door(ports: Ports) -> None:
    laptop = new_keys("client")
    grant(ports, laptop)
    own = load_keys(ports.home.client_key, "client")
    manager = load_keys(ports.home.manager_key, "manager")
    server = load_keys(ports.home.forwarder_key, "forwarder")
    for keys in (own, laptop):
        ports.heard.clear()
        ports.connect(keys)
        ports.turn_until(lambda: ports.heard == [ATTACH])
    # A manager's key does not submit, a client's takes no work, a stranger's does nothing.
    for keys in (manager, server, new_keys("client")):
        assert ports.is_refused(keys)
    for keys in (own, laptop, server, new_keys("manager")):
        assert ports.is_refused(keys, managers=True)
    # What a client says is not understood where managers register.
    ports.heard.clear()
    ports.connect(manager, managers=True)
    assert ports.hosts.managers is not None
    acceptor = ports.hosts.managers
    ports.turn_until(lambda: acceptor.undecodable == 1)
    assert ports.heard == []
    ports.hosts._seen.discard("the home")
    ports.hosts.look()
    assert list(read_seen(ports.home)) == ["laptop0"]
    for path in ("forwarder.key", "client.key", "manager.key", "access.json", "access.seen"):
        assert (ports.home.path / path).stat().st_mode & 0o777 == 0o600


def test_who_is_revoked_is_out_at_once(ports: Ports) -> None:
    kept, revoked = new_keys("client"), new_keys("client")
    grant(ports, kept, revoked)
    address = ports.hosts.addresses
    one, other = ports.connect(kept), ports.connect(revoked)
    ports.turn_until(lambda: ports.heard == [ATTACH, ATTACH])
    began = time.monotonic()
    grant(ports, kept)
    ports.turn_until(lambda: one.ended and other.ended)
    assert time.monotonic() - began < 10
    ports.heard.clear()
    ports.connect(kept)
    ports.turn_until(lambda: ports.heard == [ATTACH])
    assert ports.is_refused(revoked)
    assert ports.hosts.addresses == address  # files that were given out stay true


def test_a_port_that_another_program_has(ports: Ports) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        write_access(ports.home, Access(port, "127.0.0.1"))
        ports.hosts.look()
        assert ports.hosts.clients is None
        assert "in use" in ports.hosts.trouble
    ports.hosts.look()  # it is tried again, though nothing was written since
    assert ports.hosts.addresses == f"tcp://127.0.0.1:{port}"


def test_keys_that_are_made_anew(ports: Ports) -> None:
    laptop = new_keys("client")
    grant(ports, laptop)
    before = ports.hosts.server_key
    ports.home.forwarder_key.unlink()
    assert ports.hosts.look()
    assert ports.hosts.server_key != before
    ports.connect(laptop)
    ports.turn_until(lambda: ports.heard == [ATTACH])
    ports.home.access.unlink()
    assert ports.hosts.look()
    assert ports.hosts.clients is None


@pytest.fixture
def dealers() -> Iterator[list[TcpDealer]]:
    """Connections, to be closed."""
    found: list[TcpDealer] = []
    yield found
    for one in found:
        one.close()


def test_an_interchange_lets_in_the_homes_forwarder_alone(
    tmp_path: Path, dealers: list[TcpDealer]
) -> None:
    endpoint, path = new_keys("endpoint"), tmp_path / "forwarder.key"
    heard: list[object] = []
    with contextlib.closing(ForwarderDoor(endpoint, path)) as door:

        def connect(keys: KeyPair) -> TcpDealer:
            address = door.acceptor.socket.address.replace("0.0.0.0", "127.0.0.1")
            dealers.append(TcpDealer(address, CurveClient(keys, endpoint.public)))
            greeting = Link(7).stamp(msg.Hello(1, "0.1"))
            dealers[-1].send_message(codec.TO_INTERCHANGE.encode(greeting))
            return dealers[-1]

        def turn_until(holds: Callable[[], object]) -> None:
            def turn() -> object:
                heard.extend(door.acceptor.receive())
                return holds()

            eventually(turn, 10)

        forwarder = load_keys(path, "forwarder")
        connect(forwarder)
        turn_until(lambda: heard)
        for keys in (new_keys("forwarder"), new_keys("manager"), endpoint):
            refused = connect(keys)
            turn_until(lambda dealer=refused: dealer.ended)  # type: ignore[misc]
            assert refused.refused
        path.unlink()  # the home's keys are made anew
        door.look()
        last = connect(forwarder)
        turn_until(lambda: last.ended)
        heard.clear()
        connect(load_keys(path, "forwarder"))
        turn_until(lambda: heard)
