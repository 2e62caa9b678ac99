"""What an incomplete journal lacks never runs twice, however often its interchange is killed.

The cores of all processes, without processes: see `fxhpc.testing.cluster`.
"""

from __future__ import annotations

import hashlib

import pytest

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.testing.cluster import NAMED_ENDPOINT, Cluster
from fxhpc.testing.nodes import Node

FUNCTION = b"a function"
DIGEST = hashlib.sha256(FUNCTION).digest()
STREAM = b"stream------"


def submit(cluster: Cluster, retries: int) -> None:
    client = cluster.new_client()
    cluster.settle()
    client.call(lambda number: service.PutBody(number, DIGEST, FUNCTION))
    info = msg.StreamInfo(
        STREAM, NAMED_ENDPOINT, DIGEST, submitter=client.name, keep=True, retries=retries
    )
    client.submit([service.Submission(info, 0, [b"x"])])
    client.fetch({STREAM: [0]}, 3600.0)
    cluster.settle()


def begin_all(node: Node) -> None:
    for number in list(node.workers):
        node.begin(number)


def cut_off(cluster: Cluster, seconds: int) -> None:
    """The forwarder does not reach the interchange for so long."""
    for _ in range(seconds):
        cluster.named_link.cut()
        cluster.clock.advance(1.0)
        cluster.named.tell(ev.Tick())


@pytest.mark.parametrize("retries", [0, 2])
def test_i_an_interchange_is_killed_again_before_the_forwarder_is_back(retries: int) -> None:
    """The disk was full when it sent a task; then it was killed, and the task's manager too. The
    next one has nothing to do for so long that it waits for nobody any more, and is killed.
    """
    cluster = Cluster()
    cluster.named.full = True
    node = cluster.new_node(None)
    submit(cluster, retries)
    begin_all(node)
    assert cluster.tally.executions[STREAM, 0] == 1
    cluster.kill_node(node)
    cluster.restart_named()
    cluster.named.full = False
    cut_off(cluster, 40)
    assert cluster.named.core.is_idle
    cluster.restart_named()
    other = cluster.new_node(None)
    for _ in range(45):
        cluster.tick(1.0)
        cluster.settle()
        begin_all(other)
        for number in list(other.workers):
            other.finish(number)
    (client,) = cluster.clients
    outcome = client.outcomes[STREAM, 0]
    assert cluster.tally.executions[STREAM, 0] == (1 if retries == 0 else 2)
    assert outcome.kind == (OutcomeKind.LOST if retries == 0 else OutcomeKind.VALUE)
    # Now the forwarder has sent all again: the next one need not doubt anything.
    cluster.restart_named()
    assert cluster.named.core.has_all
