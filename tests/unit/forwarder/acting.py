"""Scripted clients and interchanges around a forwarder's core, with the model store."""

from __future__ import annotations

from typing import TypeVar

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.core import LOCAL_ENDPOINT, Forwarder, endpoint_key
from fxhpc.ids import from_ranges, to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.protocol.versions import PROTOCOL
from fxhpc.testing.clock import FakeClock
from fxhpc.testing.store import ModelStore

ENDPOINT = "5a4e0000-0000-4000-8000-000000000001"
KEY = endpoint_key(ENDPOINT)
STREAM = b"stream------"
OTHER = b"another-----"
DIGEST = b"f" * 32

A = TypeVar("A")


def info(
    stream: bytes = STREAM,
    *,
    endpoint: str = ENDPOINT,
    keep: bool = True,
    retries: int = 2,
    submitter: bytes = b"",
) -> msg.StreamInfo:
    return msg.StreamInfo(stream, endpoint, DIGEST, submitter=submitter, keep=keep, retries=retries)


class Stage:
    """A forwarder with one named endpoint, and what it has said since one last asked.

    The store answers at once unless `slow` is set: then `work` lets it.
    """

    def __init__(
        self, store: ModelStore | None = None, *, durable: bool = True, company_s: float = 0.0
    ) -> None:
        self.clock = FakeClock()
        self.store = store or ModelStore()
        self.slow = False
        self.actions: list[ev.Action] = []
        recovered = self.store.recover()
        self.core = Forwarder(recovered.epoch, durable=durable, company_s=company_s)
        self.core.recover(recovered)
        self.tell(ev.EndpointKnown(ENDPOINT))

    def tell(self, *events: ev.Event) -> None:
        for event in events:
            self._carry_out(self.core.handle(event, self.clock()))
        self._carry_out(self.core.handle(ev.EndOfTurn(), self.clock()))
        if not self.slow:
            self.work()

    def work(self, limit: int = 1000) -> None:
        """Let the store carry out so many requests."""
        while limit and (event := self.store.work()):
            limit -= 1
            self._carry_out(self.core.handle(event, self.clock()))
            self._carry_out(self.core.handle(ev.EndOfTurn(), self.clock()))

    def _carry_out(self, actions: list[ev.Action]) -> None:
        self.actions += actions
        for action in actions:
            if isinstance(action, ev.Store | ev.Load):
                self.store.ask(action)

    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.tell(ev.Tick())

    # --- clients --------------------------------------------------------------------------------

    def attach(
        self,
        peer: bytes,
        *,
        name: bytes = b"",
        local: bytes = b"",
        streams: list[bytes] | None = None,
        protocol: int = PROTOCOL,
        oldest_protocol: int | None = None,
    ) -> None:
        self.client(
            peer,
            service.Attach(
                name or peer,
                local or b"local:" + (name or peer),
                1,
                "host",
                0.0,
                "9.9",
                protocol=protocol,
                oldest_protocol=protocol if oldest_protocol is None else oldest_protocol,
                streams=streams or [],
            ),
        )

    def client(self, peer: bytes, message: service.FromClient) -> None:
        self.tell(ev.ClientSaid(peer, message))

    def submit(
        self,
        peer: bytes,
        count: int,
        stream: msg.StreamInfo | None = None,
        *,
        first: int = 0,
        call: int = 1,
        size: int = 1,
    ) -> None:
        payloads = [b"x" * size] * count
        self.client(
            peer, service.Submit(call, [service.Submission(stream or info(), first, payloads)])
        )

    def fetch(
        self, peer: bytes, indices: list[int], *, call: int = 7, wait_s: float = 0.0, need: int = 0
    ) -> None:
        wanted = [service.StreamRanges(STREAM, to_ranges(indices))]
        self.client(peer, service.Fetch(call, wanted, wait_s, need))

    def cancel(self, peer: bytes, *indices: int, call: int = 8, interrupt: bool = False) -> None:
        tasks = [service.StreamRanges(STREAM, to_ranges(indices))]
        self.client(peer, service.CancelTasks(call, tasks, interrupt))

    # --- the interchange ------------------------------------------------------------------------

    def interchange(self, message: msg.FromInterchange, key: bytes = KEY) -> None:
        self.tell(ev.InterchangeSaid(key, message))

    def up(
        self,
        tasks: int = 1000,
        size: int = 1 << 30,
        *,
        key: bytes = KEY,
        held: list[int] | None = None,
        epoch: int = 1,
        doubtful: bool = False,
        incomplete: bool = False,
    ) -> None:
        """The interchange can be spoken to, and says what it holds and wants."""
        self.tell(ev.InterchangeUp(key))
        refs = [msg.TaskRefs(STREAM, to_ranges(held))] if held else []
        present = msg.Present(
            ENDPOINT, epoch, "1", held=refs, doubtful=doubtful, incomplete=incomplete
        )
        self.interchange(present, key)
        self.interchange(msg.Window(tasks, size), key)

    def finish(
        self,
        indices: list[int],
        *,
        number: int = 1,
        stream: bytes = STREAM,
        key: bytes = KEY,
        data: bytes = b"value",
        kind: OutcomeKind = OutcomeKind.VALUE,
    ) -> None:
        outcomes = [Outcome(index, kind, data) for index in indices]
        self.interchange(msg.Results(number, [msg.ResultRun(stream, 1, 1, outcomes)]), key)

    # --- what it has said -----------------------------------------------------------------------

    def clear(self) -> None:
        self.actions.clear()

    def said(self, peer: bytes, kind: type[A]) -> list[A]:
        """What a client was told, of one type."""
        return [
            action.message
            for action in self.actions
            if isinstance(action, ev.ToClient)
            and action.peer == peer
            and isinstance(action.message, kind)
        ]

    def down(self, kind: type[A], key: bytes = KEY) -> list[A]:
        """What an interchange was told, of one type."""
        return [
            action.message
            for action in self.actions
            if isinstance(action, ev.ToInterchange)
            and action.key == key
            and isinstance(action.message, kind)
        ]

    def runs(self, key: bytes = KEY) -> list[msg.TaskRun]:
        """The runs of tasks that an interchange was sent."""
        return [run for tasks in self.down(msg.Tasks, key) for run in tasks.runs]

    def sent(self, key: bytes = KEY, stream: bytes = STREAM) -> list[int]:
        """Tasks of a stream that an interchange was sent, in order."""
        return [
            run.first + position
            for run in self.runs(key)
            if run.stream == stream
            for position in range(len(run.payloads))
        ]

    def statuses(self, peer: bytes) -> dict[int, str]:
        """The last answer to a Fetch: the status of each task."""
        answer = self.said(peer, service.States)[-1]
        return {state.index: state.status for part in answer.streams for state in part.states}

    def cancelled(self, peer: bytes) -> list[int]:
        """The last answer to a CancelTasks."""
        answer = self.said(peer, service.Cancelled)[-1]
        return [index for part in answer.tasks for index in from_ranges(part.ranges)]

    def pushed(self, peer: bytes) -> list[int]:
        """Tasks whose outcomes were pushed to a client, in order."""
        return [
            outcome.index
            for push in self.said(peer, service.Push)
            for run in push.runs
            for outcome in run.outcomes
        ]


__all__ = ["DIGEST", "ENDPOINT", "KEY", "LOCAL_ENDPOINT", "OTHER", "STREAM", "Stage", "info"]
