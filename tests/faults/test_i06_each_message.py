"""I6: each single message of a task's way, lost, repeated, overtaken or garbled. No sockets.

All orders of all faults are the state machine's (`tests/model`); here none is left to chance.
"""

from __future__ import annotations

import hashlib

import pytest

from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.testing.cluster import NAMED_ENDPOINT, Cluster
from fxhpc.testing.link import Wire
from tests.faults.figures import record_figure

BODY = b"a function"
DIGEST = hashlib.sha256(BODY).digest()
STREAM = b"the stream.."
TASKS = 4


class Story:
    """A client submits, a manager runs, the client reads; and one message meets a fault.

    Args:
        fault: what happens to it.
        at: which one it is, counted over all links.
    """

    def __init__(self, fault: str, at: int) -> None:
        self.count = 0
        self._fault, self._at = fault, at
        self.cluster = Cluster()
        client = self.cluster.new_client()
        self.settle()
        client.call(lambda number: service.PutBody(number, DIGEST, BODY))
        info = msg.StreamInfo(STREAM, NAMED_ENDPOINT, DIGEST, retries=0)
        client.submit([service.Submission(info, 0, [b"%d" % index for index in range(TASKS)])])
        self.settle()
        self.cluster.new_node(None, slots=2)
        client.fetch({STREAM: list(range(TASKS))}, 3600.0)
        for _ in range(60):
            self.work()
            if len(client.outcomes) == TASKS:
                break
            # A loss is noticed by what follows it: a heartbeat at the latest.
            self.cluster.tick(1.0)
            self.settle()
        self.values = {index: out.data for (_, index), out in client.outcomes.items()}

    def work(self) -> None:
        """Workers end what they run, and begin what is next."""
        for node in self.cluster.live_nodes():
            for number in list(node.workers):
                node.finish(number)
                node.begin(number)
        self.settle()

    def settle(self) -> None:
        """Everything arrives, one by one."""
        moved = True
        while moved:
            moved = False
            self.cluster.turn()
            while self.cluster.work_store():
                moved = True
            for link in self.cluster.links():
                for wire, deliver in (
                    (link.up, self.cluster.deliver_up),
                    (link.down, self.cluster.deliver_down),
                ):
                    while wire.frames and self.arrives(wire):
                        moved = deliver(link) or moved

    def arrives(self, wire: Wire) -> bool:
        """Count the message that is next, and do to it what was chosen; whether one is left."""
        self.count += 1
        if self.count == self._at:
            getattr(wire, self._fault)(0)
        return bool(wire.frames)


@pytest.mark.parametrize("fault", ["drop", "repeat", "swap", "garble"])
def test_i06_each_message_meets_a_fault(fault: str) -> None:
    """Whichever message it is, of whichever link: every task ends with its value, and none, though
    none may be tried again, runs twice.
    """
    messages = Story(fault, 0).count
    assert messages > 20
    for at in range(1, messages + 1):
        story = Story(fault, at)
        told = f"{fault} of message {at} of {messages}"
        assert story.values == {index: b"%d" % index for index in range(TASKS)}, told
        assert set(story.cluster.executions.values()) == {1}, told
        assert not story.cluster.excuses, told
    record_figure("I6", f"messages that met '{fault}', one at a time", messages)
