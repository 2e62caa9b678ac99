"""Ten thousand tasks through the real cores, counted: messages, bytes, rows, commits, bytecodes.

Everything runs in one thread without a clock, so that the counts are the same each time.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import msgspec

import fxhpc
from fxhpc import ids
from fxhpc.client.sending.streams import cut, pack_messages
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.store.store import Store
from fxhpc.interchange import events as iev
from fxhpc.manager import events as mev
from fxhpc.protocol import messages, pool, service
from fxhpc.serialize import pack_arguments
from fxhpc.testing.cluster import NAMED_ENDPOINT, Cluster
from fxhpc.testing.hosts import InterchangeHost
from fxhpc.testing.link import LossyLink
from fxhpc.testing.nodes import Node
from fxhpc.testing.store import ModelStore
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

#: Seconds that a task runs, as the workers tell it: so little that much is held ahead.
RAN_S = 1e-6

_TURNS = 1000  # none of these scenarios takes a tenth of it

_PACKAGE = Path(fxhpc.__file__).parent
_SIMULATION = str(_PACKAGE / "testing")
_encode = msgspec.msgpack.Encoder().encode

#: The link that a greeting opens.
_LINKS = {
    service.Attach: "client-forwarder",
    messages.Hello: "forwarder-interchange",
    messages.Register: "interchange-manager",
}


class Counts:
    """What was counted since `clear`.

    Attributes:
        messages: by link; that between manager and worker is "manager-worker".
        bytes: of them, as they are on the wire.
        bytecodes: instructions of Python, by package of fxhpc.
        stored: what the store was asked to write, request by request.
    """

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.bytecodes: Counter[str] = Counter()
        self.stored: list[list[Any]] = []

    def clear(self) -> None:
        """Begin anew."""
        for counter in (self.messages, self.bytes, self.bytecodes):
            counter.clear()
        self.stored.clear()

    def note(self, link: str, size: int) -> None:
        """A message was sent."""
        self.messages[link] += 1
        self.bytes[link] += size

    def in_sqlite(self, before: list[list[Any]]) -> dict[str, int]:
        """What a real store writes for these requests.

        Args:
            before: requests that had come earlier.

        Returns:
            Transactions, rows that were inserted, changed or deleted, and bytes of all pages.
        """
        with closing(Store(":memory:")) as store:
            for operations in before:
                store.apply(operations)
            connection = store._connection
            rows = connection.total_changes
            for operations in self.stored:
                store.apply(operations)
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
            return {
                "commits": len(self.stored),
                "rows": connection.total_changes - rows,
                "bytes": pages * size,
            }


@contextmanager
def counted(counts: Counts) -> Any:
    """Count what is said and stored in every `Cluster`, while the block lasts."""

    def said(where: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(link: Any, message: Any) -> Any:
            wire = getattr(link, where).frames
            before = len(wire)
            answer = plain(link, message)
            for frames in list(wire)[before:]:
                counts.note(_LINKS[link._greeting], sum(map(len, frames)))
            return answer

        return wrapped

    tell, ask = InterchangeHost.tell, ModelStore.ask
    carry_out, node_tell = Node._carry_out, Node.tell

    def interchange_told(host: Any, event: Any) -> None:
        if isinstance(event, iev.ForwarderSaid) and host.endpoint == ids.LOCAL_ENDPOINT:
            counts.messages["forwarder-local interchange"] += 1  # in one process: nothing encoded
        tell(host, event)

    def asked(store: Any, request: Any) -> None:
        if isinstance(request, ev.Store):
            counts.stored.append(request.operations)
        ask(store, request)

    def carried_out(node: Any, action: Any) -> None:
        if isinstance(action, mev.ToWorker):
            counts.note("manager-worker", len(_encode(action.message)))
        carry_out(node, action)

    def node_told(node: Any, event: Any) -> None:
        if isinstance(event, mev.WorkerSaid):
            counts.note("manager-worker", len(_encode(event.batch)))
        node_tell(node, event)

    with (
        mock.patch.object(LossyLink, "say", said("up", LossyLink.say)),
        mock.patch.object(LossyLink, "answer", said("down", LossyLink.answer)),
        mock.patch.object(InterchangeHost, "tell", interchange_told),
        mock.patch.object(ModelStore, "ask", asked),
        mock.patch.object(Node, "_carry_out", carried_out),
        mock.patch.object(Node, "tell", node_told),
    ):
        yield


@contextmanager
def bytecodes_counted(counts: Counts) -> Any:
    """Count the instructions of fxhpc's own code that this thread carries out."""
    packages: dict[str, str] = {}

    def package_of(path: str) -> str:
        if not path.startswith(f"{_PACKAGE}/") or path.startswith(_SIMULATION):
            return ""
        return Path(path).relative_to(_PACKAGE).parts[0].removesuffix(".py")

    found = counts.bytecodes

    def called(frame: FrameType, what: str, argument: Any) -> Any:
        path = frame.f_code.co_filename
        package = packages.get(path)
        if package is None:
            package = packages[path] = package_of(path)
        if not package:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False

        def instruction(frame: FrameType, what: str, argument: Any) -> Any:
            if what == "opcode":
                found[package] += 1
            return instruction

        return instruction

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield
    finally:
        sys.settrace(before)


