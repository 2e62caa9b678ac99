"""A task's whole way in the simulation, in which one thing goes wrong that a test chooses."""

from __future__ import annotations

import hashlib

from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.testing.cluster import NAMED_ENDPOINT, Cluster

STREAM = b"the stream.."

_BODY = b"a function"
_DIGEST = hashlib.sha256(_BODY).digest()


class Story:
    """A client submits to the named endpoint, managers run, the client reads.

    Subclasses say what goes wrong: in `settle`, or in what they put into the cluster.

    Args:
        at: which of the things that may go wrong does, counted from 1; 0: none.
        tasks: how many there are; each one's value is its number.
        retries: of each task.

    Attributes:
        count: how many things could have gone wrong.
    """

    def __init__(self, at: int, *, tasks: int, retries: int) -> None:
        self.at = at
        self.count = 0
        self.tasks = tasks
        self.retries = retries
        self.cluster = Cluster()
        self.client = self.cluster.new_client()

    def submit(self) -> None:
        """The client submits everything."""
        self.settle()
        self.client.call(lambda number: service.PutBody(number, _DIGEST, _BODY))
        info = msg.StreamInfo(STREAM, NAMED_ENDPOINT, _DIGEST, retries=self.retries)
        payloads = [b"%d" % index for index in range(self.tasks)]
        self.client.submit([service.Submission(info, 0, payloads)])
        self.settle()

    def fetch(self) -> None:
        """The client asks for all outcomes, and has the time for them."""
        self.client.fetch({STREAM: list(range(self.tasks))}, 3600.0)

    def finish(self) -> None:
        """Go on until all tasks have ended; what is still wrong after a minute stays so."""
        for _ in range(60):
            self.work()
            if len(self.client.outcomes) == self.tasks:
                break
            # A loss is noticed by what follows it: a heartbeat at the latest.
            self.cluster.tick(1.0)
            self.settle()

    def work(self) -> None:
        """Workers end what they run, and begin what is next."""
        for node in self.cluster.live_nodes():
            for number in list(node.workers):
                node.finish(number)
                node.begin(number)
        self.settle()

    def settle(self) -> None:
        """Everything arrives."""
        self.cluster.settle()

    def check(self, told: str) -> None:
        """Each task has ended with its value, and has run once."""
        values = {index: outcome.data for (_, index), outcome in self.client.outcomes.items()}
        assert values == {index: b"%d" % index for index in range(self.tasks)}, told
        assert set(self.cluster.tally.executions.values()) == {1}, told
