"""Functions and large shared arguments: kept for managers, asked for when they are not here."""

from __future__ import annotations

from collections import OrderedDict

from fxhpc.interchange import events as ev
from fxhpc.interchange.held import Manager
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg

#: Bytes of functions and shared arguments that are kept for managers yet to come.
CACHE_BYTES = 256 * 2**20


class Bodies:
    """Who has which bytes, and who waits for them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self._wanted: dict[bytes, set[bytes]] = {}  # by digest: connections of managers

    def came(self, digest: bytes, data: bytes) -> None:
        """The forwarder has sent these: keep them, and send them to whoever waits."""
        self._keep(digest, data)
        for peer in self._wanted.pop(digest, set()):
            if manager := self._state.managers.get(peer):
                self._send(manager, digest)

    def missing(self, digests: list[bytes]) -> None:
        """The forwarder does not have these either: tell whoever waits."""
        for digest in digests:
            for peer in self._wanted.pop(digest, set()):
                if peer in self._state.managers:
                    self._state.to_manager(peer, msg.NoBody([digest]))

    def greeted(self) -> None:
        """A forwarder has greeted: what was asked of the one before, it may never have heard."""
        managers = self._state.managers
        for digest in list(self._wanted):
            if managers.keys().isdisjoint(self._wanted[digest]):
                del self._wanted[digest]
        if self._wanted:
            self._state.actions.append(ev.ToForwarder(msg.NeedBody(list(self._wanted))))

    def offer(self, manager: Manager, runs: list[msg.TaskRun]) -> None:
        """Send what these tasks need, as far as it is here and not there."""
        for run in runs:
            for digest in (run.function, *run.shared):
                if digest not in manager.bodies and digest in self._bodies:
                    self._send(manager, digest)

    def need(self, manager: Manager, digests: list[bytes]) -> None:
        """A manager lacks these."""
        unknown: list[bytes] = []
        for digest in digests:
            if digest in self._bodies:
                self._send(manager, digest)
                continue
            if digest not in self._wanted:
                unknown.append(digest)
            self._wanted.setdefault(digest, set()).add(manager.peer)
        if unknown:
            self._state.actions.append(ev.ToForwarder(msg.NeedBody(unknown)))

    def _send(self, manager: Manager, digest: bytes) -> None:
        self._bodies.move_to_end(digest)
        manager.bodies.add(digest)
        self._state.to_manager(manager.peer, msg.Body(digest, self._bodies[digest]))

    def _keep(self, digest: bytes, data: bytes) -> None:
        if digest in self._bodies:
            return
        self._bodies[digest] = data
        self._bytes += len(data)
        while self._bytes > CACHE_BYTES and len(self._bodies) > 1:
            _, dropped = self._bodies.popitem(last=False)
            self._bytes -= len(dropped)
