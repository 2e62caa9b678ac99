"""Forwarder, interchanges, managers and clients in one thread, over links that can lose messages.

All decisions are made by the real cores; what shells, sockets, disks and workers do is simulated.
Nothing happens unless it is asked for, so that a test chooses every step and every fault.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import LOCAL_ENDPOINT, Forwarder, endpoint_key
from fxhpc.interchange import events as iev
from fxhpc.protocol import messages as msg
from fxhpc.testing.clients import Client, ClientLink, new_client_link
from fxhpc.testing.clock import FakeClock, HostClock
from fxhpc.testing.forwarders import Forwarders
from fxhpc.testing.hosts import InterchangeHost
from fxhpc.testing.link import LossyLink
from fxhpc.testing.nodes import Node, NodeLink, Task, new_node_link
from fxhpc.testing.store import ModelStore

#: The named endpoint of a cluster.
NAMED_ENDPOINT = "5a4e0000-0000-4000-8000-000000000001"
NAMED_KEY = endpoint_key(NAMED_ENDPOINT)

HEARTBEAT_S = 5.0
CLOSING_S = 10.0


class Cluster:
    """One home: a forwarder with the `local` instances of its clients, and a named endpoint.

    Attributes:
        executions: how often each task was begun by a worker.
        excuses: how often each task was cut off by a fault that allows it to run again.
        deaths: how often a worker was killed while it ran a task and its manager could tell of
            it, since the interchange started: what counts against the task.
        killed: how often a worker was killed while it ran a task.
        given_up: how often a manager was given up, whatever had become of it.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = ModelStore()
        self.clients: list[Client] = []
        self.nodes: list[Node] = []
        self.locals: dict[bytes, InterchangeHost] = {}
        self.executions: Counter[Task] = Counter()
        self.excuses: Counter[Task] = Counter()
        self.deaths: Counter[Task] = Counter()
        self.killed: Counter[Task] = Counter()
        self.given_up = 0
        self._client_links: dict[bytes, tuple[bytes, ClientLink]] = {}  # client's name, link
        self._node_peers: dict[bytes, tuple[str, InterchangeHost]] = {}
        self._doubtful: set[str] = set()  # managers that were given up while they lived
        self._by_name: dict[str, Node] = {}
        self._counter = 0
        self._events: deque[ev.Event] = deque()
        self._closing: dict[bytes, float] = {}
        self._expected: set[bytes] = set()
        self._named_heard = self._named_said = 0.0  # the forwarder, of and to the interchange
        clock = self._host_clock()
        self.named = self._new_host(NAMED_ENDPOINT, NAMED_KEY, 1, clock)
        self.forwarders = Forwarders(self._count, clock)
        self._start_forwarder()

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
        for peer, (name, _) in list(self._client_links.items()):
            if name == client.name:
                del self._client_links[peer]
                self.feed(ev.ClientGone(peer))
        if client.instance in self._expected:
            self._expected.discard(client.instance)
            self.feed(ev.LocalGone(client.instance))

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
            self._on_begin,
            self._on_kill,
            lasts_s,
            self._on_keep if keeps else None,
        )
        self.nodes.append(node)
        self._by_name[name] = node
        return node

    def kill_node(self, node: Node) -> None:
        """End a manager's process, and its workers, by SIGKILL."""
        for task in node.began:
            self.excuses[task] += 1
            del self.deaths[task]  # of the last one, nobody may have heard
        node.die()

    def kill_worker(self, node: Node, number: int) -> None:
        """End a worker by SIGKILL."""
        task = node.kill(number)
        if task is not None:
            self.killed[task] += 1
        if task is not None and not self.is_doubtful(node):
            self.deaths[task] += 1

    # --- restarts -------------------------------------------------------------------------------

    def restart_forwarder(self, committed: int = 0) -> None:
        """Kill the forwarder, and with it the `local` interchanges; start another.

        Args:
            committed: how many requests to the store were carried out, though nobody heard of it.
        """
        self.store.crash(committed)
        for _, link in self._client_links.values():
            link.forget()
            link.up.clear()
        self.deaths.clear()
        self._start_forwarder()

    def restart_named(self) -> None:
        """Kill the named endpoint's interchange, and start another, maybe on another host."""
        self.deaths.clear()
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

    def _start_forwarder(self) -> None:
        recovered = self.store.recover()
        self.forwarder = Forwarder(recovered.epoch, managers="here")
        self.forwarder.recover(recovered)
        self._events.clear()
        self._closing.clear()
        self._expected.clear()
        self.named_link = self.forwarders.connect()
        self._named_heard = self.clock()
        before, self.locals = self.locals, {}
        alive = {client.instance for client in self.clients if client.alive}
        for instance, host in before.items():
            if instance not in alive:
                continue
            fresh = self.locals[instance] = self._new_host(
                LOCAL_ENDPOINT, instance, self.store.epoch
            )
            fresh.take_over(host)
            for peer, link in host.links.items():
                link.forget()
                link.up.clear()
                fresh.links[peer] = link
                self._node_peers[peer] = (self._node_peers[peer][0], fresh)
            fresh.recover()
            self._expected.add(instance)
            self.feed(ev.LocalExpected(instance))
        self.feed(ev.EndpointKnown(NAMED_ENDPOINT))
        self.feed(ev.InterchangeUp(NAMED_KEY))

    # --- the forwarder's loop -------------------------------------------------------------------

    def feed(self, event: ev.Event) -> None:
        """Let the forwarder know of something, and do what follows from it."""
        self._events.append(event)
        self._run()

    def _run(self) -> None:
        while True:
            while self._events:
                self._carry_out(self.forwarder.handle(self._events.popleft(), self.clock()))
            self._carry_out(self.forwarder.handle(ev.EndOfTurn(), self.clock()))
            self._close_locals()
            if not self._events:
                return

    def _carry_out(self, actions: list[ev.Action]) -> None:
        for action in actions:
            self._do(action)

    def _do(self, action: Any) -> None:
        if isinstance(action, ev.ToClient):
            if found := self._client_links.get(action.peer):
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
                self.locals[action.instance] = self._new_host(
                    LOCAL_ENDPOINT, action.instance, self.store.epoch
                )
            self._events.append(ev.InterchangeUp(action.instance))
        elif isinstance(action, ev.CloseLocal):
            if action.instance in self.locals and action.instance not in self._closing:
                self._closing[action.instance] = self.clock() + CLOSING_S
                self.locals[action.instance].close()
        elif isinstance(action, ev.DropClient) and (
            found := self._client_links.pop(action.peer, None)
        ):
            found[1].forget()

    def _close_locals(self) -> None:
        for instance, until in list(self._closing.items()):
            host = self.locals[instance]
            if host.known and self.clock() < until:
                continue
            del self._closing[instance], self.locals[instance]
            self._events.append(ev.LocalClosed(instance))

    def _interchange_says(self, key: bytes, message: msg.FromInterchange) -> None:
        if key != NAMED_KEY:
            self._events.append(ev.InterchangeSaid(key, message))
        elif not self.forwarders.link.send(message):
            self.named.tell(iev.ForwarderGone())

    # --- steps ----------------------------------------------------------------------------------

    def links(self) -> list[LossyLink[Any, Any]]:
        """All links, in an order that does not change by itself."""
        return [
            self.named_link,
            *(link for _, link in self._client_links.values()),
            *(link for host in self.hosts() for link in host.links.values()),
        ]

    def hosts(self) -> list[InterchangeHost]:
        """All interchanges."""
        return [self.named, *self.locals.values()]

    def deliver_up(self, link: LossyLink[Any, Any]) -> bool:
        """Deliver the next message of an opening side; whether there was one."""
        if not link.up:
            return False
        if link is self.named_link:
            if self.named.suspended:
                return False
            for event in self.forwarders.hear():
                self.named.tell(event)
            self._run()
            return True
        for peer, (_, client_link) in list(self._client_links.items()):
            if client_link is link:
                message = link.deliver_up()
                if message is not None:
                    self.feed(ev.ClientSaid(peer, message))
                return True
        for host in self.hosts():
            for peer, node_link in list(host.links.items()):
                if node_link is link:
                    if not host.hear(peer):
                        return False
                    self._run()
                    return True
        return False

    def deliver_down(self, link: LossyLink[Any, Any]) -> bool:
        """Deliver the next message of an accepting side; whether there was one."""
        if not link.down:
            return False
        if link is self.named_link:
            message = link.deliver_down()
            if message is not None:
                self._named_heard = self.clock()
                self.feed(ev.InterchangeSaid(NAMED_KEY, message))
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
        event = self.store.work()
        if event is not None:
            self.feed(event)
        return event is not None

    def turn(self) -> None:
        """Let every process go once round its loop, without delivering anything."""
        for client in self.clients:
            client.turn(self.clock())
        now = self.clock()
        for node in self.nodes:
            if node.alive:
                node.turn()
        self._bury_nodes()
        if now - self._named_heard > 3 * HEARTBEAT_S:
            self._named_heard = now
            self.named_link.cut()
            self.feed(ev.InterchangeGone(NAMED_KEY))
            self.feed(ev.InterchangeUp(NAMED_KEY))
        elif self.named_link.broken:
            self.feed(ev.InterchangeUp(NAMED_KEY))
        elif now - self._named_said >= HEARTBEAT_S:
            self._named_said = now
            self.named_link.say(msg.Heartbeat())
        if not self.named.suspended and self.forwarders.link.is_lost():
            self.named.tell(iev.ForwarderGone())

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        for host in self.hosts():
            if not host.suspended:
                host.tell(iev.Tick())
        self.feed(ev.Tick())
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

    def is_doubtful(self, node: Node) -> bool:
        """Whether this manager was given up once although it lived."""
        return node.name in self._doubtful

    # --- inside ---------------------------------------------------------------------------------

    def _count(self) -> int:
        self._counter += 1
        return self._counter

    def _client_link(self, name: bytes) -> ClientLink:
        link = new_client_link(self._count)
        self._client_links[b"peer-%d" % self._count()] = (name, link)
        return link

    def _node_link(self, name: str, key: bytes) -> NodeLink:
        link = new_node_link(self._count)
        host = self.named if key == NAMED_KEY else self.locals.get(key)
        if host is not None:
            peer = b"peer-%d" % self._count()
            host.links[peer] = link
            self._node_peers[peer] = (name, host)
        return link

    def _bury_nodes(self) -> None:
        """Who watches a manager's process learns of its end when all that it said was heard."""
        for peer, (name, host) in list(self._node_peers.items()):
            node, link = self._by_name[name], host.links.get(peer)
            if link is None or link.up.frames or host.suspended:
                continue
            if not node.alive or node.link is not link:
                if node.alive:
                    host.links.pop(peer)  # it has another connection now
                else:
                    host.gone(peer)
                del self._node_peers[peer]
        self._run()

    def _host_clock(self) -> HostClock:
        """A clock as another host has it: of any other it tells nothing."""
        return HostClock(self.clock, 77_777.0 * (self._count() % 7))

    def _new_host(
        self, endpoint: str, key: bytes, epoch: int, clock: HostClock | None = None
    ) -> InterchangeHost:
        return InterchangeHost(
            endpoint,
            epoch,
            clock or HostClock(self.clock),  # a `local` one lives with the forwarder
            lambda message: self._interchange_says(key, message),
            self._on_lost,
        )

    def _on_begin(self, node: Node, task: Task) -> None:
        self.executions[task] += 1
        if self.is_doubtful(node):
            self.excuses[task] += 1

    def _on_kill(self, node: Node, task: Task) -> None:
        self.excuses[task] += 1

    def _on_keep(self, node: Node, batch: list[msg.Results]) -> None:
        self.named.left[f"/results/{node.name}"] = batch

    def _on_lost(self, manager: str) -> None:
        self.given_up += 1
        for node in self.nodes:
            if node.name == manager and node.alive and manager not in self._doubtful:
                self._doubtful.add(manager)
                for task in node.began:
                    self.excuses[task] += 1
