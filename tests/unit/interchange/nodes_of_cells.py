"""Managers that pack tasks of all sizes on their nodes, and an interchange, in simulated time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from typing import NamedTuple

from fxhpc.interchange import events as ev
from fxhpc.interchange.core import Interchange
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import Lease, Needs, Room, Size, needs_of, pack
from fxhpc.protocol.outcome import Outcome, OutcomeKind

DIGEST = b"f" * 32
TICK_S = 0.5


class Ran(NamedTuple):
    """A task that has ended, or runs."""

    stream: bytes
    index: int
    node: int
    begin: float
    end: float
    cores: int  # thousandths


class Node:
    """A manager that knows sizes: it takes aside what the first that waits wants."""

    def __init__(self, number: int, size: Size) -> None:
        self.number = number
        self.peer = b"node-%d" % number
        self.size = size
        self.room = Room(size)
        self.ordinary: deque[tuple[msg.TaskRun, int]] = deque()
        self.sized: deque[tuple[msg.TaskRun, int]] = deque()
        self.leases: dict[tuple[bytes, int], tuple[Lease, bool]] = {}
        self.told = -1
        self.results = 0

    def register(self) -> msg.Register:
        slots = len(self.size.cells)
        return msg.Register(
            f"manager-{self.number}", b"", slots, "1", host=f"node{self.number}", size=self.size
        )

    def capacity(self) -> msg.Capacity | None:
        """What it tells if that has changed: cells that are not leased, and sized tasks."""
        sized = [lease for lease, is_sized in self.leases.values() if is_sized]
        taken = {cell for lease in sized for cell, _ in lease.cores}
        slots = len(self.size.cells) - len(taken) + len(sized)
        if slots == self.told:
            return None
        self.told = slots
        return msg.Capacity(slots, 1 << 30, slots)

    def begin(self) -> list[tuple[msg.TaskRun, int, Lease]]:
        """What begins now."""
        begun: list[tuple[msg.TaskRun, int, Lease]] = []
        while self.sized:
            run, index = self.sized[0]
            lease = self.room.take(needs_of(run.needs))
            if lease is None:
                return begun  # nothing passes it
            self.sized.popleft()
            self.leases[run.stream, index] = lease, True
            begun.append((run, index, lease))
        for cell in range(len(self.size.cells)):
            if self.ordinary and (lease := self.room.occupy(cell)) is not None:
                run, index = self.ordinary.popleft()
                self.leases[run.stream, index] = lease, False
                begun.append((run, index, lease))
        return begun


class Nodes:
    """An endpoint of such nodes.

    Args:
        seed: of how much longer or shorter tasks take than they are said to; None: no.

    Attributes:
        ran: all tasks that have begun.
    """

    def __init__(self, sizes: list[Size], seed: int | None = None) -> None:
        self.now = 1000.0
        self._chance = None if seed is None else random.Random(seed)
        self.core = Interchange("endpoint", 1)
        self.nodes = {node.peer: node for node in map(Node, range(len(sizes)), sizes)}
        self.ran: list[Ran] = []
        self.took: dict[bytes, float] = {}
        self.reasons: list[str] = []
        self._ends: list[tuple[float, int, Node, msg.TaskRun, int]] = []
        self._order = 0
        self._asked: list[bytes] = []  # who was asked for what it has not begun
        self._ticks_at = self.now
        self.tell(ev.ForwarderSaid(msg.Hello(1, "1")))
        for node in self.nodes.values():
            self.tell(ev.ManagerSaid(node.peer, node.register()))
            self._tell_capacity(node)

    def submit(self, stream: bytes, count: int, needs: bytes, task_s: float) -> None:
        """The forwarder sends tasks, each of which takes so long."""
        self.took[stream] = task_s
        run = msg.TaskRun(stream, 0, DIGEST, [b"x"] * count, needs=needs)
        self.tell(ev.ForwarderSaid(msg.Tasks([run])))

    def run(self, most_s: float = 1e4) -> None:
        """Until all has ended."""
        limit = self.now + most_s
        while self.now < limit:
            due = min(self._ends[0][0] if self._ends else self._ticks_at, self._ticks_at)
            self.now = max(self.now, due)
            ended: dict[bytes, list[tuple[msg.TaskRun, int]]] = {}
            while self._ends and self._ends[0][0] <= self.now:
                _, _, node, run, index = heapq.heappop(self._ends)
                ended.setdefault(node.peer, []).append((run, index))
            for peer, tasks in ended.items():
                self._finish(self.nodes[peer], tasks)
            if self.now >= self._ticks_at:
                self._ticks_at = self.now + TICK_S
                for node in self.nodes.values():
                    self.tell(ev.ManagerSaid(node.peer, msg.Heartbeat()))
                while self._asked:
                    self.tell(ev.ManagerSaid(self._asked.pop(), msg.Returned([])))
                self.tell(ev.Tick())
                if self.core.status().queued + self.core.status().running == 0:
                    return
        raise AssertionError(f"{self.core.status()} is left")

    def tell(self, event: ev.Event) -> None:
        for action in self.core.handle(event, self.now):
            if isinstance(action, ev.ToManager) and isinstance(action.message, msg.Tasks):
                node = self.nodes[action.peer]
                for run in action.message.runs:
                    queue = node.sized if run.needs else node.ordinary
                    queue.extend((run, run.first + n) for n in range(len(run.payloads)))
                self._begin(node)
            elif isinstance(action, ev.ToManager) and isinstance(action.message, msg.GiveBack):
                self._asked.append(action.peer)
            elif isinstance(action, ev.ToForwarder) and isinstance(action.message, msg.Status):
                self.reasons.append(action.message.reason)

    def _begin(self, node: Node) -> None:
        for run, index, lease in node.begin():
            took = self.took[run.stream]
            if self._chance is not None:
                took *= self._chance.uniform(0.5, 1.5)
            end = self.now + took
            cores = sum(part for _, part in lease.cores)
            self.ran.append(Ran(run.stream, index, node.number, self.now, end, cores))
            self._order += 1
            heapq.heappush(self._ends, (end, self._order, node, run, index))
        self._tell_capacity(node)

    def _tell_capacity(self, node: Node) -> None:
        if (message := node.capacity()) is not None:
            self.tell(ev.ManagerSaid(node.peer, message))

    def _finish(self, node: Node, tasks: list[tuple[msg.TaskRun, int]]) -> None:
        for run, index in tasks:
            lease, _ = node.leases.pop((run.stream, index))
            node.room.give_back(lease)
            node.results += 1
            value = Outcome(index, OutcomeKind.VALUE, b"v", self.took[run.stream])
            results = msg.Results(
                node.results, [msg.ResultRun(run.stream, run.epoch, run.attempt, [value])]
            )
            self.tell(ev.ManagerSaid(node.peer, results))
        self._begin(node)

    # --- how it went ----------------------------------------------------------------------------

    def utilisation(self) -> float:
        """Of the cores of all nodes, from the first beginning to the last end."""
        begin, end = min(ran.begin for ran in self.ran), max(ran.end for ran in self.ran)
        used = sum((ran.end - ran.begin) * ran.cores for ran in self.ran)
        return used / ((end - begin) * sum(node.size.cores for node in self.nodes.values()))

    def first(self, stream: bytes) -> float:
        """When its first task began, in seconds since the start."""
        return min(ran.begin for ran in self.ran if ran.stream == stream) - 1000.0

    def longest_gap(self, stream: bytes) -> float:
        """The longest time, until its last task began, in which none of it began."""
        begins = [1000.0, *sorted(ran.begin for ran in self.ran if ran.stream == stream)]
        return max(after - before for before, after in itertools.pairwise(begins))


def packed(**needs: int) -> bytes:
    """Needs as they travel."""
    return pack(Needs(**needs))
