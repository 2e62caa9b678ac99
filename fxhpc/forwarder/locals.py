"""The interchanges of `local` endpoints, which live with the forwarder, and their managers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fxhpc.forwarder.core import LOCAL_ENDPOINT
from fxhpc.hosts import Watch
from fxhpc.interchange import events as iev
from fxhpc.interchange.core import Interchange
from fxhpc.interchange.journal import Journal, Owner, read_journal
from fxhpc.protocol import messages as msg
from fxhpc.transport.acceptor import Acceptor

if TYPE_CHECKING:
    from fxhpc.forwarder.other_hosts import OtherHosts

#: Seconds that the managers of a closing instance have to end.
CLOSING_S = 10.0


class _Instance:
    def __init__(self, name: bytes, core: Interchange, journal: Journal | None) -> None:
        self.name = name
        self.core = core
        self.journal = journal
        self.peers: set[bytes] = set()
        self.closing_until: float | None = None


class LocalHost:
    """Hosts interchanges, and carries what they say to their managers.

    Args:
        acceptor: the socket where managers register.
        epoch: of the forwarder; that of the interchanges too.
        directory: where journals are kept, or None: they die with this process.

    Attributes:
        others: where managers on other hosts register, if they may.
    """

    def __init__(
        self, acceptor: Acceptor[msg.FromManager], epoch: int, directory: str | None
    ) -> None:
        self._acceptor = acceptor
        self.others: OtherHosts | None = None
        self._epoch = epoch
        self._directory = directory
        self._instances: dict[bytes, _Instance] = {}
        self._by_peer: dict[bytes, _Instance] = {}
        self._watches: dict[bytes, Watch] = {}

    def open(
        self, name: bytes, owner: Owner | None = None, recovered: iev.Recovered | None = None
    ) -> None:
        """Host an interchange for an instance; no effect if it is there already."""
        if name in self._instances:
            return
        journal = None
        if self._directory is not None:
            path = os.path.join(self._directory, f"{name.hex()}.journal")
            if recovered is None:
                _, recovered = read_journal(path)  # of a disk so full that it names no owner
            journal = Journal(path, owner, recovered.managers)
        core = Interchange(LOCAL_ENDPOINT, self._epoch)
        instance = self._instances[name] = _Instance(name, core, journal)
        if recovered is not None:
            self._carry_out(instance, core.handle(recovered, time.monotonic()))

    def close(self, name: bytes) -> None:
        """Tell an instance's managers to end. `closed` says when they have."""
        instance = self._instances.get(name)
        if instance is None or instance.closing_until is not None:
            return
        instance.closing_until = time.monotonic() + CLOSING_S
        for peer in instance.peers:
            self._send(peer, msg.Bye("its process has ended"))

    @property
    def is_closing(self) -> bool:
        """Whether managers of an instance that is told to end have not ended yet."""
        return any(instance.closing_until is not None for instance in self._instances.values())

    def has(self, name: bytes) -> bool:
        """Whether an interchange is hosted for an instance."""
        return name in self._instances

    def closed(self) -> list[bytes]:
        """Instances that are over now."""
        over: list[bytes] = []
        for instance in list(self._instances.values()):
            until = instance.closing_until
            if until is None or (instance.peers and time.monotonic() < until):
                continue
            del self._instances[instance.name]
            for peer in instance.peers:
                self._forget(peer)
            if instance.journal is not None:
                instance.journal.close(remove=True)
            over.append(instance.name)
        return over

    def tell(self, name: bytes, message: msg.ToInterchange) -> list[msg.FromInterchange]:
        """Hand a message of the forwarder to an interchange; what it says in return."""
        instance = self._instances.get(name)
        if instance is None:
            return []
        return self._handle(instance, iev.ForwarderSaid(message))

    def sockets(self) -> list[Any]:
        """What to poll for reading, beside `descriptors`."""
        return [acceptor.socket for acceptor in self._acceptors()]

    def _acceptors(self) -> list[Acceptor[msg.FromManager]]:
        far = self.others.managers if self.others is not None else None
        return [self._acceptor] if far is None else [self._acceptor, far]

    def _send(self, peer: bytes, message: msg.ToManager) -> None:
        for acceptor in self._acceptors():
            if acceptor.send(peer, message):
                return

    def receive(self) -> Iterator[tuple[bytes, list[msg.FromInterchange]]]:
        """Handle what managers have said; what their interchanges say to the forwarder."""
        for acceptor in self._acceptors():
            yield from self._receive(acceptor)

    def _receive(
        self, acceptor: Acceptor[msg.FromManager]
    ) -> Iterator[tuple[bytes, list[msg.FromInterchange]]]:
        for peer, message in acceptor.receive():
            if isinstance(message, msg.Register):
                instance = self._instances.get(message.endpoint)
                if instance is None or instance.closing_until is not None:
                    acceptor.send(peer, msg.Refuse("the process that it works for has ended"))
                    acceptor.forget(peer)
                    continue
                instance.peers.add(peer)
                self._by_peer[peer] = instance
                if acceptor is self._acceptor and peer not in self._watches and message.pid:
                    self._watches[peer] = Watch(message.pid, 0.0)
            else:
                instance = self._by_peer.get(peer)
                if instance is None:
                    acceptor.send(peer, msg.Reset())
                    acceptor.forget(peer)
                    continue
            said = self._handle(instance, iev.ManagerSaid(peer, message))
            if isinstance(message, msg.Register):
                # Its process starts one when the one before has ended, whoever noticed that.
                said += self._handle(instance, iev.OnlyManager(message.manager))
            yield instance.name, said

    def descriptors(self) -> dict[int, bytes]:
        """What to poll for: a descriptor that is readable tells that this manager has ended."""
        return {watch.fd: peer for peer, watch in self._watches.items() if watch.fd >= 0}

    def manager_ended(self, peer: bytes) -> tuple[bytes, list[msg.FromInterchange]]:
        """A manager's process has ended."""
        instance = self._by_peer[peer]
        said = self._handle(instance, iev.ManagerGone(peer, "its process has ended"))
        self._forget(peer)
        return instance.name, said

    def tick(self) -> Iterator[tuple[bytes, list[msg.FromInterchange]]]:
        """Time has passed."""
        for peer, watch in list(self._watches.items()):
            if watch.fd < 0 and watch.is_over():
                yield self.manager_ended(peer)
        for instance in list(self._instances.values()):
            yield instance.name, self._handle(instance, iev.Tick())
            if instance.journal is not None:
                instance.journal.retry()
                if instance.core.is_idle:
                    instance.journal.compact(instance.core.has_all)

    def shut_down(self, goes_on: Callable[[bytes], bool]) -> None:
        """The forwarder ends: say so to managers, and remove journals.

        Args:
            goes_on: whether an instance goes on with the next forwarder, which reads its journal.
        """
        for instance in self._instances.values():
            kept = goes_on(instance.name)
            if not kept:
                for peer in instance.peers:
                    self._send(peer, msg.Bye("the forwarder has ended"))
            if instance.journal is not None:
                instance.journal.close(remove=not kept)
        for watch in self._watches.values():
            watch.close()
        self._instances.clear()
        self._acceptor.close()

    def _handle(self, instance: _Instance, event: iev.Event) -> list[msg.FromInterchange]:
        return self._carry_out(instance, instance.core.handle(event, time.monotonic()))

    def _carry_out(
        self, instance: _Instance, actions: list[iev.Action]
    ) -> list[msg.FromInterchange]:
        said: list[msg.FromInterchange] = []
        for action in actions:
            if isinstance(action, iev.ToForwarder):
                said.append(action.message)
            elif isinstance(action, iev.ToManager):
                self._send(action.peer, action.message)
            elif isinstance(action, iev.CloseManager):
                self._forget(action.peer)
            elif instance.journal is not None and isinstance(action, iev.Sent | iev.ManagerKnown):
                instance.journal.write(action)
        return said

    def _forget(self, peer: bytes) -> None:
        for acceptor in self._acceptors():
            acceptor.forget(peer)
        instance = self._by_peer.pop(peer, None)
        if instance is not None:
            instance.peers.discard(peer)
        if watch := self._watches.pop(peer, None):
            watch.close()
