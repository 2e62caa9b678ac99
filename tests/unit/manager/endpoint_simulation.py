"""An endpoint in one object: the interchange's core, managers with simulated workers, one clock."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from simulation import Node, Task

from fxhpc.interchange import events as iev
from fxhpc.interchange.core import Interchange
from fxhpc.manager import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Outcome

#: What a message takes from one to the other, in seconds.
LINK_S = 0.0005

FUNCTION = b"f" * 32


class LinkedNode(Node):
    """A node whose manager talks to an interchange."""

    def __init__(self, peer: bytes, slots: int, endpoint: Endpoint) -> None:
        self.peer = peer
        self.endpoint = endpoint
        super().__init__(slots, linked=False, manager=peer.decode(), host=peer.decode())
        self.now = endpoint.now
        for worker in self.workers.values():
            worker.since = worker.until = self.now
        self.due = self.now
        self.tell(ev.LinkOpened())
        endpoint.hear(peer, self.greetings[-1])

    def hear(self, message: msg.FromManager) -> None:
        self.said.append(message)
        at = self.endpoint.now + LINK_S
        self.endpoint.later(at, lambda: self.endpoint.hear(self.peer, message))

    def wake(self, now: float, message: msg.ToManager | None = None) -> None:
        """A turn of its loop, with a message or without."""
        self.now = now
        for worker in self.workers.values():
            worker.advance(now, self)
        self.look()
        if message is not None:
            self.tell(ev.Said(message))
        self.turn()
        ends = [worker.until for worker in self.workers.values() if worker.current is not None]
        self.due = min([now + self.core.wait_s(now), *ends])
        if any(worker.sent for worker in self.workers.values()):
            self.due = now


class Endpoint:
    """Managers with so many workers each.

    Attributes:
        told: when the outcome of each task was known to the interchange.
        outcomes: these outcomes.
        most_bytes: of arguments that were sent to a manager and have not ended.
    """

    def __init__(self, *slots: int) -> None:
        self.now = 100.0
        self.core = Interchange("an endpoint", 1)
        self.nodes: dict[bytes, LinkedNode] = {}
        self.told: dict[Task, float] = {}
        self.outcomes: dict[Task, Outcome] = {}
        self.most_bytes = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.forwarder(msg.Hello(1, "1"))
        self.forwarder(msg.Body(FUNCTION, b"body"))
        for each in slots:
            self.add(each)
        self.run_for(0.1)

    def add(self, slots: int) -> LinkedNode:
        """Start a manager."""
        peer = b"manager-%d" % len(self.nodes)
        self.nodes[peer] = LinkedNode(peer, slots, self)
        return self.nodes[peer]

    def submit(
        self, stream: bytes, seconds: list[float], *, first: int = 0, size: int = 0, **more: Any
    ) -> None:
        """Tasks that take so long; `size`: of the arguments of each."""
        made: dict[float, bytes] = {}
        payloads = [made.setdefault(one, repr(one).encode().ljust(size)) for one in seconds]
        fields: dict[str, Any] = {"function": FUNCTION} | more
        self.forwarder(msg.Tasks([msg.TaskRun(stream, first, payloads=payloads, **fields)]))

    def later(self, at: float, call: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (at, self._count, call))

    def hear(self, peer: bytes, message: msg.FromManager) -> None:
        self._do(self.core.handle(iev.ManagerSaid(peer, message), self.now))

    def forwarder(self, message: msg.ToInterchange) -> None:
        self._do(self.core.handle(iev.ForwarderSaid(message), self.now))

    def run_for(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """For so long, or until something is so."""
        end = self.now + seconds
        while self.now < end and not until():
            node = min(self.nodes.values(), key=lambda node: node.due)
            if self._events and self._events[0][0] <= node.due:
                at, _, call = heappop(self._events)
                self.now = max(self.now, at)
                call()
            else:
                self.now = max(self.now + 1e-6, node.due)
                node.wake(self.now)

    def run_all(self, count: int, most_s: float) -> float:
        """Until so many tasks have ended; how long it took.

        Raises:
            AssertionError: it took longer than `most_s`.
        """
        began = self.now
        self.run_for(most_s, lambda: len(self.told) >= count)
        assert len(self.told) >= count, f"{len(self.told)} of {count} after {most_s} s"
        return self.now - began

    @property
    def ran(self) -> dict[Task, int]:
        """How often each task was begun."""
        found: dict[Task, int] = {}
        for node in self.nodes.values():
            for task, times in node.ran.items():
                found[task] = found.get(task, 0) + times
        return found

    def _do(self, actions: list[iev.Action]) -> None:
        stored: list[int] = []
        for action in actions:
            if isinstance(action, iev.ToManager):
                self._send(action.peer, action.message)
            elif isinstance(action, iev.ToForwarder) and isinstance(action.message, msg.Results):
                stored.append(action.message.number)
                for run in action.message.runs:
                    for outcome in run.outcomes:
                        self.told[run.stream, outcome.index] = self.now
                        self.outcomes[run.stream, outcome.index] = outcome
        most = [manager.held_bytes for manager in self.core._state.managers.values()]
        self.most_bytes = max([self.most_bytes, *most])
        if stored:
            self.forwarder(msg.ResultsStored(stored))

    def _send(self, peer: bytes, message: msg.ToManager) -> None:
        self.later(self.now + LINK_S, lambda: self.nodes[peer].wake(self.now, message))
