"""A forwarder that runs tasks itself: what the client is tested against, in a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from fxhpc import serialize
from fxhpc.client.sending.chunk_sizes import ChunkSizes
from fxhpc.ids import from_ranges, to_ranges
from fxhpc.protocol import service, states
from fxhpc.protocol.codec import FROM_CLIENT, TO_CLIENT
from fxhpc.protocol.link import Link, Verdict
from fxhpc.protocol.messages import Bye, GivenUp, Heartbeat, Reset, ResultRun, Started, TaskRefs
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.protocol.pool import WORD_BYTES
from fxhpc.serialize import (
    load_arguments,
    pack_exception,
    pack_function,
    pack_result,
)
from fxhpc.serialize.bodies import Bodies
from fxhpc.transport.ipc import ipc_address, make_ipc_directory
from fxhpc.transport.unix_sockets import router
from fxhpc.worker.calls import CallMaker
from tests.waiting import readable

KIND_STATUS = {
    OutcomeKind.VALUE: states.SUCCESS,
    OutcomeKind.ERROR: states.FAILED,
    OutcomeKind.LOST: states.FAILED,
    OutcomeKind.CANCELLED: states.CANCELLED,
}


class Task:
    def __init__(self, info: Any, index: int, payload: bytes) -> None:
        self.info = info
        self.index = index
        self.payload = payload
        self.outcome: Outcome | None = None
        self.running = False
        self.given_up: list[GivenUp] = []  # calls that it is not to make, if it is a chunk


class ChunkRunner:
    """As a worker's `Runner`, but that modules of this process are let alone."""

    serializer = serialize

    def __init__(self) -> None:
        self.loader = self
        self.bodies = Bodies()

    def pack_error(self, error: BaseException, limit: int) -> bytes:
        return pack_exception(error, limit)


