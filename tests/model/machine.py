"""The rules and the invariants of the state machine test."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fxhpc.forwarder.core import LOCAL_ENDPOINT
from fxhpc.forwarder.streams import RUNNING, SENT, STORING
from fxhpc.ids import to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.testing.clients import Client
from fxhpc.testing.cluster import NAMED_ENDPOINT, NAMED_KEY, Cluster
from fxhpc.testing.hosts import InterchangeHost
from fxhpc.testing.nodes import Node, Task

BODY = b"a function"
DIGEST = hashlib.sha256(BODY).digest()
UNKNOWN_DIGEST = hashlib.sha256(b"what nobody ever stored").digest()

#: Small numbers in the place of those that would need thousands of tasks to be reached.
SMALL = {
    "fxhpc.interchange.reporting.BASE_WINDOW_TASKS": 5,
    "fxhpc.interchange.reporting.BASE_WINDOW_BYTES": 600,
    "fxhpc.manager.core.HELD_BYTES": 300,
    "fxhpc.manager.core.MESSAGE_TASKS": 3,
    "fxhpc.manager.core.UNSTORED_BYTES": 3000,
    "fxhpc.manager.pace.HOLD_TASKS": 4,
    "fxhpc.forwarder.submitting.PAYLOAD_BYTES": 1500,
    "fxhpc.forwarder.state.BODY_BYTES": 1,
    "fxhpc.forwarder.gathering.ROW_TASKS": 4,
    "fxhpc.forwarder.delivery.PUSHES_OUT": 2,
    "fxhpc.forwarder.delivery.CACHE_BYTES": 400,
    "fxhpc.protocol.turns.QUANTUM": 2,
}

NOTHING, SETTLE, GET_GOING = "nothing", "settle", "get going"
thens = st.sampled_from([NOTHING, SETTLE, GET_GOING])
small = st.integers(0, 5)
sizes = st.sampled_from([0, 0, 0, 30, 350])


def payload_of(stream: bytes, index: int, size: int) -> bytes:
    """Arguments that tell whose they are."""
    return stream + index.to_bytes(4, "big") + b"x" * size


class Submitted:
    """A stream as its client sees it."""

    def __init__(self, info: msg.StreamInfo, client: Client) -> None:
        self.info = info
        self.client = client
        self.count = 0
        self.failed = False


class FxhpcMachine(RuleBasedStateMachine):
    """Every fault that the promises speak of, in every order."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = contextlib.ExitStack()
        for name, value in SMALL.items():
            self.patches.enter_context(mock.patch(name, value))
        self.cluster = Cluster()
        self.streams: list[Submitted] = []
        self.cancelled: set[Task] = set()
        self.fetches: list[tuple[Client, int]] = []

    @initialize(named=st.integers(0, 2), local=st.integers(0, 2), busy=st.booleans())
    def begin(self, named: int, local: int, busy: bool) -> None:
        client = self.cluster.new_client()
        self.cluster.settle()
        client.call(lambda number: service.PutBody(number, DIGEST, BODY))
        for owner, count in ((None, named), (client, local)):
            for _ in range(count):
                self.cluster.new_node(owner)
        if busy:
            for at_named in (False, True):
                self.submit_new(0, at_named, True, 2, 12, 0, True, 0.0, NOTHING)
            self.get_going()
        self.cluster.settle()

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

    # --- clients --------------------------------------------------------------------------------

    @rule(
        who=small,
        named=st.booleans(),
        keep=st.booleans(),
        retries=st.integers(0, 2),
        count=st.integers(1, 9),
        size=sizes,
        known=st.sampled_from([True] * 9 + [False]),
        walltime_s=st.sampled_from([0.0, 0.0, 2.0, 30.0]),
        then=thens,
    )
    def submit_new(
        self,
        who: int,
        named: bool,
        keep: bool,
        retries: int,
        count: int,
        size: int,
        known: bool,
        walltime_s: float,
        then: str,
    ) -> None:
        client = self.client(who)
        info = msg.StreamInfo(
            len(self.streams).to_bytes(12, "big"),
            NAMED_ENDPOINT if named else LOCAL_ENDPOINT,
            DIGEST if known else UNKNOWN_DIGEST,
            submitter=client.name,
            keep=keep,
            retries=retries,
            walltime_s=walltime_s if named else 0.0,
        )
        self.streams.append(Submitted(info, client))
        self.submit([self.streams[-1]], count, size)
        self.then(then)

    @precondition(lambda self: self.streams)
    @rule(
        which=st.lists(st.integers(0, 20), min_size=1, max_size=2),
        count=small,
        size=sizes,
        then=thens,
    )
    def submit_more(self, which: list[int], count: int, size: int, then: str) -> None:
        chosen = {id(one): one for one in (self.stream(number) for number in which)}
        client = self.stream(which[0]).client
        self.submit([one for one in chosen.values() if one.client is client], count + 1, size)
        self.then(then)

    def submit(self, streams: list[Submitted], count: int, size: int) -> None:
        submissions = []
        for stream in streams:
            if not stream.client.alive or stream.failed:
                continue
            first = stream.count
            stream.count += count
            name = stream.info.stream
            payloads = [payload_of(name, first + i, size) for i in range(count)]
            submissions.append(service.Submission(stream.info, first, payloads))
        if submissions:
            streams[0].client.submit(submissions)

    @precondition(lambda self: self.streams)
    @rule(
        which=st.integers(0, 20),
        first=small,
        count=st.integers(1, 5),
        interrupt=st.booleans(),
        then=thens,
    )
    def cancel(self, which: int, first: int, count: int, interrupt: bool, then: str) -> None:
        stream = self.stream(which)
        if stream.client.alive:
            indices = list(range(first, first + count))
            self.cancelled.update((stream.info.stream, index) for index in indices)
            stream.client.cancel(stream.info.stream, indices, interrupt=interrupt)
        self.then(then)

    @precondition(lambda self: self.streams)
    @rule(who=small, which=st.integers(0, 20), wait_s=st.sampled_from([0.0, 3.0, 60.0]))
    def fetch(self, who: int, which: int, wait_s: float) -> None:
        stream, client = self.stream(which), self.client(who)
        if stream.info.keep and stream.count:
            tasks = {stream.info.stream: list(range(stream.count))}
            self.fetches.append((client, client.fetch(tasks, wait_s)))

    @rule()
    def client_starts(self) -> None:
        if len(self.living_clients()) < 3:
            self.cluster.new_client()

    @rule(who=small, then=thens)
    def client_dies(self, who: int, then: str) -> None:
        if len(self.living_clients()) > 1:
            self.cluster.kill_client(self.client(who))
        self.then(then)

    @rule(who=small, then=thens)
    def client_reconnects(self, who: int, then: str) -> None:
        self.client(who).reconnect()
        self.then(then)

    @rule(who=small)
    def client_comes_back_after_goodbye(self, who: int) -> None:
        """The process ends its managers and its connection on purpose, and opens another."""
        client = self.client(who)
        if client.attached and not client.open and not client.calls:
            for node in self.cluster.live_nodes(client.instance):
                node.end()
            client.link.say(msg.Bye())
            client.reconnect()

    # --- managers and workers -------------------------------------------------------------------

    @rule(
        who=small,
        named=st.booleans(),
        slots=st.integers(1, 3),
        lasts_s=st.sampled_from([0.0, 0.0, 8.0, 40.0]),
        then=thens,
    )
    def manager_starts(self, who: int, named: bool, slots: int, lasts_s: float, then: str) -> None:
        client = None if named else self.client(who)
        key = NAMED_KEY if client is None else client.instance
        if len(self.cluster.live_nodes(key)) < 3:
            self.cluster.new_node(client, slots, lasts_s if named else 0.0)
        self.then(then)

    @rule(which=small, then=thens)
    def manager_dies(self, which: int, then: str) -> None:
        if node := self.node(which):
            self.cluster.kill_node(node)
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

    @rule(rounds=st.integers(1, 3))
    def workers_work(self, rounds: int) -> None:
        for _ in range(rounds):
            self.work()

    # --- links, time, disks ---------------------------------------------------------------------

    @rule(which=st.integers(0, 12), up=st.booleans(), count=st.integers(1, 3), then=thens)
    def deliver(self, which: int, up: bool, count: int, then: str) -> None:
        links = self.cluster.links()
        link = links[which % len(links)]
        for _ in range(count):
            if up:
                self.cluster.deliver_up(link)
            else:
                self.cluster.deliver_down(link)
        self.then(then)

    @rule(
        which=st.integers(0, 12),
        up=st.booleans(),
        at=st.integers(0, 3),
        fault=st.sampled_from(["drop", "repeat", "swap"]),
        then=thens,
    )
    def fault(self, which: int, up: bool, at: int, fault: str, then: str) -> None:
        links = self.cluster.links()
        link = links[which % len(links)]
        getattr(link.up if up else link.down, fault)(at)
        self.then(then)

    @rule()
    def processes_turn(self) -> None:
        self.cluster.turn()

    @rule()
    def settle(self) -> None:
        self.cluster.settle()

    @rule(seconds=st.sampled_from([0.003, 0.1, 1.0, 6.0, 16.0, 31.0]), then=thens)
    def time_passes(self, seconds: float, then: str) -> None:
        self.cluster.tick(seconds)
        self.then(then)

    @rule(count=st.integers(1, 4), then=thens)
    def store_works(self, count: int, then: str) -> None:
        for _ in range(count):
            self.cluster.work_store()
        self.then(then)

    @rule(full=st.booleans())
    def disk_fills(self, full: bool) -> None:
        self.cluster.store.full = full

    # --- restarts -------------------------------------------------------------------------------

    @rule(committed=st.integers(0, 3), then=thens)
    def forwarder_restarts(self, committed: int, then: str) -> None:
        self.cluster.restart_forwarder(committed)
        self.then(then)

    @rule(then=thens)
    def interchange_restarts(self, then: str) -> None:
        self.cluster.restart_named()
        self.then(then)

    # --- invariants -----------------------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        self.no_task_runs_more_often_than_faults_explain()
        self.no_task_runs_at_two_managers()
        self.deaths_that_count_are_few()
        self.one_outcome_is_stored()
        self.what_is_accepted_is_stored()
        self.counts_are_right()

    def no_task_runs_more_often_than_faults_explain(self) -> None:
        cluster = self.cluster
        for task, count in cluster.executions.items():
            allowed = 1 if self.retries(task) == 0 else 1 + cluster.excuses[task]
            assert count <= allowed, f"{name(task)} was begun {count} times instead of {allowed}"

    def no_task_runs_at_two_managers(self) -> None:
        running: Counter[Task] = Counter()
        for node in self.cluster.live_nodes():
            if not self.cluster.is_doubtful(node):
                running.update(node.running())
        assert all(count == 1 for count in running.values()), running.most_common(1)

    def deaths_that_count_are_few(self) -> None:
        for task, count in self.cluster.deaths.items():
            assert count <= self.retries(task) + 1, f"{name(task)} killed {count} workers"

    def one_outcome_is_stored(self) -> None:
        for stream in self.streams:
            for index, outcomes in self.cluster.store.stored_outcomes(stream.info.stream).items():
                assert len(outcomes) == 1, f"task {index} of a stream has {outcomes}"

    def what_is_accepted_is_stored(self) -> None:
        store = self.cluster.store
        for stream in self.streams:
            accepted = stream.client.accepted.get(stream.info.stream, 0)
            if stream.client.alive and (stream.info.keep or stream.info.stream in store.streams()):
                assert store.stored_tasks(stream.info.stream) >= accepted

    def counts_are_right(self) -> None:
        forwarder = self.cluster.forwarder
        for key, endpoint in forwarder._state.endpoints.items():
            out = 0
            for stream in forwarder._state.by_endpoint.get(key, {}).values():
                pending = [state for state in stream.states if state < STORING]
                assert stream.pending == len(pending)
                out += pending.count(SENT) + pending.count(RUNNING)
            if endpoint.greetings:  # else it is not known yet what is out
                assert endpoint.out_tasks == out, (endpoint.out_tasks, out)
        for host in self.cluster.hosts():
            for manager in host.core._state.managers.values():
                assert manager.held_tasks == len(list(manager.tasks()))
                assert manager.held_bytes == sum(
                    len(run.payloads[index - run.first]) for _, index, run in manager.tasks()
                )

    # --- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.cluster.clients:
                self.finish()
        finally:
            self.patches.close()

    def finish(self) -> None:
        """Heal everything: then all tasks end, all calls are answered, nothing is left over."""
        cluster = self.cluster
        cluster.store.full = False
        cluster.settle()
        heir = cluster.new_client()
        cluster.settle()
        heir.call(lambda number: service.PutBody(number, DIGEST, BODY))
        for client in [None, *self.living_clients()]:
            cluster.new_node(client)
        kept = [stream for stream in self.streams if stream.info.keep and stream.count]
        asked = False
        for number in range(300):
            cluster.tick(1.0)
            cluster.settle()
            self.work()
            cluster.settle()
            self.promises_hold()
            if not asked:
                if number < 40 and self.unanswered():
                    continue
                asked = True
                heir.call(service.Resume)
                for stream in kept:
                    # What was never accepted is unknown, and does not keep the answer waiting.
                    tasks = {stream.info.stream: list(range(stream.count))}
                    self.fetches.append((heir, heir.fetch(tasks, 3600.0)))
            elif number >= 25 and self.is_over() and not self.unanswered():
                break
        self.check_end(heir)

    def unanswered(self) -> bool:
        return any(client.calls for client in self.living_clients())

    def is_over(self) -> bool:
        forwarder = self.cluster.forwarder
        return all(stream.pending == 0 for stream in forwarder._state.streams.values()) and all(
            is_done(host) for host in self.cluster.hosts()
        )

    def check_end(self, heir: Client) -> None:
        forwarder = self.cluster.forwarder
        for stream in forwarder._state.streams.values():
            left = [index for index, state in enumerate(stream.states) if state < STORING]
            assert not left, f"tasks {to_ranges(left)} of {stream.info.stream.hex()} never end"
        for endpoint in forwarder._state.endpoints.values():
            assert endpoint.out_tasks == 0, "an endpoint keeps credit for tasks that have ended"
        for host in self.cluster.hosts():
            assert is_done(host), f"the interchange of {host.endpoint} keeps something"
        for client in self.living_clients():
            assert not client.calls, f"calls that nobody answers: {client.calls}"
        for stream in self.streams:
            self.check_outcomes(stream, heir)

    def check_outcomes(self, stream: Submitted, heir: Client) -> None:
        info, client = stream.info, stream.client
        accepted = client.accepted.get(info.stream, 0)
        if not info.keep and (not client.alive or info.stream in client.forgotten):
            return
        told = {**client.outcomes, **heir.outcomes}
        for index in range(accepted):
            task = (info.stream, index)
            outcome = told.get(task)
            assert outcome is not None, f"{name(task)} was accepted, and has no outcome"
            if outcome.kind == OutcomeKind.VALUE:
                expected = info.stream + index.to_bytes(4, "big")
                assert outcome.data[:16] == expected, f"{name(task)} has the outcome of another"
                assert self.cluster.executions[task], f"{name(task)} has a value, and never ran"
            elif outcome.kind == OutcomeKind.CANCELLED:
                assert task in self.cancelled, f"{name(task)} was cancelled by nobody"
            else:
                lost = outcome.kind == OutcomeKind.LOST
                # A suspect whose manager is lost is charged, though it may not have begun there.
                explained = (
                    self.cluster.excuses[task]
                    or self.cluster.given_up > info.retries
                    or info.function == UNKNOWN_DIGEST
                )
                assert lost, f"{name(task)} ended as {outcome}"
                assert explained or info.retries == 0, f"{name(task)} was lost for no reason"

    # --- help -----------------------------------------------------------------------------------

    def work(self) -> None:
        """Each worker ends what it runs, and begins what is next."""
        for node in self.cluster.live_nodes():
            for number in list(node.workers):
                node.finish(number)
                node.begin(number)

    def living_clients(self) -> list[Client]:
        return [client for client in self.cluster.clients if client.alive]

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

    def retries(self, task: Task) -> int:
        found: Any = next(s for s in self.streams if s.info.stream == task[0])
        return int(found.info.retries)


def is_done(host: InterchangeHost) -> bool:
    """Whether an interchange holds nothing that has not ended."""
    state = host.core._state
    return not (
        state.queue
        or state.suspects
        or state.outbox
        or state.waiting
        or any(manager.held_tasks for manager in state.managers.values())
    )


def name(task: Task) -> str:
    return f"task {task[1]} of stream {int.from_bytes(task[0], 'big')}"
