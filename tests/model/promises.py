"""What must hold after each step of the state machine, whatever has happened, and at its end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from fxhpc.forwarder.streams import RUNNING, SENT, STORING
from fxhpc.ids import to_ranges
from fxhpc.interchange.held import Manager
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.needs import UNIT, needs_of
from fxhpc.protocol.outcome import Loss, LossCause, OutcomeKind, unpack_loss
from fxhpc.testing.clients import Client
from fxhpc.testing.cluster import NAMED_ENDPOINT, Cluster
from fxhpc.testing.hosts import InterchangeHost
from fxhpc.testing.nodes import Task
from tests.model.bodies import BODY, DIGEST, UNKNOWN_DIGEST


class Submitted:
    """A stream as its client sees it."""

    def __init__(self, info: msg.StreamInfo, client: Client) -> None:
        self.info = info
        self.client = client
        self.count = 0
        self.failed = False
        self.rows: list[tuple[int, list[bytes]]] = []  # the first task of each, and payloads


class Promises(RuleBasedStateMachine):
    """What there is, and what was promised of it. The rules are in `machine`."""

    cluster: Cluster
    streams: list[Submitted]
    cancelled: set[Task]
    fetches: list[tuple[Client, int]]

    def close(self) -> None:
        """Undo what concerns more than this one run."""

    # --- invariants -----------------------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        self.no_task_runs_more_often_than_faults_explain()
        self.no_task_runs_at_two_managers()
        self.deaths_that_count_are_few()
        self.one_outcome_is_stored()
        self.what_is_accepted_is_stored()
        self.counts_are_right()
        self.nobody_has_more_than_it_wants()

    def no_task_runs_more_often_than_faults_explain(self) -> None:
        tally = self.cluster.tally
        for task, count in tally.executions.items():
            allowed = 1 if self.retries(task) == 0 else 1 + tally.excuses[task]
            assert count <= allowed, f"{name(task)} was begun {count} times instead of {allowed}"

    def no_task_runs_at_two_managers(self) -> None:
        running: Counter[Task] = Counter()
        for node in self.cluster.live_nodes():
            if not self.cluster.tally.is_doubtful(node):
                running.update(node.running())
        assert all(count == 1 for count in running.values()), running.most_common(1)

    def deaths_that_count_are_few(self) -> None:
        for task, count in self.cluster.tally.deaths.items():
            assert count <= self.retries(task) + 1, f"{name(task)} killed {count} workers"

    def one_outcome_is_stored(self) -> None:
        for stream in self.streams:
            for index, outcomes in self.cluster.store.stored_outcomes(stream.info.stream).items():
                assert len(outcomes) == 1, f"task {index} of a stream has {outcomes}"

    def what_is_accepted_is_stored(self) -> None:
        store = self.cluster.store
        for stream in self.streams:
            accepted = self.accepted(stream)
            if stream.client.alive and (stream.info.keep or stream.info.stream in store.streams()):
                name = stream.info.stream
                told = {index for task, index in stream.client.outcomes if task == name}
                # What is not kept goes when its client has it.
                kept = accepted if stream.info.keep else accepted - len(told)
                assert store.stored_tasks(name) >= kept

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
                assert endpoint.out_bytes >= 0
        for host in self.cluster.hosts():
            for manager in host.core._state.managers.values():
                assert manager.slots >= 0
                assert manager.slots <= manager.workers or self.has_needs
                self.a_ledger_is_right(manager)
                assert manager.credit_tasks >= 0
                assert manager.credit_bytes >= 0
                assert manager.running.keys() <= {(s, i) for s, i, _ in manager.tasks()}
                assert manager.held_tasks == len(list(manager.tasks()))
                assert manager.held_bytes == sum(
                    len(run.payloads[index - run.first]) for _, index, run in manager.tasks()
                )

            sized = Counter(
                run.needs
                for manager in host.core._state.managers.values()
                for _, _, run in manager.tasks()
                if run.needs
            )
            assert host.core._state.sized.held == sized

        for node in self.cluster.live_nodes():
            for slot in node.core._staff.slots.values():
                assert slot.tasks == sum(len(given.part) for given in slot.given)

    def a_ledger_is_right(self, manager: Manager) -> None:
        """What the interchange counts of a node is what it has sent there."""
        ledger = manager.ledger
        assert ledger is not None
        sized = {(stream, index) for stream, index, run in manager.tasks() if run.needs}
        assert ledger.waiting.keys() | ledger._leases.keys() == sized
        leased = sum(part for _, lease in ledger._leases.values() for _, part in lease.cores)
        assert ledger.cores == ledger.size.cores - leased >= 0

    def nobody_has_more_than_it_wants(self) -> None:
        """Credit is checked by the simulation for each message; this is what workers are given."""
        for node in self.cluster.live_nodes():
            slots = node.core._staff.slots  # who was killed and does not die is given up at last
            workers = [
                worker
                for worker in node.workers.values()
                if worker.task is not None and worker.number in slots
            ]
            cores = sum(self.cores(worker.task) for worker in workers if worker.task is not None)
            assert cores <= node.slots * UNIT, f"{len(workers)} workers of {node.name} run too much"
            assert len(node.workers) <= node.slots or self.has_needs
        for link in self.cluster.links():
            assert len(link.up.frames) + len(link.down.frames) < 1000, "a link is flooded"

    # --- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.cluster.clients:
                self.finish()
        finally:
            self.close()

    def finish(self) -> None:
        """Heal everything: then all tasks end, all calls are answered, nothing is left over."""
        cluster = self.cluster
        cluster.store.full = cluster.named.full = False
        cluster.settle()
        heir = cluster.new_client()
        cluster.settle()
        heir.call(lambda number: service.PutBody(number, DIGEST, BODY))
        for client in [None, *self.living_clients()]:
            cluster.new_node(client)
        kept = [stream for stream in self.streams if stream.info.keep and stream.count]
        asked = False
        most = 300 + sum(stream.count for stream in self.streams)  # one in each round, at least
        for number in range(most):
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
        accepted = self.accepted(stream)
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
                assert self.cluster.tally.executions[task], (
                    f"{name(task)} has a value, and never ran"
                )
            elif outcome.kind == OutcomeKind.CANCELLED:
                assert task in self.cancelled, f"{name(task)} was cancelled by nobody"
            else:
                assert outcome.kind == OutcomeKind.LOST, f"{name(task)} ended as {outcome}"
                self.check_loss(task, info, unpack_loss(outcome.data))

    def check_loss(self, task: Task, info: msg.StreamInfo, loss: Loss) -> None:
        """Only an unexplained death while it ran counts, or the loss of a manager once more."""
        if info.function == UNKNOWN_DIGEST or info.retries == 0:
            return
        cause = LossCause(loss.cause)
        told = f"{name(task)}, with {info.retries} retries, was lost: {loss.text}"
        if cause == LossCause.WALLTIME:
            assert info.endpoint == NAMED_ENDPOINT, told
            return
        if cause == LossCause.TASK_WALLTIME:
            assert info.walltime_s > 0, told
            return
        assert cause in (LossCause.WORKER_KILLED, LossCause.MANAGER_LOST), told
        # Which manager it was at is not always known here; the first loss of one is free.
        tally = self.cluster.tally
        charges = tally.killed[task] + max(0, tally.given_up - 1)
        assert charges > info.retries, told

    # --- help -----------------------------------------------------------------------------------

    def work(self) -> None:
        """Each worker ends what it runs, and begins what is next."""
        for node in self.cluster.live_nodes():
            for number in list(node.workers):
                node.finish(number)
                node.begin(number)

    def accepted(self, stream: Submitted) -> int:
        """How many tasks anybody was told to be stored: what has a key several may submit."""
        return max(c.accepted.get(stream.info.stream, 0) for c in self.cluster.clients)

    def living_clients(self) -> list[Client]:
        return [client for client in self.cluster.clients if client.alive]

    @property
    def has_needs(self) -> bool:
        """Whether any tasks have workers of their own."""
        return any(stream.info.needs for stream in self.streams)

    def cores(self, task: Task) -> int:
        """Thousandths of a core that a task needs: a worker's, if it does not say."""
        found = next(s for s in self.streams if s.info.stream == task[0])
        return needs_of(found.info.needs).cores or UNIT

    def retries(self, task: Task) -> int:
        found: Any = next(s for s in self.streams if s.info.stream == task[0])
        return int(found.info.retries)


def is_done(host: InterchangeHost) -> bool:
    """Whether an interchange holds nothing that has not ended."""
    state = host.core._state
    return not (
        state.queue
        or state.apart
        or state.sized
        or state.several
        or state.outbox
        or state.waiting
        or any(manager.held_tasks for manager in state.managers.values())
    )


def name(task: Task) -> str:
    return f"task {task[1]} of stream {int.from_bytes(task[0], 'big')}"