class FakeService:
    """What the service does, without threads: `handle` and the tests' own wishes."""

    def __init__(self) -> None:
        self.functions: dict[bytes, Callable[..., Any]] = {}  # by digest, see `teach`
        self.records: dict[str, service.FunctionRecord] = {}
        self.containers: dict[str, service.ContainerRecord] = {}
        self.bodies: dict[bytes, bytes] = {}
        self.tasks: dict[bytes, dict[int, Task]] = {}
        self.seen: list[Any] = []
        self.hold = False  # tasks stay pending until `run_held`
        self.refuse: dict[type, service.Failed] = {}
        self.endpoints: set[str] = {"4b116d3c-1703-4f8f-9f6f-39921e5864df"}
        self.waiting: list[tuple[Any, service.Fetch, float]] = []
        self.owners: dict[bytes, Any] = {}
        self.pushes = 0
        self.older = 0
        self.epoch = 1

    def teach(self, function: Callable[..., Any]) -> None:
        """Let the fake know what a packed function does."""
        self.functions[pack_function(function).digest] = function

    def handle(self, peer: Any, message: Any) -> None:
        self.seen.append(message)
        refusal = self.refuse.get(type(message))
        if refusal is not None:
            peer(service.Failed(message.call, refusal.error, refusal.arguments))
        elif isinstance(message, service.Attach):
            peer(service.Attached(self.epoch, "fake", 1, "ipc:///nowhere", self.older))
        elif isinstance(message, service.RegisterFunction):
            self.records[message.record.function_id] = message.record
            self.bodies[message.record.digest] = message.body
            peer(service.Done(message.call))
        elif isinstance(message, service.RegisterContainer):
            self.containers[message.record.container_id] = message.record
            peer(service.Done(message.call))
        elif isinstance(message, service.GetContainers):
            wanted = message.container_ids or list(self.containers)
            known = [self.containers[i] for i in wanted if i in self.containers]
            peer(service.Containers(message.call, known))
        elif isinstance(message, service.PutBody):
            self.bodies[message.digest] = message.body
            peer(service.Done(message.call))
        elif isinstance(message, service.Submit):
            self.submit(peer, message)
        elif isinstance(message, service.Fetch):
            self.waiting.append((peer, message, time.monotonic() + message.wait_s))
            self.answer_waiting()
        elif isinstance(message, service.CancelTasks):
            self.cancel(peer, message)
        elif isinstance(message, service.GetFunctions):
            found = [self.records[i] for i in message.function_ids if i in self.records]
            peer(service.Functions(message.call, found, len(found)))
        elif isinstance(message, service.Search):
            found = [r for r in self.records.values() if message.query in r.name]
            page = found[message.offset : message.offset + message.limit]
            peer(service.Functions(message.call, page, len(found)))
        elif isinstance(message, service.GetStatus):
            peer(service.EndpointStatus(message.call, True, 1, 2, 1, 3, 1))
        elif isinstance(message, service.ListTasks):
            streams, tasks = self.listed(message)
            peer(service.TaskList(message.call, streams, tasks, len(streams)))
        elif isinstance(message, service.GroupTasks):
            self.tell_group(peer, message)
        elif isinstance(message, service.Resume):
            peer(service.Done(message.call))
        elif isinstance(message, Heartbeat):
            peer(Heartbeat())

    def listed(
        self, message: service.ListTasks
    ) -> tuple[list[service.StreamSummary], list[service.ListedTask]]:
        streams, listed = [], []
        for stream, known in self.tasks.items():
            info = next(iter(known.values())).info
            found = [self.state(stream, i, service.Fetch(0, [])) for i in sorted(known)]
            counts = Counter(state.status for state in found)
            streams.append(
                service.StreamSummary(
                    stream,
                    info.endpoint,
                    "local",
                    info.function_id,
                    info.created,
                    counts,
                    calls=info.calls,
                    sizes=info.sizes,
                )
            )
            places = [(info.created, stream, state.index) for state in found]
            listed += [
                service.ListedTask(stream, state.index, state.status)
                for place, state in zip(places, found, strict=True)
                if message.after is None or place < message.after
            ]
        made = {summary.stream: summary.created for summary in streams}
        listed.sort(key=lambda task: (made[task.stream], task.stream, task.index), reverse=True)
        wanted = [task for task in listed if not message.states or task.status in message.states]
        return streams, wanted[: message.limit] if message.each else []

    def tell_group(self, peer: Any, message: service.GroupTasks) -> None:
        found = []
        for summary in self.listed(service.ListTasks(0))[0]:
            known = self.tasks[summary.stream]
            if known[0].info.group == message.group and summary.stream > message.after:
                ended = [index for index, task in known.items() if task.outcome is not None]
                if summary.calls:  # of chunks it counts the calls
                    sizes, summary.counts = ChunkSizes(summary.stream, summary.sizes), Counter()
                    for index in known:
                        status = self.state(summary.stream, index, service.Fetch(0, [])).status
                        summary.counts[status] += sizes[index]
                found.append(service.GroupStream(summary, len(known), to_ranges(ended)))
        if not found and not message.after:
            peer(service.Failed(message.call, "TaskGroupNotFound", [message.group]))
            return
        found.sort(key=lambda part: part.summary.stream)
        peer(service.GroupState(message.call, found[:1], len(found) > 1))

    def submit(self, peer: Any, message: service.Submit) -> None:
        for row in message.submissions:
            if row.info.endpoint not in self.endpoints:
                peer(service.Failed(message.call, "EndpointNotFound", [row.info.endpoint]))
                return
        new = []
        for row in message.submissions:
            known = self.tasks.setdefault(row.info.stream, {})
            self.owners[row.info.stream] = peer
            for index, payload in enumerate(row.payloads, row.first):
                assert index <= len(known), f"a gap before {index}"
                if index not in known:
                    known[index] = Task(row.info, index, payload)
                    new.append(known[index])
        peer(service.Done(message.call))
        if not self.hold:
            self.run(new)

    def run_held(self, count: int | None = None) -> None:
        pending = [t for s in self.tasks.values() for t in s.values() if t.outcome is None]
        self.run(pending[:count])

    def start(self) -> None:
        """Say that everything pending runs."""
        for stream, known in self.tasks.items():
            indices = [task.index for task in known.values() if task.outcome is None]
            for index in indices:
                known[index].running = True
            self.owners[stream](Started([TaskRefs(stream, to_ranges(indices))]))

    def run(self, tasks: list[Task]) -> None:
        runner: Any = ChunkRunner()
        calls = CallMaker(runner, memoryview(bytearray(WORD_BYTES)).cast("Q"))
        for task in tasks:
            function = self.functions[task.info.function]
            if task.info.calls:
                limit, given_up = task.info.result_limit, task.given_up
                ended = calls.run(function, task.payload, limit, given_up, None)
                task.outcome = Outcome(task.index, *ended)
                continue
            try:
                args, kwargs = load_arguments(task.payload)
                data = pack_result(function(*args, **kwargs), task.info.result_limit)
                task.outcome = Outcome(task.index, OutcomeKind.VALUE, data)
            except Exception as error:
                data = pack_exception(error, 1 << 20)
                task.outcome = Outcome(task.index, OutcomeKind.ERROR, data)
        self.push(tasks)
        self.answer_waiting()

    def push(self, tasks: list[Task]) -> None:
        runs: dict[bytes, ResultRun] = {}
        for task in tasks:
            if not task.info.keep:
                run = runs.setdefault(task.info.stream, ResultRun(task.info.stream, 1, 0, []))
                run.outcomes.append(task.outcome)
        for stream, run in runs.items():
            self.pushes += 1
            self.owners[stream](service.Push(self.pushes, [run]))

    def cancel(self, peer: Any, message: service.CancelTasks) -> None:
        cancelled = []
        ended = []
        asked = [
            service.StreamRanges(stream, to_ranges(known))
            for stream, known in self.tasks.items()
            if known[0].info.group in message.groups
        ]
        if message.groups and not asked:
            peer(service.Failed(message.call, "TaskGroupNotFound", message.groups))
            return
        for part in [*message.tasks, *asked]:
            indices = []
            for index in from_ranges(part.ranges):
                task = self.tasks.get(part.stream, {}).get(index)
                if task is None:
                    continue
                if task.outcome is None and (message.interrupt or not task.running):
                    task.outcome = Outcome(index, OutcomeKind.CANCELLED)
                    ended.append(task)
                if task.outcome is not None and task.outcome.kind == OutcomeKind.CANCELLED:
                    indices.append(index)
            cancelled.append(service.StreamRanges(part.stream, to_ranges(indices)))
        peer(service.Cancelled(message.call, cancelled, asked))
        self.push(ended)
        self.answer_waiting()

    def answer_waiting(self) -> None:
        now = time.monotonic()
        for entry in list(self.waiting):
            peer, fetch, deadline = entry
            found = [
                service.StreamStates(
                    part.stream,
                    [self.state(part.stream, index, fetch) for index in from_ranges(part.ranges)],
                )
                for part in fetch.tasks
            ]
            ended = sum(s.status not in states.PENDING for part in found for s in part.states)
            unknown = any(s.status == states.UNKNOWN for part in found for s in part.states)
            if ended >= fetch.need or unknown or now >= deadline:
                self.waiting.remove(entry)
                peer(service.States(fetch.call, found))

    def state(self, stream: bytes, index: int, fetch: service.Fetch) -> service.TaskState:
        task = self.tasks.get(stream, {}).get(index)
        if task is None:
            return service.TaskState(index, states.UNKNOWN)
        if task.outcome is None:
            return service.TaskState(index, states.WAITING_FOR_NODES, "no worker yet")
        status = KIND_STATUS[OutcomeKind(task.outcome.kind)]
        outcome = task.outcome if fetch.outcomes else None
        return service.TaskState(index, status, "", outcome, 1623881816.333504)


