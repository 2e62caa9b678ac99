"""A home's forwarder in a test: the real core, and what its shell does with store and links."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import LOCAL_ENDPOINT, Forwarder, endpoint_key
from fxhpc.interchange import events as iev
from fxhpc.protocol import messages as msg
from fxhpc.testing.clients import ClientLink
from fxhpc.testing.clock import FakeClock, HostClock
from fxhpc.testing.forwarders import Forwarders, NamedLink
from fxhpc.testing.hosts import InterchangeHost
from fxhpc.testing.link import LossyLink
from fxhpc.testing.store import ModelStore

#: The named endpoint of a cluster.
NAMED_ENDPOINT = "5a4e0000-0000-4000-8000-000000000001"
NAMED_KEY = endpoint_key(NAMED_ENDPOINT)

HEARTBEAT_S = 5.0
CLOSING_S = 10.0


class ForwarderHost:
    """The forwarder's process, and the `local` interchanges in it.

    Args:
        clock: the time.
        forwarders: the named interchange's side of its connections to forwarders.
        on_lost: called with a manager's name whenever a `local` interchange gives one up.

    Attributes:
        store: it survives `start`.
        core: the forwarder.
        locals: the interchange of each client's `local` that is open.
        named_link: the connection to the named endpoint's interchange.
        clients: the connections of clients, with the client's name.
    """

    def __init__(
        self, clock: FakeClock, forwarders: Forwarders, on_lost: Callable[[str], None]
    ) -> None:
        self.store = ModelStore()
        self.locals: dict[bytes, InterchangeHost] = {}
        self.clients: dict[bytes, tuple[bytes, ClientLink]] = {}
        self._clock = clock
        self._forwarders = forwarders
        self._on_lost = on_lost
        self._events: deque[ev.Event] = deque()
        self._closing: dict[bytes, float] = {}
        self._expected: set[bytes] = set()
        self._heard = self._said = 0.0  # of and to the named interchange
        self.named_link: NamedLink
        self.core: Forwarder
        self.start(set())

    def start(self, alive: set[bytes]) -> None:
        """Start the process; the one of before is gone, and its `local` interchanges with it.

        Args:
            alive: the clients, by their `local`, whose processes live: their journals are found.
        """
        recovered = self.store.recover()
        self.core = Forwarder(recovered.epoch, managers="here", company_s=0.003)
        self.core.recover(recovered)
        self._events.clear()
        self._closing.clear()
        self._expected.clear()
        self.named_link = self._forwarders.connect()
        self._heard = self._clock()
        before, self.locals = self.locals, {}
        for instance, host in before.items():
            if instance not in alive:
                continue
            fresh = self._open(instance)
            fresh.take_over(host)
            for peer, link in host.links.items():
                link.forget()
                link.up.clear()
                fresh.links[peer] = link
            fresh.recover()
            self._expected.add(instance)
            self.feed(ev.LocalExpected(instance))
        self.feed(ev.EndpointKnown(NAMED_ENDPOINT))
        self.feed(ev.InterchangeUp(NAMED_KEY))

    def kill(self, committed: int) -> None:
        """End the process as by SIGKILL.

        Args:
            committed: how many requests to the store were carried out, though nobody heard of it.
        """
        self.store.crash(committed)
        for _, link in self.clients.values():
            link.forget()
            link.up.clear()

    # --- what it is told ------------------------------------------------------------------------

    def feed(self, event: ev.Event) -> None:
        """Let the forwarder know of something, and do what follows from it."""
        self._events.append(event)
        self.run()

    def run(self) -> None:
        """Do what follows from what it was told by the `local` interchanges."""
        while True:
            while self._events:
                self._carry_out(self.core.handle(self._events.popleft(), self._clock()))
            self._carry_out(self.core.handle(ev.EndOfTurn(), self._clock()))
            self._close_locals()
            if not self._events:
                return

    def work_store(self) -> bool:
        """Let the store carry out its next request; whether there was one."""
        event = self.store.work()
        if event is not None:
            self.feed(event)
        return event is not None

    def hear_client(self, link: LossyLink[Any, Any]) -> bool:
        """Let a client's next message arrive; whether the link is that of one."""
        for peer, (_, client_link) in list(self.clients.items()):
            if client_link is link:
                message = link.deliver_up()
                if message is not None:
                    self.feed(ev.ClientSaid(peer, message))
                return True
        return False

    def hear_named(self) -> None:
        """Let the named interchange's next message arrive."""
        message = self.named_link.deliver_down()
        if message is not None:
            self._heard = self._clock()
            self.feed(ev.InterchangeSaid(NAMED_KEY, message))

    def lose_client(self, name: bytes, instance: bytes) -> None:
        """A client's process has ended."""
        for peer, (client, _) in list(self.clients.items()):
            if client == name:
                del self.clients[peer]
                self.feed(ev.ClientGone(peer))
        if instance in self._expected:
            self._expected.discard(instance)
            self.feed(ev.LocalGone(instance))

    def turn(self) -> None:
        """Look after the connection to the named interchange."""
        now = self._clock()
        if now - self._heard > 3 * HEARTBEAT_S:
            self._heard = now
            self.named_link.cut()
            self.feed(ev.InterchangeGone(NAMED_KEY))
            self.feed(ev.InterchangeUp(NAMED_KEY))
        elif self.named_link.broken:
            self.feed(ev.InterchangeUp(NAMED_KEY))
        elif now - self._said >= HEARTBEAT_S:
            self._said = now
            self.named_link.say(msg.Heartbeat())

    # --- what it wants --------------------------------------------------------------------------

    def _carry_out(self, actions: list[ev.Action]) -> None:
        for action in actions:
            self._do(action)

    def _do(self, action: Any) -> None:
        if isinstance(action, ev.ToClient):
            if found := self.clients.get(action.peer):
                found[1].answer(action.message)
        elif isinstance(action, ev.ToInterchange):
            if action.key == NAMED_KEY:
                send = self.named_link.say
                if isinstance(action.message, msg.Hello):
                    send = self.named_link.greet
                send(action.message)
            elif host := self.locals.get(action.key):
                host.tell(iev.ForwarderSaid(action.message))
        elif isinstance(action, ev.Store | ev.Load):
            self.store.ask(action)
        elif isinstance(action, ev.OpenLocal):
            if action.instance not in self.locals:
                self._open(action.instance)
            self._events.append(ev.InterchangeUp(action.instance))
        elif isinstance(action, ev.CloseLocal):
            if action.instance in self.locals and action.instance not in self._closing:
                self._closing[action.instance] = self._clock() + CLOSING_S
                self.locals[action.instance].close()
        elif isinstance(action, ev.DropClient) and (found := self.clients.pop(action.peer, None)):
            found[1].forget()

    def _open(self, instance: bytes) -> InterchangeHost:
        host = self.locals[instance] = InterchangeHost(
            LOCAL_ENDPOINT,
            self.store.epoch,
            HostClock(self._clock),
            lambda message: self._events.append(ev.InterchangeSaid(instance, message)),
            self._on_lost,
        )
        return host

    def _close_locals(self) -> None:
        for instance, until in list(self._closing.items()):
            host = self.locals[instance]
            if host.known and self._clock() < until:
                continue
            del self._closing[instance], self.locals[instance]
            self._events.append(ev.LocalClosed(instance))
