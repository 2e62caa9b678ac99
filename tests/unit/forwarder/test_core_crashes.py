"""The forwarder dies after every single request to its store, heard of or not: nothing is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.testing.cluster import NAMED_ENDPOINT, Cluster

RUN, BATCH, PUSHED = b"run---------", b"batch-------", b"executor----"
DIGEST = b"f" * 32


def _info(name: bytes) -> msg.StreamInfo:
    return msg.StreamInfo(name, NAMED_ENDPOINT, DIGEST, keep=name != PUSHED, retries=2)


class Life:
    """A cluster whose forwarder dies once, after so many requests to the store.

    Args:
        crash_after: so many requests are carried out and told of.
        committed: whether one more is carried out of which nobody hears.
    """

    def __init__(self, crash_after: int, committed: bool) -> None:
        self.cluster = Cluster()
        self.client = self.cluster.new_client()
        self.node = self.cluster.new_node(None)
        self._left = crash_after
        self._committed = committed
        self.crashed = False

    def settle(self) -> None:
        """As the cluster's own, but for the crash."""
        cluster = self.cluster
        for _ in range(10_000):
            cluster.turn()
            moved = False
            for link in cluster.links():
                while cluster.deliver_up(link):
                    moved = True
                while cluster.deliver_down(link):
                    moved = True
            if cluster.store.requests and not self.crashed and not self._left:
                self.crashed = moved = True
                cluster.restart_forwarder(int(self._committed))
            elif cluster.work_store():
                self._left -= 1
                moved = True
            if not moved:
                return
        raise AssertionError("it does not come to an end")

    def submit(self, name: bytes, first: int, count: int) -> None:
        payloads = [b"x"] * count
        self.client.submit([service.Submission(_info(name), first, payloads)])
        self.settle()

    def work(self) -> None:
        """Let the workers finish what they have."""
        for number in list(self.node.workers):
            self.node.begin(number)
        self.settle()
        for number in list(self.node.workers):
            self.node.finish(number)
        self.settle()


def _live(crash_after: int, committed: bool) -> Life:
    life = Life(crash_after, committed)
    client = life.client
    life.settle()
    record = service.FunctionRecord("0" * 36, DIGEST, "function")
    client.call(lambda number: service.RegisterFunction(number, record, b"body"))
    for index in range(3):
        life.submit(RUN, index, 1)
    life.submit(BATCH, 0, 4)
    life.submit(PUSHED, 0, 3)
    life.work()
    client.cancel(BATCH, [3], interrupt=False)
    life.submit(RUN, 3, 2)
    for _ in range(60):
        life.cluster.tick(1.0)
        life.settle()
        life.work()
        if all(len(_outcomes(life, name)) == count for name, count in _ALL.items()):
            break
        client.fetch({name: list(range(n)) for name, n in _ALL.items() if name != PUSHED}, 0.0)
        life.settle()
    return life


_ALL = {RUN: 5, BATCH: 4, PUSHED: 3}


def _outcomes(life: Life, name: bytes) -> dict[int, int]:
    return {
        index: outcome.kind
        for (stream, index), outcome in life.client.outcomes.items()
        if stream == name
    }


def _crashes() -> Iterator[tuple[int, bool]]:
    for crash_after in itertools.count():
        yield from ((crash_after, False), (crash_after, True))


def test_f01_a_crash_at_any_request_to_the_store_loses_nothing() -> None:
    """F1: at each point of the store's life, with the last request committed or not."""
    crashes = 0
    for crash_after, committed in _crashes():
        life = _live(crash_after, committed)
        at = f"after {crash_after} requests, committed: {committed}"
        assert not life.client.calls, f"a call was never answered, {at}"
        assert life.client.accepted == _ALL, at  # whatever was accepted, once
        for name, count in _ALL.items():
            found = _outcomes(life, name)
            assert sorted(found) == list(range(count)), f"{name!r} lost tasks, {at}: {found}"
            wanted = {OutcomeKind.VALUE, OutcomeKind.CANCELLED} if name == BATCH else {0}
            assert set(found.values()) <= wanted, at
        for task, times in life.cluster.tally.executions.items():
            assert times == 1, f"{task} ran {times} times, {at}"
        if not life.crashed:
            break
        crashes += 1
    assert crashes > 20


@pytest.mark.parametrize("committed", [False, True])
def test_f01_a_submission_is_accepted_once_however_often_its_forwarder_dies(
    committed: bool,
) -> None:
    """F1: each answer to the same submission is lost; it is stored once, and runs once."""
    life = Life(10**6, False)
    life.settle()
    life.client.call(lambda number: service.PutBody(number, DIGEST, b"body"))
    life.submit(RUN, 0, 1)
    for _ in range(5):
        life.client.submit([service.Submission(_info(BATCH), 0, [b"x"] * 4)])
        while not life.cluster.store.requests:
            life.cluster.turn()
            for link in life.cluster.links():
                life.cluster.deliver_up(link)
                life.cluster.deliver_down(link)
        life.cluster.restart_forwarder(int(committed))
        for _ in range(2):  # the client notices by its heartbeat, and attaches again
            life.cluster.tick(5.0)
            for link in life.cluster.links():
                while life.cluster.deliver_up(link) or life.cluster.deliver_down(link):
                    pass
    life.settle()
    assert not life.client.calls
    for _ in range(5):
        life.work()
    life.cluster.tick(1.0)
    life.client.fetch({BATCH: list(range(4))}, 0.0)
    life.settle()
    assert _outcomes(life, BATCH) == dict.fromkeys(range(4), OutcomeKind.VALUE)
    assert set(life.cluster.tally.executions.values()) == {1}