class Run:
    """A home, a client, a manager with two workers, and one function.

    Args:
        endpoint: `LOCAL_ENDPOINT` or `NAMED_ENDPOINT`.
        keep: results stay until they are asked for, as those of a batch; else they are pushed as
            those of an Executor.
    """

    def __init__(self, counts: Counts, endpoint: str, *, keep: bool) -> None:
        self.cluster = Cluster()
        self._counts = counts
        self._keep = keep
        self._endpoint = endpoint
        self.client = self.cluster.new_client()
        self.cluster.settle()
        self.client.call(lambda call: service.PutBody(call, b"f" * 32, b"the function"))
        self.cluster.settle()
        self._node = self.cluster.new_node(None if endpoint == NAMED_ENDPOINT else self.client)
        self._streams = 0
        self.submit_and_collect(500)  # now its duration is known
        self.before = list(counts.stored)
        counts.clear()

    def submit_and_collect(self, count: int) -> None:
        """Submit so many tasks, and read all their results."""
        self._streams += 1
        stream = b"%09d--" % self._streams + b"\0"
        info = messages.StreamInfo(
            stream=stream,
            endpoint=self._endpoint,
            function=b"f" * 32,
            keep=self._keep,
            submitter=self.client.name,
        )
        payloads = [pack_arguments((n,), {}, DEFAULT_PAYLOAD_LIMIT) for n in range(count)]
        for message in pack_messages(cut(info, 0, payloads)):
            self.client.submit(message)
        call, outcomes = 0, self.client.outcomes
        for _ in range(_TURNS):
            missing = [n for n in range(count) if (stream, n) not in outcomes]
            if self._keep and missing and call not in self.client.calls:
                call = self.client.fetch({stream: missing}, 5.0)  # an answer has room for so many
            self.cluster.settle()
            worked = [self._work(number) for number in list(self._node.workers)]
            if not missing and not any(worked):
                return
            if not any(worked):
                self.cluster.tick(0.1)
        raise AssertionError(f"{len(missing)} tasks have no outcome: {missing[:5]}")

    def _work(self, number: int) -> bool:
        """Let a worker end all that it has, as one does that has nothing else to do."""
        worker = self._node.workers[number]
        worked = False
        while True:
            for batch in worker.begin():
                self._node.tell(mev.WorkerSaid(number, batch))
            if worker.task is None:
                return worked
            worked = True
            for batch in worker.finish(flush=False):
                self._node.tell(mev.WorkerSaid(number, _short(batch)))


def _short(batch: pool.Batch) -> pool.Batch:
    """The same outcomes, of tasks that took next to no time."""
    outcomes = [msgspec.structs.replace(outcome, ran=RAN_S) for outcome in batch.outcomes]
    return msgspec.structs.replace(batch, spent_s=RAN_S * len(outcomes), outcomes=outcomes)
