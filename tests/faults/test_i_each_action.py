"""Row I1 without sockets: the interchange is killed after each single thing that it does."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.testing.cluster import NAMED_ENDPOINT, Cluster
from tests.faults.figures import record_figure

BODY = b"a function"
DIGEST = hashlib.sha256(BODY).digest()
STREAM = b"the stream.."
TASKS = 6


class Killed(Exception):
    """The process ends here: nothing that would have followed is done."""


class Story:
    """A client submits, managers run, the forwarder is away for a while; the interchange is killed.

    Args:
        retries: of each task.
        at: after which of its actions, counted from 1; 0: never.
    """

    def __init__(self, retries: int, at: int) -> None:
        self.count = 0
        self._at = at
        self._depth = 0
        self.cluster = Cluster()
        named = self.cluster.named
        self._tell, self._carry_out = named.tell, named._carry_out
        named.tell = self.tell  # type: ignore[method-assign]
        named._carry_out = self.carry_out  # type: ignore[method-assign]
        client = self.cluster.new_client()
        self.cluster.settle()
        client.call(lambda number: service.PutBody(number, DIGEST, BODY))
        info = msg.StreamInfo(STREAM, NAMED_ENDPOINT, DIGEST, retries=retries)
        client.submit([service.Submission(info, 0, [b"%d" % index for index in range(TASKS)])])
        self.cluster.settle()
        for _ in range(2):
            self.cluster.new_node(None, slots=1)
        client.fetch({STREAM: list(range(TASKS))}, 3600.0)
        self.cluster.settle()
        self.work()
        # What ends now goes to the spool, and is read back.
        self.tell(ev.ForwarderGone())
        self.work()
        self.cluster.restart_forwarder()
        for _ in range(60):
            self.cluster.settle()
            self.work()
            if len(client.outcomes) == TASKS:
                break
            self.cluster.tick(1.0)
        self.values = {index: out.data for (_, index), out in client.outcomes.items()}

    def work(self) -> None:
        """Workers end what they run, and begin what is next."""
        for node in self.cluster.live_nodes():
            for number in list(node.workers):
                node.finish(number)
                node.begin(number)
        self.cluster.settle()

    def tell(self, event: ev.Event) -> None:
        """Let the interchange know; a new one is started in its place if that has killed it."""
        self._depth += 1
        try:
            self._tell(event)
        except Killed:
            if self._depth > 1:
                raise
            self._depth = 0
            self.cluster.restart_named()
            self._depth = 1
        finally:
            self._depth -= 1

    def carry_out(self, action: Any) -> None:
        self._carry_out(action)
        self.count += 1
        if self.count == self._at:
            raise Killed


@pytest.mark.parametrize("retries", [0, 2])
def test_i01_killed_after_each_of_its_actions(retries: int) -> None:
    """I1: between a result's way to the spool and its acknowledgement, between the journal and
    what it announces, anywhere: every task ends with its value, and none runs twice.
    """
    actions = Story(retries, 0).count
    assert actions > 30
    for at in range(1, actions + 1):
        story = Story(retries, at)
        told = f"killed after action {at} of {actions}"
        assert story.values == {index: b"%d" % index for index in range(TASKS)}, told
        assert set(story.cluster.executions.values()) == {1}, told
    record_figure("I1", f"actions that it was killed after, retries={retries}", actions)
