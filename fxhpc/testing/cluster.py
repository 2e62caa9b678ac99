"""Forwarder, interchanges, managers and clients in one thread, over links that can lose messages.

All decisions are made by the real cores; what shells, sockets, disks and workers do is simulated.
Nothing happens unless it is asked for, so that a test chooses every step and every fault.
"""

from __future__ import annotations

from typing import Any

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import Forwarder
from fxhpc.interchange import events as iev
from fxhpc.protocol import messages as msg
from fxhpc.testing.clients import Client, ClientLink, new_client_link
from fxhpc.testing.clock import FakeClock, HostClock
from fxhpc.testing.forwarder_host import HEARTBEAT_S, NAMED_ENDPOINT, NAMED_KEY, ForwarderHost
from fxhpc.testing.forwarders import Forwarders, NamedLink
from fxhpc.testing.hosts import InterchangeHost
from fxhpc.testing.link import LossyLink
from fxhpc.testing.nodes import Node, NodeLink, new_node_link
from fxhpc.testing.store import ModelStore
from fxhpc.testing.tally import Tally

__all__ = ["NAMED_ENDPOINT", "NAMED_KEY", "Cluster"]


class Cluster:
    """One home: a forwarder with the `local` instances of its clients, and a named endpoint.

    Attributes:
        home: the forwarder's process.
        named: the named endpoint's interchange.
        forwarders: its connections to forwarders.
        tally: what became of the tasks.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.tally = Tally()
        self.clients: list[Client] = []
        self.nodes: list[Node] = []
        self._by_name: dict[str, Node] = {}
        self._connections: dict[bytes, tuple[str, bytes]] = {}  # of managers: name, endpoint
        self._counter = 0
        clock = self._host_clock()
        self.named = InterchangeHost(NAMED_ENDPOINT, 1, clock, self._named_says, self._on_lost)
        self.forwarders = Forwarders(self._count, clock)
        self.home = ForwarderHost(self.clock, self.forwarders, self._on_lost)

    # --- clients and nodes ----------------------------------------------------------------------

    def new_client(self) -> Client:
        """Start a client's process, which attaches."""
        name = b"client-%d" % self._count()
        client = Client(name, b"local:" + name, lambda: self._client_link(name), HEARTBEAT_S)
        self.clients.append(client)
        client.attach()
        return client

    def kill_client(self, client: Client) -> None:
        """End a client's process. Its managers watch it, and end with it."""
        client.alive = False
        for node in self.nodes:
            if node.endpoint == client.instance and node.alive:
                self.kill_node(node)
        self.home.lose_client(client.name, client.instance)

    def new_node(
        self, client: Client | None, slots: int = 2, lasts_s: float = 0.0, keeps: bool = False
    ) -> Node:
        """Start a manager: of a client's `local`, or of the named endpoint.

        Args:
            lasts_s: how long its batch job lasts; 0: it is not in one.
            keeps: it can leave results where its interchange looks for them.
        """
        key = NAMED_KEY if client is None else client.instance
        name = f"manager-{self._count()}"
        node = Node(
            name,
            key,
            slots,
            lambda: self._node_link(name, key),
            self._host_clock(),
            self.tally.begun,
            self.tally.excused,
            lasts_s,
            self._on_keep if keeps else None,
        )
        self.nodes.append(node)
        self._by_name[name] = node
        return node

    def kill_node(self, node: Node) -> None:
        """End a manager's process, and its workers, by SIGKILL."""
        self.tally.node_killed(node)
        node.die()

    def kill_worker(self, node: Node, number: int) -> None:
        """End a worker by SIGKILL."""
        task = node.kill(number)
        if task is not None:
            self.tally.worker_killed(node, task)

    # --- restarts -------------------------------------------------------------------------------

    def restart_forwarder(self, committed: int = 0) -> None:
        """Kill the forwarder, and with it the `local` interchanges; start another.

        Args:
            committed: how many requests to the store were carried out, though nobody heard of it.
        """
        self.home.kill(committed)
        self.tally.interchange_killed()
        self.home.start({client.instance for client in self.clients if client.alive})

    def restart_named(self) -> None:
        """Kill the named endpoint's interchange, and start another, maybe on another host."""
        self.tally.interchange_killed()
        clock = self._host_clock()
        self.forwarders.restart(clock)
        self.named.restart(self.named.epoch + 1, clock)

    def suspend(self, host: Node | InterchangeHost, seconds: float, stands_still: bool) -> None:
        """Nothing happens in a manager or the named interchange for so long.

        Args:
            stands_still: its clock stood still too, as that of a machine that was suspended.
        """
        host.suspended = True
        while seconds > 0:
            step = min(seconds, HEARTBEAT_S)
            self.tick(step)
            self.settle()
            if stands_still:
                host.clock.stand_still(step)
            seconds -= step
        host.suspended = False

    def hear_old_owner(self, messages: list[msg.ToInterchange]) -> list[iev.Event]:
        """Who owned the store before greets the named interchange, and says this to it."""
        events = self.forwarders.hear_old_owner(self.store.epoch - 1, messages)
        for event in events:
            self.named.tell(event)
        return list(events)

    # --- steps ----------------------------------------------------------------------------------

    def links(self) -> list[LossyLink[Any, Any]]:
        """All links, in an order that does not change by itself."""
        return [
            self.named_link,
            *(link for _, link in self.home.clients.values()),
            *(link for host in self.hosts() for link in host.links.values()),
        ]

    def hosts(self) -> list[InterchangeHost]:
        """All interchanges."""
        return [self.named, *self.home.locals.values()]

    def deliver_up(self, link: LossyLink[Any, Any]) -> bool:
        """Deliver the next message of an opening side; whether there was one."""
        if not link.up:
            return False
        if link is self.named_link:
            if self.named.suspended:
                return False
            for event in self.forwarders.hear():
                self.named.tell(event)
            self.home.run()
            return True
        if self.home.hear_client(link):
            return True
        for host in self.hosts():
            for peer, node_link in list(host.links.items()):
                if node_link is link:
                    if not host.hear(peer):
                        return False
                    self.home.run()
                    return True
        return False

    def deliver_down(self, link: LossyLink[Any, Any]) -> bool:
        """Deliver the next message of an accepting side; whether there was one."""
        if not link.down:
            return False
        if link is self.named_link:
            self.home.hear_named()
            return True
        for client in self.clients:
            if client.link is link:
                return client.hear(self.clock())
        for node in self.nodes:
            if node.link is link:
                return node.hear()
        link.down.clear()  # its opener has given it up
        return False

    def work_store(self) -> bool:
        """Let the store carry out its next request; whether there was one."""
        return self.home.work_store()

    def turn(self) -> None:
        """Let every process go once round its loop, without delivering anything."""
        for client in self.clients:
            client.turn(self.clock())
        for node in self.nodes:
            if node.alive:
                node.turn()
        self._bury_nodes()
        self.home.turn()
        if not self.named.suspended and self.forwarders.link.is_lost():
            self.named.tell(iev.ForwarderGone())

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        for host in self.hosts():
            if not host.suspended:
                host.tell(iev.Tick())
        self.home.feed(ev.Tick())
        self.turn()

    def settle(self, limit: int = 20_000) -> None:
        """Deliver everything, and let processes react, until nothing is on the way. No time passes.

        Raises:
            AssertionError: it does not come to an end.
        """
        for _ in range(limit):
            self.turn()
            moved = False
            while self.work_store():
                moved = True
            for link in self.links():
                while link.up.frames and self.deliver_up(link):
                    moved = True
                while link.down.frames and self.deliver_down(link):
                    moved = True
            if not moved:
                return
        raise AssertionError("messages go round without end")

    # --- what is known --------------------------------------------------------------------------

    def live_nodes(self, key: bytes | None = None) -> list[Node]:
        """Managers whose process lives, of one endpoint or of all."""
        return [node for node in self.nodes if node.alive and (key is None or node.endpoint == key)]

    @property
    def forwarder(self) -> Forwarder:
        """The forwarder's core."""
        return self.home.core

    @property
    def store(self) -> ModelStore:
        """The home's."""
        return self.home.store

    @property
    def named_link(self) -> NamedLink:
        """The forwarder's connection to the named endpoint's interchange."""
        return self.home.named_link

    # --- inside ---------------------------------------------------------------------------------

    def _count(self) -> int:
        self._counter += 1
        return self._counter

    def _client_link(self, name: bytes) -> ClientLink:
        link = new_client_link(self._count)
        self.home.clients[b"peer-%d" % self._count()] = (name, link)
        return link

    def _host(self, endpoint: bytes) -> InterchangeHost | None:
        return self.named if endpoint == NAMED_KEY else self.home.locals.get(endpoint)

    def _node_link(self, name: str, endpoint: bytes) -> NodeLink:
        link = new_node_link(self._count)
        host = self._host(endpoint)
        if host is not None:
            peer = b"peer-%d" % self._count()
            host.links[peer] = link
            self._connections[peer] = (name, endpoint)
        return link

    def _bury_nodes(self) -> None:
        """Who watches a manager's process learns of its end when all that it said was heard."""
        for peer, (name, endpoint) in list(self._connections.items()):
            node, host = self._by_name[name], self._host(endpoint)
            link = None if host is None else host.links.get(peer)
            if host is None or link is None:
                del self._connections[peer]  # it is closed
                continue
            if link.up.frames or host.suspended:
                continue
            if not node.alive or node.link is not link:
                if node.alive:
                    host.links.pop(peer)  # it has another connection now
                else:
                    host.gone(peer)
                del self._connections[peer]
        self.home.run()

    def _host_clock(self) -> HostClock:
        """A clock as another host has it: of any other it tells nothing."""
        return HostClock(self.clock, 77_777.0 * (self._count() % 7))

    def _named_says(self, message: msg.FromInterchange) -> None:
        if not self.forwarders.link.send(message):
            self.named.tell(iev.ForwarderGone())

    def _on_keep(self, node: Node, batch: list[msg.Results]) -> None:
        self.named.left[f"/results/{node.name}"] = batch

    def _on_lost(self, manager: str) -> None:
        if node := self._by_name.get(manager):
            self.tally.node_given_up(node)
