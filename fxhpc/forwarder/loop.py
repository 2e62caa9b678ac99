"""The forwarder's loop: carries out what the core wants, and tells it what happens."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any, Protocol

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import Forwarder
from fxhpc.forwarder.locals import LocalHost
from fxhpc.forwarder.remotes import RemoteInterchanges
from fxhpc.forwarder.store.writer import AnyWriter
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.transport.poller import Poller
from fxhpc.transport.waker import Waker

log = logging.getLogger(__name__)

#: Seconds between two ticks.
TICK_S = 0.5

#: Seconds that it stays awake for the next call of a client that calls in a loop: to sleep and to
#: be woken takes longer than such a client takes. See docs/decisions/0076.
AWAKE_S = 150e-6

_NOT_REMOTE = {LOCAL_ENDPOINT}


class Clients(Protocol):
    """Where clients are: other processes, or threads of this one."""

    def sockets(self) -> list[Any]:
        """What to poll for reading."""

    def waiting(self) -> list[ev.Event]:
        """What has happened to clients and needs no look at a socket."""

    def receive(self, ready: set[Any]) -> list[ev.Event]:
        """What has happened to clients, as far as what is ready tells."""

    def tick(self) -> list[ev.Event]:
        """What time tells about them."""

    def send(self, peer: bytes, message: Any) -> None:
        """Say something to a client."""

    def forget(self, peer: bytes) -> None:
        """A client is gone."""


class Loop:
    """Runs a forwarder's core between its clients, its store and its local interchanges.

    Attributes:
        broken: what was raised when the core went on after the store had answered: what it knows
            may not be what is stored since.
        is_told: whether that was in a client's call, which was answered so.
    """

    def __init__(
        self,
        core: Forwarder,
        clients: Clients,
        writer: AnyWriter,
        host: LocalHost,
        waker: Waker,
        remotes: RemoteInterchanges | None = None,
    ) -> None:
        self.core = core
        self.clients = clients
        self.writer = writer
        self.host = host
        self.waker = waker
        self.remotes = remotes
        self._events: deque[ev.Event] = deque([ev.Begun(time.time())])
        self._watched: list[Any] = []
        self._last_poller = Poller()
        self._writes: set[int] = set()  # tokens of Store actions, to tell them from Load's
        self._next_tick = time.monotonic() + TICK_S
        self._trouble = ""  # what the store said last, if it was an error
        self.broken: Exception | None = None
        self.is_told = False
        self._dirty = False  # something was handled since the last end of a turn

    def turn(self) -> None:
        """Wait until something happens, at most until the next tick, and handle it."""
        managers = self.host.descriptors()
        poller = self._poller(
            [
                self.waker.fileno(),
                *self.host.sockets(),
                *self.clients.sockets(),
                *managers,
                *(self.remotes.sockets() if self.remotes else ()),
            ]
        )
        self.waker.arm()
        self._gather()
        wake_at = min(self._next_tick, self.core.due)
        if self.remotes is not None:
            wake_at = min(wake_at, self.remotes.next_eager_look())
        wait = 0.0 if self._events else max(0.0, wake_at - time.monotonic())
        ready = poller.poll(wait, AWAKE_S if self.core.expects_more else 0.0)
        self.waker.clear(self.waker.fileno() in ready)
        self._gather()
        self._events.extend(self.clients.receive(ready))
        for descriptor, peer in managers.items():
            if descriptor in ready:
                # What it said before it ended comes first.
                self._interchanges_said(self.host.receive())
                if peer in self.host.descriptors().values():
                    self._interchanges_said([self.host.manager_ended(peer)])
        if any(socket in ready for socket in self.host.sockets()):
            self._interchanges_said(self.host.receive())
        if self.remotes is not None:
            self._events.extend(self.remotes.receive())
            self._events.extend(self.remotes.eager_look())
        now = time.monotonic()
        self._dirty = self._dirty or now >= self.core.due
        if now >= self._next_tick:
            self._next_tick = time.monotonic() + TICK_S
            self._events.extend(self.clients.tick())
            self._interchanges_said(self.host.tick())
            if self.remotes is not None:
                self._events.extend(self.remotes.tick())
            self._events.append(ev.Tick(time.time()))
        self._handle_all()

    def _poller(self, watched: list[Any]) -> Poller:
        """A poller for these; the last one, as long as they are the same."""
        if watched != self._watched:
            self._watched = watched
            self._last_poller = Poller()
            for one in watched:
                self._last_poller.register(one)
        return self._last_poller

    def feed(self, event: ev.Event) -> None:
        """Let the core know of something, and do what it wants."""
        self._events.append(event)
        self._handle_all()

    def _gather(self) -> None:
        self._events.extend(self.clients.waiting())
        self._take_completed()

    def _take_completed(self) -> None:
        for token, result in self.writer.completed():
            error = result if isinstance(result, Exception) else None
            assert isinstance(token, int)
            if error is not None and str(error) != self._trouble:
                log.warning("the store has refused something: %s", error)
            self._trouble = str(error) if error is not None else ""
            if token in self._writes:
                self._writes.discard(token)
                self._events.append(ev.Stored(token, error))
            else:
                self._events.append(ev.Loaded(token, None if error else result, error))

    def _interchanges_said(self, said: Any) -> None:
        for key, messages in said:
            self._events.extend(ev.InterchangeSaid(key, message) for message in messages)

    def _handle_all(self) -> None:
        """Handle what has happened, and what follows from it, until nothing is left."""
        while True:
            while self._events:
                event = self._events.popleft()
                self._look_for_endpoints(event)
                self._dirty = self._dirty or not isinstance(event, ev.Tick)
                self._carry_out(self._handle(event))
            self._events.extend(ev.LocalClosed(name) for name in self.host.closed())
            self._take_completed()  # whose call is stored waits for no end of a turn
            if self._events:
                continue
            if not self._dirty:
                return
            self._dirty = False
            self._carry_out(self.core.handle(ev.EndOfTurn(), time.monotonic()))
            for error in self.core.take_mistakes():
                log.error("could not answer a call", exc_info=error)
            self._take_completed()

    def _handle(self, event: ev.Event) -> list[ev.Action]:
        try:
            return self.core.handle(event, time.monotonic())
        except Exception as error:
            if isinstance(event, ev.ClientSaid | ev.InterchangeSaid):
                log.exception("ignored a message: %s", type(event.message).__name__)
            elif isinstance(event, ev.Stored | ev.Loaded):
                log.exception("could not go on after the store had answered")
                self.is_told = self.core.has_caller and (self.is_told or self.broken is None)
                self.broken = error
            else:
                raise
            return self.core.failed(error)

    def _carry_out(self, actions: list[ev.Action]) -> None:
        for action in actions:
            if isinstance(action, ev.ToClient):
                self.clients.send(action.peer, action.message)
            elif isinstance(action, ev.ToInterchange):
                if self.remotes is not None and self.remotes.tell(action.key, action.message):
                    continue
                said = self.host.tell(action.key, action.message)
                self._interchanges_said([(action.key, said)])
            elif isinstance(action, ev.Store):
                self._writes.add(action.token)
                self.writer.submit(action.token, action.operations)
            elif isinstance(action, ev.Load):
                self.writer.read(action.token, action.method, *action.arguments)
            elif isinstance(action, ev.OpenLocal):
                self.open_local(action.instance)
            elif isinstance(action, ev.CloseLocal):
                self.host.close(action.instance)
            else:
                self.clients.forget(action.peer)

    def _look_for_endpoints(self, event: ev.Event) -> None:
        """An endpoint that was made or started a moment ago is to be known when it is asked for."""
        if self.remotes is None or not isinstance(event, ev.ClientSaid):
            return
        names = self.core.awaited(event.message) - _NOT_REMOTE
        if not names:
            return
        if not all(map(self.core.knows_endpoint, names)):
            # A tick may have found it just now, and have told it behind this event.
            for known in self.remotes.look(again=True):
                self._carry_out(self.core.handle(known, time.monotonic()))
        for name in names:
            for told in self.remotes.want(name):
                self._carry_out(self.core.handle(told, time.monotonic()))

    def open_local(self, instance: bytes) -> None:
        """Host an interchange for a client's `local`."""
        self.host.open(instance)
        self._events.append(ev.InterchangeUp(instance))
