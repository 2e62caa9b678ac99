"""The rules of the state machine that are about managers and their workers."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from fxhpc.testing.cluster import NAMED_KEY
from tests.model.rules import Rules, small, thens


class NodeRules(Rules):
    """What happens on nodes, and to them."""

    @rule(
        who=small,
        named=st.booleans(),
        slots=st.integers(1, 3),
        lasts_s=st.sampled_from([0.0, 0.0, 8.0, 40.0]),
        keeps=st.booleans(),
        then=thens,
    )
    def manager_starts(
        self, who: int, named: bool, slots: int, lasts_s: float, keeps: bool, then: str
    ) -> None:
        client = None if named else self.client(who)
        key = NAMED_KEY if client is None else client.instance
        if len(self.cluster.live_nodes(key)) < 3:
            self.cluster.new_node(client, slots, lasts_s if named else 0.0, keeps and named)
        self.then(then)

    @rule(which=small, then=thens)
    def manager_dies(self, which: int, then: str) -> None:
        if node := self.node(which):
            self.cluster.kill_node(node)
        self.then(then)

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 20), index=small, times=st.integers(2, 3), then=thens)
    def task_takes_its_nodes_down(self, which: int, index: int, times: int, then: str) -> None:
        """Wherever it begins, its manager is lost; there is always another."""
        task = (self.stream(which).info.stream, index)
        for _ in range(times):
            self.get_going()
            for node in self.cluster.live_nodes():
                if task in node.running():
                    clients = self.living_clients()
                    owner = next((c for c in clients if c.instance == node.endpoint), None)
                    self.cluster.kill_node(node)
                    self.cluster.new_node(owner)
        self.then(then)

    @rule(which=small, then=thens)
    def manager_is_told_to_end(self, which: int, then: str) -> None:
        if node := self.node(which):
            node.end()
        self.then(then)

    @rule(which=small, then=thens)
    def manager_is_silent(self, which: int, then: str) -> None:
        """Nothing gets through in either direction, for longer than heartbeats may be missed."""
        if node := self.node(which):
            for _ in range(4):
                node.link.cut()
                self.cluster.tick(5.0)
        self.then(then)

    @rule(
        which=small,
        seconds=st.sampled_from([4.0, 20.0, 40.0]),
        stands_still=st.booleans(),
        then=thens,
    )
    def manager_is_suspended(
        self, which: int, seconds: float, stands_still: bool, then: str
    ) -> None:
        """SIGSTOP, or its machine sleeps: nobody notices until its heartbeats are missed."""
        if node := self.node(which):
            self.cluster.suspend(node, seconds, stands_still)
        self.then(then)

    @rule(which=small, then=thens)
    def manager_drains(self, which: int, then: str) -> None:
        """Whoever started it wants its node back."""
        if node := self.node(which):
            node.drain()
        self.then(then)

    @rule(seconds=st.sampled_from([20.0, 650.0]))
    def managers_are_alone(self, seconds: float) -> None:
        """The named interchange is away, for longer than its managers wait perhaps."""
        self.cluster.suspend(self.cluster.named, min(seconds, 20.0), False)
        if seconds > 20:
            self.cluster.named.suspended = True
            self.cluster.tick(seconds)
            self.cluster.settle()
            self.cluster.named.suspended = False

    @rule(which=small, worker=small)
    def worker_begins(self, which: int, worker: int) -> None:
        if (node := self.node(which)) and (number := self.worker(node, worker)):
            node.begin(number)

    @rule(which=small, worker=small, flush=st.booleans(), then=thens)
    def worker_finishes(self, which: int, worker: int, flush: bool, then: str) -> None:
        if (node := self.node(which)) and (number := self.worker(node, worker)):
            node.finish(number, flush=flush)
        self.then(then)

    @rule(which=small, worker=small, then=thens)
    def worker_dies(self, which: int, worker: int, then: str) -> None:
        if (node := self.node(which)) and (number := self.worker(node, worker)):
            self.cluster.kill_worker(node, number)
        self.then(then)

    @rule(which=small, worker=small, count=st.integers(1, 2), then=thens)
    def workers_die_as_they_start(self, which: int, worker: int, count: int, then: str) -> None:
        """One is killed, and so are the next that are started in its place. The third in a row
        would be the end of all that waits there.
        """
        node = self.node(which)
        if node is None or node.stillborn or any(w.killed for w in node.workers.values()):
            return
        if number := self.worker(node, worker):
            node.stillborn = count
            self.cluster.kill_worker(node, number)
        self.then(then)

    @rule(which=small, undead=st.booleans())
    def killed_workers_do_not_die(self, which: int, undead: bool) -> None:
        """They wait for a file system that does not answer."""
        if node := self.node(which):
            node.undead = undead

    @rule(rounds=st.integers(1, 3))
    def workers_work(self, rounds: int) -> None:
        for _ in range(rounds):
            self.work()
