"""A forwarder in a thread of the caller's process, with a store of its own: nothing outlives it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fxhpc import forks
from fxhpc.errors import ForwarderError
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import Forwarder
from fxhpc.forwarder.home import SPILL
from fxhpc.forwarder.locals import LocalHost
from fxhpc.forwarder.loop import Loop
from fxhpc.forwarder.remotes import RemoteInterchanges
from fxhpc.forwarder.spilled import SpilledFiles
from fxhpc.forwarder.store.store import Store
from fxhpc.forwarder.store.writer import DirectWriter, Writer
from fxhpc.protocol import codec, messages
from fxhpc.transport import ipc, unix_sockets
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.directories import OwnedDirectory
from fxhpc.transport.waker import Waker

log = logging.getLogger(__name__)

#: The store that lives in memory, and ends with the process.
MEMORY = ":memory:"


class EmbeddedForwarder:
    """Hosts a forwarder and its `local` interchange in one daemon thread.

    Args:
        path: the store's file, or ":memory:".
        endpoint: the directory of an endpoint that it is linked to, beside its `local`.
    """

    def __init__(self, path: str = MEMORY, endpoint: Path | None = None) -> None:
        self._waker = Waker()
        durable = path != MEMORY
        with forks.none:  # SQLite has locks that all stores of a process share
            store = self._store = Store(path)
            epoch = store.raise_epoch()
        self._writer = (
            Writer(store, self._waker.wake, inline=True) if durable else DirectWriter(store)
        )
        directory = OwnedDirectory()
        self.directory = directory.path
        self._owned = directory
        #: Where large results go, see `fxhpc.forwarder.spilled`: beside the store that knows them.
        self.spill = f"{os.path.abspath(path)}.{SPILL}" if durable else f"{directory.path}/{SPILL}"
        managers = ipc.ipc_address(self.directory, "managers")
        host = LocalHost(
            Acceptor(unix_sockets.router(managers), codec.FROM_MANAGER, messages.Register),
            epoch,
            None,
        )
        # Another process may lose what it was sent: it is stored too, in memory as the case may be.
        is_durable = durable or endpoint is not None
        recovered = store.recover()  # which replaces a store that turns out to be damaged
        core = Forwarder(epoch, managers=managers, durable=is_durable, home=store.identity)
        core.recover(recovered)
        self._spilled = SpilledFiles(lambda: [self.spill])
        self._clients = _Threads()
        remotes = None
        if endpoint is not None:
            remotes = RemoteInterchanges(endpoint.parent, endpoint.name)
        self._remotes = remotes
        self._loop = Loop(core, self._clients, self._writer, host, self._waker, remotes)
        self._pid = os.getpid()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fxhpc-forwarder", daemon=True)
        self._thread.start()

    def connect(
        self, on_message: Callable[[Any], None], on_closed: Callable[[BaseException], None]
    ) -> EmbeddedPeer:
        """Attach a client. Both functions are called in the forwarder's thread."""
        peer = EmbeddedPeer(os.urandom(8), self._clients.inbox, self._waker)
        self._clients.peers[peer.name] = (on_message, on_closed)
        return peer

    def close(self, timeout: float = 2.0) -> None:
        """End the thread; the manager is told to end, and ends with the process at the latest."""
        if self._stopping or self._pid != os.getpid():
            return
        self._stopping = True
        self._waker.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        reason: BaseException = ForwarderError("the forwarder in this process has ended")
        try:
            if self._remotes is not None:
                for event in [*self._remotes.tick()]:  # the first task need not wait for a tick
                    self._loop.feed(event)
            while not self._stopping:
                self._loop.turn()
                self._spilled.tick(time.monotonic(), self._loop.core.knows_stream)
                self._store.beside = self._spilled.size
                if self._loop.broken is not None and not self._loop.is_told:
                    raise self._loop.broken  # who waits for what it was about never hears of it
            self._loop.turn()  # what was said last is still handled
        except BaseException as error:  # whatever it is: nobody may wait for ever
            log.exception("the forwarder in this process has failed")
            reason = ForwarderError(f"the forwarder in this process has failed: {error!r}")
        for _, on_closed in list(self._clients.peers.values()):
            on_closed(reason)
        self._loop.host.shut_down(lambda _: False)
        if self._remotes is not None:
            self._remotes.close()
        self._writer.close()
        self._waker.close()
        self._owned.remove()


class EmbeddedPeer:
    """A client of an embedded forwarder, as that forwarder knows it."""

    def __init__(self, name: bytes, inbox: deque[tuple[bytes, Any]], waker: Waker) -> None:
        self.name = name
        self._inbox = inbox
        self._waker = waker

    def send(self, message: Any) -> None:
        """Hand a message over, in order, without waiting."""
        self._inbox.append((self.name, message))
        self._waker.wake()


class _Threads:
    """Clients in other threads of this process."""

    def __init__(self) -> None:
        self.inbox: deque[tuple[bytes, Any]] = deque()
        self.peers: dict[bytes, tuple[Callable[[Any], None], Callable[[BaseException], None]]] = {}

    def sockets(self) -> list[Any]:
        return []

    def receive(self, ready: set[Any]) -> list[ev.Event]:
        return []

    def waiting(self) -> list[ev.Event]:
        events: list[ev.Event] = []
        while self.inbox:
            events.append(ev.ClientSaid(*self.inbox.popleft()))
        return events

    def tick(self) -> list[ev.Event]:
        return []

    def send(self, peer: bytes, message: Any) -> None:
        if found := self.peers.get(peer):
            found[0](message)

    def forget(self, peer: bytes) -> None:
        self.peers.pop(peer, None)
