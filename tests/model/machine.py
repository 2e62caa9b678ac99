"""The rules and the invariants of the state machine test."""

from __future__ import annotations

import contextlib
from typing import Any
from unittest import mock

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from fxhpc.forwarder.core import LOCAL_ENDPOINT
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.testing.clients import Client
from fxhpc.testing.cluster import NAMED_ENDPOINT, NAMED_KEY, Cluster
from fxhpc.testing.link import LossyLink
from tests.model.bodies import BODY, DIGEST, UNKNOWN_DIGEST
from tests.model.node_rules import NodeRules
from tests.model.promises import Submitted
from tests.model.rules import NOTHING, SETTLE, needs, sizes, small, thens

#: Small numbers in the place of those that would need thousands of tasks to be reached.
SMALL = {
    "fxhpc.interchange.reporting.BASE_WINDOW_TASKS": 5,
    "fxhpc.interchange.reporting.BASE_WINDOW_BYTES": 600,
    "fxhpc.manager.credit.HELD_BYTES": 300,
    "fxhpc.manager.core.MESSAGE_TASKS": 3,
    "fxhpc.manager.credit.UNSTORED_BYTES": 3000,
    "fxhpc.manager.pace.HOLD_TASKS": 4,
    "fxhpc.forwarder.submitting.PAYLOAD_BYTES": 1500,
    "fxhpc.forwarder.state.BODY_BYTES": 1,
    "fxhpc.forwarder.gathering.ROW_TASKS": 4,
    "fxhpc.forwarder.delivery.PUSHES_OUT": 2,
    "fxhpc.forwarder.delivery.CACHE_BYTES": 400,
    "fxhpc.protocol.turns.QUANTUM": 2,
}


def payload_of(stream: bytes, index: int, size: int) -> bytes:
    """Arguments that tell whose they are."""
    return stream + index.to_bytes(4, "big") + b"x" * size


