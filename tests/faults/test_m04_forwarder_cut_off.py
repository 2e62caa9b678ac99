"""A forwarder and an endpoint that do not hear each other: all cores, over a link that loses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.testing.cluster import NAMED_ENDPOINT, Cluster

STREAM, DIGEST = b"stream------", b"f" * 32
COUNT = 60


def _settle(cluster: Cluster, lose: Callable[[], None]) -> None:
    """Deliver everything but what the partition swallows."""
    for _ in range(50):
        cluster.turn()
        while cluster.work_store():
            pass
        lose()
        for link in cluster.links():
            while link.up.frames and cluster.deliver_up(link):
                lose()
            while link.down.frames and cluster.deliver_down(link):
                lose()


@pytest.mark.parametrize("seconds", [10, 40])
@pytest.mark.parametrize("direction", ["both", "to the endpoint", "to the forwarder"])
def test_m04_a_forwarder_and_its_endpoint_are_cut_off_from_each_other(
    direction: str, seconds: int
) -> None:
    """For less time than silence is borne, and for more; in both directions, or in one.

    The endpoint goes on with what it has and keeps the results; the forwarder takes submissions.
    When the link is back every task ends, and none has run twice.
    """
    cluster = Cluster()
    client, node = cluster.new_client(), cluster.new_node(None)
    cluster.settle()
    record = service.FunctionRecord("0" * 36, DIGEST, "function")
    client.call(lambda number: service.RegisterFunction(number, record, b"body"))
    info = msg.StreamInfo(STREAM, NAMED_ENDPOINT, DIGEST, keep=True, retries=2)

    def submit(first: int, count: int) -> None:
        client.submit([service.Submission(info, first, [b"x"] * count)])

    def work() -> None:
        for number in list(node.workers):
            node.begin(number)
        for number in list(node.workers):
            node.finish(number)

    def lose() -> None:
        if direction != "to the forwarder":
            cluster.named_link.up.clear()
        if direction != "to the endpoint":
            cluster.named_link.down.clear()

    submit(0, COUNT // 2)
    cluster.settle()
    work()
    cluster.settle()
    begun = sum(cluster.tally.executions.values())
    assert begun
    for second in range(seconds):
        if second == 2:
            submit(COUNT // 2, COUNT // 2)
        cluster.tick(1.0)
        _settle(cluster, lose)
        work()
        _settle(cluster, lose)
    assert sum(cluster.tally.executions.values()) > begun  # the endpoint has gone on
    for _ in range(120):
        cluster.tick(1.0)
        cluster.settle()
        work()
        cluster.settle()
        client.fetch({STREAM: list(range(COUNT))}, 0.0)
        cluster.settle()
        if len(client.outcomes) == COUNT:
            break
    assert len(client.outcomes) == COUNT
    assert {outcome.kind for outcome in client.outcomes.values()} == {OutcomeKind.VALUE}
    assert set(cluster.tally.executions.values()) == {1}