class FakeForwarder:
    """The service in a thread, for `EmbeddedConnection`."""

    def __init__(self, path: str = ":memory:") -> None:
        self.service = FakeService()
        self.closed = threading.Event()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def connect(self, on_message: Callable[[Any], None], on_closed: Any) -> FakePeer:
        return FakePeer(self, on_message)

    def close(self) -> None:
        self.closed.set()
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def do(self, function: Callable[[], None]) -> None:
        """Have something done in the forwarder's thread, and wait for it."""
        done = threading.Event()
        self._queue.put((lambda _: (function(), done.set()), None))
        assert done.wait(10)

    def put(self, peer: Callable[[Any], None], message: Any) -> None:
        self._queue.put((lambda said: self.service.handle(peer, said), message))

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=0.02)
            except queue.Empty:
                self.service.answer_waiting()
                continue
            if item is None:
                return
            item[0](item[1])


class FakePeer:
    def __init__(self, forwarder: FakeForwarder, on_message: Callable[[Any], None]) -> None:
        self._forwarder = forwarder
        self._on_message = on_message

    def send(self, message: Any) -> None:
        self._forwarder.put(self._on_message, message)


class FakeHome:
    """The service behind a socket, as a home's forwarder; it can be killed and started again."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.starts = 0
        self.pid = 0
        self.drop: set[type] = set()  # messages to lose on their way here
        self.silent = False
        self.greetings = 0
        self._directories: list[str] = []
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.clients = ""

    def locate(self) -> FakeHome:
        """As `ensure_forwarder`: itself is the address."""
        if self._thread is None:
            self.start()
        return self

    def start(self) -> None:
        self.starts += 1
        directory = make_ipc_directory("fxhpc-test")
        self._directories.append(directory)
        self.clients = ipc_address(directory, "clients")
        socket = router(self.clients)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(socket, self._stop), daemon=True)
        self._thread.start()

    def kill(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
        self._thread = None

    def close(self) -> None:
        import shutil

        self.kill()
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)

    def do(self, function: Callable[[], None]) -> None:
        done = threading.Event()
        self._jobs.put(lambda: (function(), done.set()))
        assert done.wait(10)

    def _run(self, socket: Any, stop: threading.Event) -> None:
        links: dict[bytes, Link] = {}
        try:
            while not stop.is_set():
                readable(socket, 0.01)
                while not self._jobs.empty():
                    self._jobs.get()()
                self.service.answer_waiting()
                while (frames := socket.receive_message()) is not None:
                    self._take(socket, links, frames[0], FROM_CLIENT.decode(frames[1:]))
        finally:
            socket.close(0)

    def _take(self, socket: Any, links: dict[bytes, Link], name: bytes, envelope: Any) -> None:
        message = envelope.message
        if type(message) in self.drop:
            self.drop.discard(type(message))
            return
        if isinstance(message, service.Attach):
            links[name] = Link(envelope.session)
            self.greetings += 1
        link = links.get(name)
        verdict = Verdict.STALE if link is None else link.check(envelope)
        if verdict in (Verdict.STALE, Verdict.BROKEN):
            reset = Link(envelope.session).stamp(Reset())
            socket.send_message([name, *TO_CLIENT.encode(reset)])
            return
        if verdict is Verdict.REPEATED or self.silent or isinstance(message, Bye):
            return
        assert link is not None

        def answer(said: Any, link: Link = link) -> None:
            socket.send_message([name, *TO_CLIENT.encode(link.stamp(said))])

        self.service.handle(answer, message)
