"""What the rules of the state machine share: whom they are about, and what follows at once."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from fxhpc.protocol.needs import UNIT, Needs, pack
from fxhpc.testing.clients import Client
from fxhpc.testing.nodes import Node
from tests.model.promises import Promises, Submitted

NOTHING, SETTLE, GET_GOING = "nothing", "settle", "get going"
thens = st.sampled_from([NOTHING, SETTLE, GET_GOING])
small = st.integers(0, 5)
sizes = st.sampled_from([0, 0, 0, 30, 350])
#: What tasks need: mostly nothing; else more than a worker has, less, or one of their own.
needs = st.sampled_from(
    [
        *[b""] * 5,
        pack(Needs(cores=2 * UNIT)),
        pack(Needs(cores=UNIT // 2)),
        pack(Needs(environ=(("A", "1"),), priority=UNIT)),
    ]
)


class Rules(Promises):
    """Chooses among what there is."""

    def then(self, what: str) -> None:
        """What follows a rule at once: so that most of them meet a system that is at work."""
        if what == SETTLE:
            self.cluster.settle()
        elif what == GET_GOING:
            self.get_going()

    @rule()
    def get_going(self) -> None:
        """Everything arrives, and each worker begins what it was given."""
        self.cluster.settle()
        for node in self.cluster.live_nodes():
            for number in list(node.workers):
                node.begin(number)
        self.cluster.settle()

    # --- help -----------------------------------------------------------------------------------

    def client(self, which: int) -> Client:
        clients = self.living_clients()
        return clients[which % len(clients)]

    def stream(self, which: int) -> Submitted:
        return self.streams[which % len(self.streams)]

    def node(self, which: int) -> Node | None:
        nodes = self.cluster.live_nodes()
        return nodes[which % len(nodes)] if nodes else None

    def worker(self, node: Node, which: int) -> int | None:
        numbers = list(node.workers)
        return numbers[which % len(numbers)] if numbers else None