class FxhpcMachine(NodeRules):
    """Every fault that the promises speak of, in every order."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = contextlib.ExitStack()
        for name, value in SMALL.items():
            self.patches.enter_context(mock.patch(name, value))
        self.cluster = Cluster()
        self.streams = []
        self.cancelled = set()
        self.fetches = []
        self.have_put: list[Client] = []  # the function: a client does so once

    def close(self) -> None:
        self.patches.close()

    @initialize(named=st.integers(0, 2), local=st.integers(0, 2), busy=st.booleans())
    def begin(self, named: int, local: int, busy: bool) -> None:
        client = self.cluster.new_client()
        self.cluster.settle()
        self.put_body(client)
        for owner, count in ((None, named), (client, local)):
            for _ in range(count):
                self.cluster.new_node(owner)
        if busy:
            for at_named in (False, True):
                self.submit_new(0, at_named, True, 2, 12, 0, True, 0.0, NOTHING)
            self.get_going()
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
        needs=needs,
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
        needs: bytes = b"",
    ) -> None:
        client = self.client(who)
        number = len(self.streams)
        is_keyed = keep and number % 3 == 0
        info = msg.StreamInfo(
            number.to_bytes(12, "big"),
            NAMED_ENDPOINT if named else LOCAL_ENDPOINT,
            DIGEST if known else UNKNOWN_DIGEST,
            submitter=client.name,
            keep=keep,
            retries=retries,
            walltime_s=walltime_s if named else 0.0,
            key=f"key {number}" if is_keyed else "",
            content=b"content" if is_keyed else b"",
            needs=self.needs_of(number, named) or needs,
        )
        self.streams.append(Submitted(info, client))
        self.submit([self.streams[-1]], count, size)
        self.then(then)

    def needs_of(self, number: int, named: bool) -> bytes:
        """What the tasks of a stream need in any case, packed."""
        return b""

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
            stream.rows.append((first, payloads))
        if submissions:
            self.put_body(streams[0].client)
            streams[0].client.submit(submissions)

    @precondition(lambda self: any(stream.info.key for stream in self.streams))
    @rule(which=st.integers(0, 20), who=small, rows=st.integers(1, 9), then=thens)
    def submit_again_under_its_key(self, which: int, who: int, rows: int, then: str) -> None:
        """Another process submits the same, or its beginning, wherever the first has come to."""
        keyed = [stream for stream in self.streams if stream.info.key and stream.rows]
        if keyed:
            stream, client = keyed[which % len(keyed)], self.client(who)
            info = msgspec.structs.replace(stream.info, submitter=client.name, created=1.0)
            self.put_body(client)
            client.submit(
                [service.Submission(info, first, list(row)) for first, row in stream.rows[:rows]]
            )
        self.then(then)

    def put_body(self, client: Client) -> None:
        if client not in self.have_put:
            self.have_put.append(client)
            client.call(lambda number: service.PutBody(number, DIGEST, BODY))

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

    @rule(who=small, each=st.booleans(), then=thens)
    def asks(self, who: int, each: bool, then: str) -> None:
        """How is everything, and what is there? Any answer will do, but there must be one."""
        client = self.client(who)
        client.call(lambda number: service.ListTasks(number, each=each))
        client.call(lambda number: service.GetStatus(number, NAMED_ENDPOINT))
        client.call(lambda number: service.GetStatus(number, LOCAL_ENDPOINT))
        client.call(lambda number: service.GetFunctions(number, ["f"]))
        record = service.FunctionRecord("f", DIGEST, "f")
        client.call(lambda number: service.RegisterFunction(number, record, BODY))
        kept = [stream for stream in self.streams if stream.info.keep][:3]
        tasks = [service.StreamRanges(stream.info.stream, [0, 9]) for stream in kept]
        client.call(lambda number: service.Fetch(number, tasks, outcomes=False, details=True))
        self.then(then)

    @rule()
    def client_starts(self) -> None:
        if len(self.living_clients()) < 3:
            self.cluster.new_client()

    @rule(who=small, then=thens)
    def client_dies(self, who: int, then: str) -> None:
        if len(self.living_clients()) > 1:
            self.cluster.kill_client(self.client(who))
        self.then(then)

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 20), durable=st.booleans())
    def client_dies_while_results_come(self, which: int, durable: bool) -> None:
        """They have ended, and are being stored, or about to be told to their client."""
        client = self.stream(which).client
        if not client.alive or len(self.living_clients()) < 2:
            return
        self.work()
        self.cluster.turn()
        for link in self.cluster.links():
            while link.up.frames and self.cluster.deliver_up(link):
                pass
        named = self.cluster.named_link
        while named.down.frames and self.cluster.deliver_down(named):
            pass
        while durable and self.cluster.work_store():
            pass
        self.cluster.kill_client(client)

    @rule(who=small, named=st.booleans(), restarts=st.booleans(), then=thens)
    def executor_is_half_done(self, who: int, named: bool, restarts: bool, then: str) -> None:
        """Of a stream that is not kept the first row is delivered, and dropped; the next waits."""
        self.submit_new(who, named, False, 2, 2, 0, True, 0.0, SETTLE)
        for _ in range(3):
            self.work()
            self.cluster.settle()
        self.submit([self.streams[-1]], 2, 0)
        self.cluster.settle()
        self.cluster.tick(1.0)
        self.cluster.settle()
        if restarts:
            self.cluster.restart_forwarder()
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
            if client in self.have_put:
                self.have_put.remove(client)

    # --- links, time, disks ---------------------------------------------------------------------

    @rule(which=st.integers(0, 12), count=st.integers(1, 3), then=thens)
    def deliver(self, which: int, count: int, then: str) -> None:
        if ways := self.ways():
            link, up = ways[which % len(ways)]
            for _ in range(count):
                if up:
                    self.cluster.deliver_up(link)
                else:
                    self.cluster.deliver_down(link)
        self.then(then)

    @rule(
        which=st.integers(0, 12),
        at=st.integers(0, 3),
        fault=st.sampled_from(["drop", "repeat", "swap", "garble"]),
        stirs=st.booleans(),
        then=thens,
    )
    def fault(self, which: int, at: int, fault: str, stirs: bool, then: str) -> None:
        if stirs:  # so that something is on the way
            self.work()
            self.cluster.tick(0.1)
        if ways := self.ways():
            link, up = ways[which % len(ways)]
            wire = link.up if up else link.down
            getattr(wire, fault)(at % len(wire))
        self.then(then)

    def ways(self) -> list[tuple[LossyLink[Any, Any], bool]]:
        """Links with something on the way, and whether that goes up."""
        links = self.cluster.links()
        ways = [(link, True) for link in links if link.up]
        return ways + [(link, False) for link in links if link.down]

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

    @rule(full=st.booleans(), of_endpoint=st.booleans())
    def disk_fills(self, full: bool, of_endpoint: bool) -> None:
        if of_endpoint:
            self.cluster.named.full = full  # its spool and its journal
        else:
            self.cluster.store.full = full

    @precondition(lambda self: self.streams)
    @rule(
        which=st.integers(0, 20),
        first=small,
        interrupt=st.booleans(),
        at=st.integers(0, 4),
        then=thens,
    )
    def endpoint_is_cut_off(
        self, which: int, first: int, interrupt: bool, at: int, then: str
    ) -> None:
        """Nothing gets through between the forwarder and the named endpoint, for longer than
        heartbeats may be missed; a cancellation comes before that, or meanwhile.
        """
        self.get_going()
        self.cluster.tick(0.1)  # what runs is told
        self.cluster.settle()
        for number in range(5):
            if number == at:
                self.cancel(which, first, 2, interrupt, NOTHING)
                for _, link in list(self.cluster.home.clients.values()):
                    while link.up.frames and self.cluster.deliver_up(link):
                        pass
            self.cluster.named_link.cut()
            self.cluster.tick(5.0)
        self.then(then)

    # --- restarts -------------------------------------------------------------------------------

    @rule(committed=st.integers(0, 3), then=thens)
    def forwarder_restarts(self, committed: int, then: str) -> None:
        self.cluster.restart_forwarder(committed)
        self.then(then)

    @rule(seconds=st.sampled_from([4.0, 20.0]), stands_still=st.booleans(), then=thens)
    def interchange_is_suspended(self, seconds: float, stands_still: bool, then: str) -> None:
        self.cluster.suspend(self.cluster.named, seconds, stands_still)
        self.then(then)

    @precondition(lambda self: self.cluster.store.epoch > 1 and self.streams)
    @rule(which=st.integers(0, 20), count=st.integers(1, 9))
    def old_owner_speaks(self, which: int, count: int) -> None:
        """Who owned the store before still lives, and thinks that it is the forwarder."""
        if self.cluster.forwarders.link.epoch < self.cluster.store.epoch:
            return  # this interchange has not met the new owner yet
        info = self.stream(which).info
        told = self.cluster.hear_old_owner(
            [
                msg.ResultsStored(list(range(50))),
                msg.Cancel([msg.TaskRefs(info.stream, [0, 50])], interrupt=True, forget=True),
                msg.Tasks([msg.TaskRun(info.stream, 0, DIGEST, [b"old"] * count)]),
                msg.Bye("I own the store"),
            ]
        )
        assert not told, f"an interchange has listened to an earlier epoch: {told}"

    @rule(then=thens)
    def interchange_restarts(self, then: str) -> None:
        self.cluster.restart_named()
        self.then(then)

    @rule(
        seconds=st.sampled_from([4.0, 20.0, 40.0]),
        restarts=st.booleans(),
        away=st.sampled_from(["", "stands still", "dies"]),
        retries=st.sampled_from([0, 2]),
        then=thens,
    )
    def journal_lacks_a_manager(
        self, seconds: float, restarts: bool, away: str, retries: int, then: str
    ) -> None:
        """The endpoint's disk is full when one registers; the next interchange knows nothing of it,
        and it stands still. Or the forwarder is away for so long, and it stands still, or dies.
        """
        named = self.cluster.named
        full, named.full = named.full, True
        known = self.cluster.live_nodes(NAMED_KEY)
        node = self.cluster.new_node(None) if len(known) < 3 else known[-1]
        self.submit_new(0, True, True, retries, 4, 0, True, 0.0, NOTHING)
        self.get_going()
        self.cluster.restart_named()
        if away:
            named.full, node.suspended = full, True
            if away == "dies":
                self.cluster.kill_node(node)
            for _ in range(int(seconds / 4.0)):
                self.cluster.named_link.cut()
                self.cluster.tick(4.0)
            node.suspended = False
        else:
            self.cluster.suspend(node, seconds, False)
        named.full = full
        if restarts:
            self.cluster.restart_named()
        self.then(then)
