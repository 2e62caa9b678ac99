"""A scripted forwarder and scripted managers around an interchange's core."""

from __future__ import annotations

from typing import Any, TypeVar

from fxhpc.interchange import events as ev
from fxhpc.interchange.core import Interchange
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, unpack_loss
from fxhpc.testing.clock import FakeClock

STREAM = b"stream------"
OTHER = b"another-----"
DIGEST = b"f" * 32
MANY = 1 << 30

A = TypeVar("A")


def attempts(message: msg.Tasks) -> list[tuple[int, int]]:
    """The tasks that a manager is sent: index and attempt of each, in order."""
    return [
        (run.first + position, run.attempt)
        for run in message.runs
        for position in range(len(run.payloads))
    ]


class Stage:
    """An interchange and what it has said since one last asked."""

    def __init__(self, epoch: int = 1, *, greet: bool = True) -> None:
        self.clock = FakeClock()
        self.core = Interchange("an endpoint", epoch)
        self.actions: list[ev.Action] = []
        if greet:
            self.forwarder(msg.Hello(1, "1"))
            self.actions.clear()

    def tell(self, event: ev.Event) -> None:
        self.actions += self.core.handle(event, self.clock())

    def forwarder(self, message: msg.ToInterchange) -> None:
        self.tell(ev.ForwarderSaid(message))

    def manager(self, peer: bytes, message: msg.FromManager) -> None:
        self.tell(ev.ManagerSaid(peer, message))

    def register(
        self,
        peer: bytes,
        *,
        name: str = "",
        tasks: int = 4,
        size: int = MANY,
        slots: int = 2,
        host: str = "node",
        **held: Any,
    ) -> None:
        """A manager greets, and says what it wants."""
        self.manager(peer, msg.Register(name or peer.decode(), b"", slots, "1", host=host, **held))
        self.manager(peer, msg.Capacity(tasks, size, slots))

    def submit(self, count: int, *, stream: bytes = STREAM, size: int = 1, **more: Any) -> None:
        """The forwarder sends tasks."""
        payloads = [b"x" * size] * count
        first = more.pop("first", 0)
        self.forwarder(msg.Tasks([msg.TaskRun(stream, first, DIGEST, payloads, **more)]))

    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.tell(ev.Tick())

    def finish(
        self, peer: bytes, indices: list[int], *, number: int = 1, epoch: int = 1, attempt: int = 1
    ) -> None:
        """A manager tells the values of tasks."""
        outcomes = [Outcome(index, OutcomeKind.VALUE, b"value") for index in indices]
        run = msg.ResultRun(STREAM, epoch, attempt, outcomes)
        self.manager(peer, msg.Results(number, [run]))

    def lose(
        self, peer: bytes, index: int, cause: LossCause, attempt: int, *, call: int = -1
    ) -> None:
        """A manager tells that an attempt was lost; of a chunk, at this call."""
        loss = Loss(cause, f"attempt {attempt} was lost", host="node", call=call)
        self.manager(peer, msg.Lost([msg.LostTask(STREAM, index, 1, attempt, loss)]))

    # --- what it has said -----------------------------------------------------------------------

    def take(self) -> list[ev.Action]:
        """All that it wanted since the last call."""
        actions, self.actions = self.actions, []
        return actions

    def to(self, peer: bytes, kind: type[A]) -> list[A]:
        """What a manager was told, of one type."""
        return [
            action.message
            for action in self.actions
            if isinstance(action, ev.ToManager)
            and action.peer == peer
            and isinstance(action.message, kind)
        ]

    def up(self, kind: type[A]) -> list[A]:
        """What the forwarder was told, of one type."""
        return [
            action.message
            for action in self.actions
            if isinstance(action, ev.ToForwarder) and isinstance(action.message, kind)
        ]

    def sent(self, peer: bytes) -> list[tuple[bytes, int]]:
        """The tasks that a manager was sent, in order."""
        return [
            (run.stream, run.first + position)
            for tasks in self.to(peer, msg.Tasks)
            for run in tasks.runs
            for position in range(len(run.payloads))
        ]

    def outcomes(self) -> dict[int, Outcome]:
        """The outcomes that the forwarder was told, by index."""
        return {
            outcome.index: outcome
            for results in self.up(msg.Results)
            for run in results.runs
            for outcome in run.outcomes
        }

    def losses(self) -> dict[int, Loss]:
        """Of these, the losses."""
        return {
            index: unpack_loss(outcome.data)
            for index, outcome in self.outcomes().items()
            if outcome.kind == OutcomeKind.LOST
        }
