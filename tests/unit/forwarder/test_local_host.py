"""What becomes of a `local` endpoint's journal when its process ends, or its forwarder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fxhpc.forwarder.clients import HomeClients
from fxhpc.forwarder.locals import LocalHost
from fxhpc.hosts import start_time
from fxhpc.interchange.journal import Owner
from fxhpc.protocol import messages as msg
from fxhpc.version import __version__

ONE, OTHER = b"1" * 16, b"2" * 16


class Acceptor:
    """Managers that say something, and whom somebody tells something."""

    def __init__(self, *said: tuple[bytes, Any]) -> None:
        self.socket = object()
        self.said = list(said)
        self.told: list[tuple[bytes, Any]] = []

    def receive(self) -> Iterator[tuple[bytes, Any]]:
        while self.said:
            yield self.said.pop(0)

    def send(self, peer: bytes, message: Any) -> bool:
        self.told.append((peer, message))
        return True

    def forget(self, peer: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def byes(self) -> list[bytes]:
        """Who was told to end."""
        return [peer for peer, message in self.told if isinstance(message, msg.Bye)]


def hosting(directory: Path, acceptor: Acceptor) -> LocalHost:
    """A host of two instances, each with a manager."""
    accepting: Any = acceptor
    host = LocalHost(accepting, 1, str(directory))
    for name in (ONE, OTHER):
        host.open(name, Owner(name, 1, 0.0))
        acceptor.said.append((b"of " + name, msg.Register(name.hex(), name, 1, __version__)))
    list(host.receive())
    return host


def journals(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.iterdir())


def test_an_instance_is_closing_until_its_manager_has_ended(tmp_path: Path) -> None:
    host = hosting(tmp_path, Acceptor())
    assert not host.is_closing
    host.close(ONE)
    assert host.closed() == []
    assert host.is_closing
    host.manager_ended(b"of " + ONE)
    assert host.is_closing  # until somebody has asked for it
    assert host.closed() == [ONE]
    assert not host.is_closing
    assert host.has(OTHER)
    assert not host.has(ONE)
    assert journals(tmp_path) == [OTHER.hex()]
    host.shut_down(lambda name: True)


def test_a_journal_stays_for_the_next_forwarder_while_its_process_lives(tmp_path: Path) -> None:
    acceptor = Acceptor()
    host = hosting(tmp_path, acceptor)
    clients_acceptor: Any = Acceptor()
    clients = HomeClients(clients_acceptor)
    clients.expect(ONE, os.getpid(), start_time(os.getpid()))
    clients.expect(OTHER, os.getpid(), 1e9)  # one that had the same pid
    host.shut_down(clients.lives)
    assert journals(tmp_path) == [ONE.hex()]
    assert acceptor.byes() == [b"of " + OTHER]
    clients.close()


def test_processes_are_known_as_long_as_their_instances(tmp_path: Path) -> None:
    clients_acceptor: Any = Acceptor()
    clients = HomeClients(clients_acceptor)
    for name in (ONE, OTHER):
        clients.expect(name, os.getpid(), 0.0)
    host = hosting(tmp_path, Acceptor())
    clients.forget_processes(host.has)
    assert list(clients.processes) == [ONE, OTHER]
    host.close(ONE)
    host.manager_ended(b"of " + ONE)
    host.closed()
    clients.forget_processes(host.has)
    assert list(clients.processes) == [OTHER]
    assert not clients.lives(ONE)
    host.shut_down(clients.lives)
    clients.close()
