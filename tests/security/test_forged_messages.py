"""Messages of peers that are let in, and say what they should not: of others' tasks and names."""

from __future__ import annotations

import hashlib

import pytest

from fxhpc.forwarder import events as fev
from fxhpc.forwarder.core import LOCAL_ENDPOINT
from fxhpc.interchange import events as iev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind
from fxhpc.testing.clients import Client
from fxhpc.testing.cluster import NAMED_ENDPOINT, NAMED_KEY, Cluster
from fxhpc.testing.nodes import Node

BODY = b"a function"
DIGEST = hashlib.sha256(BODY).digest()
STREAM = b"its stream.."


class Work:
    """A cluster in which a client's two tasks run: on its own `local`, or on the named endpoint."""

    def __init__(self, endpoint: str, nodes: int = 1) -> None:
        self.cluster = Cluster()
        self.client = self.cluster.new_client()
        self.cluster.settle()
        self.client.call(lambda number: service.PutBody(number, DIGEST, BODY))
        info = msg.StreamInfo(STREAM, endpoint, DIGEST, keep=True)
        self.client.submit([service.Submission(info, 0, [b"one", b"two"])])
        self.cluster.settle()
        owner = None if endpoint == NAMED_ENDPOINT else self.client
        self.nodes = [self.cluster.new_node(owner, slots=1) for _ in range(nodes)]
        self.cluster.settle()
        self.begin()

    def begin(self) -> None:
        """All workers begin what they have."""
        for node in self.cluster.live_nodes():
            for number in node.workers:
                node.begin(number)
        self.cluster.settle()

    def finish(self) -> dict[int, bytes]:
        """All work is done; the values that a client is told."""
        for _ in range(6):
            for node in self.cluster.live_nodes():
                for number in list(node.workers):
                    node.finish(number)
                    node.begin(number)
            self.cluster.tick(0.2)
            self.cluster.settle()
        reader = self.cluster.new_client()
        self.cluster.settle()
        reader.fetch({STREAM: [0, 1]}, 0.0)
        self.cluster.settle()
        return {index: outcome.data for (_, index), outcome in reader.outcomes.items()}

    def hear(self, node: Node, message: msg.FromManager) -> None:
        """The named interchange hears this over a manager's connection."""
        links = self.cluster.named.links
        peer = next(peer for peer, link in links.items() if link is node.link)
        self.cluster.named.tell(iev.ManagerSaid(peer, message))
        self.cluster.settle()


def forged(*indices: int) -> msg.Results:
    """Outcomes that nobody computed."""
    outcomes = [Outcome(index, OutcomeKind.VALUE, b"forged") for index in indices]
    return msg.Results(900, [msg.ResultRun(STREAM, 1, 1, outcomes)])


def test_i05_results_for_another_endpoints_tasks() -> None:
    """An endpoint tells outcomes of tasks that it was never sent: it is told that they are stored,
    so that it does not repeat them, and the tasks' own endpoint decides how they end.
    """
    work = Work(LOCAL_ENDPOINT)
    work.cluster.home.feed(fev.InterchangeSaid(NAMED_KEY, forged(0, 1)))
    work.cluster.settle()
    assert work.finish() == {0: b"one", 1: b"two"}


def test_i05_results_for_tasks_that_do_not_exist() -> None:
    """Indices beyond those submitted, and streams that nobody knows, have no effect."""
    work = Work(NAMED_ENDPOINT)
    work.hear(work.nodes[0], forged(7, 2**31, 2**32 - 1))
    outcomes = [Outcome(0, OutcomeKind.VALUE, b"forged")]
    work.hear(work.nodes[0], msg.Results(901, [msg.ResultRun(b"n" * 12, 1, 1, outcomes)]))
    assert work.finish() == {0: b"one", 1: b"two"}


def test_i05_losses_and_returns_of_others_attempts() -> None:
    """A manager says that it has lost, or not begun, what another manager runs, and attempts of its
    own that there never were: nothing is run again.
    """
    work = Work(NAMED_ENDPOINT, nodes=2)
    loss = Loss(LossCause.WORKER_KILLED, "so it says")
    for node in work.nodes:
        for epoch, attempt in ((0, 0), (1, 99), (99, 1)):
            for index in (0, 1):
                lost = msg.LostTask(STREAM, index, epoch, attempt, loss)
                work.hear(node, msg.Lost([lost]))
            refs = [msg.TaskRefs(STREAM, [0, 2], epoch, attempt)]
            work.hear(node, msg.Returned(refs))
    assert work.finish() == {0: b"one", 1: b"two"}
    assert set(work.cluster.tally.executions.values()) == {1}


def test_i05_the_same_registration_twice() -> None:
    """A greeting that is heard twice, and results that are, end nothing and run nothing again."""
    work = Work(NAMED_ENDPOINT)
    node = work.nodes[0]
    greeting = node.core._register()
    for _ in range(2):
        work.hear(node, greeting)
    assert work.finish() == {0: b"one", 1: b"two"}
    assert set(work.cluster.tally.executions.values()) == {1}


def test_a_client_cancels_what_another_client_of_its_user_submitted() -> None:
    """Within one user that is allowed: a new notebook ends what the old one began."""
    work = Work(NAMED_ENDPOINT)
    other: Client = work.cluster.new_client()
    work.cluster.settle()
    other.cancel(STREAM, [0, 1], interrupt=True)
    work.cluster.tick(0.1)
    work.cluster.settle()
    work.finish()
    other.fetch({STREAM: [0, 1]}, 0.0)
    work.cluster.settle()
    assert {outcome.kind for outcome in other.outcomes.values()} == {OutcomeKind.CANCELLED}


def test_i05_forged_words_of_one_client_do_not_reach_another() -> None:
    """Who acknowledges pushes of others' streams, or calls by others' numbers, changes nothing."""
    work = Work(NAMED_ENDPOINT)
    other = work.cluster.new_client()
    work.cluster.settle()
    other.link.say(service.Delivered(list(range(100))))
    other.link.say(service.Fetch(1, [service.StreamRanges(b"z" * 12, [0, 2**32])]))
    work.cluster.settle()
    assert not other.outcomes
    assert work.finish() == {0: b"one", 1: b"two"}


@pytest.mark.parametrize("name", ["", "(unknown)"])
def test_i05_a_manager_without_a_name_of_its_own(name: str) -> None:
    """These stand for something else in the journal: who greets so is refused, and others go on."""
    work = Work(NAMED_ENDPOINT)
    refs = [msg.TaskRefs(b"n" * 12, [0, 3], 0, 1)]
    core = work.cluster.named.core
    told = [
        getattr(action, "message", None)
        for message in (msg.Register(name, b"e", 1, "9.9", queued=refs), msg.Bye(""))
        for action in core.handle(iev.ManagerSaid(b"stranger", message), 0.0)
    ]
    assert [one for one in told if isinstance(one, msg.Refuse)]
    assert work.finish() == {0: b"one", 1: b"two"}
