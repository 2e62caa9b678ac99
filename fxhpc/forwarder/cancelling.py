"""Cancelling: what has not begun ends here; what is out is asked for, and the answer waited for."""

from __future__ import annotations

from collections.abc import Iterable

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.gathering import Gathering
from fxhpc.forwarder.sending import Sending
from fxhpc.forwarder.state import State, is_local
from fxhpc.forwarder.streams import DELIVERED, PARKED, QUEUED, RUNNING, SENT
from fxhpc.ids import from_ranges, to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Outcome, OutcomeKind

#: Seconds after which a cancellation is answered, whatever is known by then.
CANCEL_S = 10.0


class Cancelling:
    """CancelTasks calls, until what became of each of their tasks is known."""

    def __init__(self, state: State, gathering: Gathering, sending: Sending) -> None:
        self._state = state
        self._gathering = gathering
        self._sending = sending
        self._cancels: list[_Cancel] = []

    def cancel(self, client: Client, message: service.CancelTasks) -> None:
        """A client wants these tasks to end."""
        cancel = _Cancel(client.peer, message.call, message.interrupt, self._state.now + CANCEL_S)
        out: dict[bytes, list[msg.TaskRefs]] = {}
        for part in message.tasks:
            stream = self._state.streams.get(part.stream)
            if stream is None:
                continue
            queued: list[int] = []
            away: list[int] = []
            unsent = self._sending.unsent(stream)
            endpoint = self._state.endpoint_of(stream)
            # Nobody can be asked: what is not known to run ends here, and there when the
            # interchange is back and says that it holds it.
            unreachable = not is_local(stream) and (endpoint is None or not endpoint.connected)
            for index in from_ranges(part.ranges):
                state = stream.states[index] if index < stream.count else DELIVERED
                if state in (QUEUED, PARKED) or (state == SENT and index in unsent):
                    queued.append(index)
                elif state == SENT or (state == RUNNING and message.interrupt):
                    (queued if unreachable else away).append(index)
            if queued:
                self._gathering.add(
                    stream, [Outcome(index, OutcomeKind.CANCELLED) for index in queued]
                )
            if away and endpoint is not None:
                refs = msg.TaskRefs(part.stream, to_ranges(away))
                out.setdefault(endpoint.key, []).append(refs)
            if waits := {*queued, *away}:
                cancel.pending.setdefault(part.stream, set()).update(waits)
        self._cancels.append(cancel)
        self._state.actions.extend(
            ev.ToInterchange(key, msg.Cancel(refs, message.interrupt)) for key, refs in out.items()
        )
        self.answer()

    def started(self, stream: bytes, indices: list[int]) -> None:
        """These run, and are not to be interrupted: they are not cancelled."""
        for cancel in self._cancels:
            if not cancel.interrupt:
                cancel.settle(stream, indices, False)

    def settle(self, stream: bytes, outcomes: Iterable[Outcome]) -> None:
        """Let those who have cancelled know what became of it."""
        if self._cancels:
            for outcome in outcomes:
                cancelled = outcome.kind == OutcomeKind.CANCELLED
                for cancel in self._cancels:
                    cancel.settle(stream, [outcome.index], cancelled)

    def answer(self) -> None:
        """Answer calls of which everything is known, or that have waited too long."""
        for cancel in list(self._cancels):
            if any(cancel.pending.values()) and self._state.now < cancel.deadline:
                continue
            self._cancels.remove(cancel)
            tasks = [
                service.StreamRanges(name, to_ranges(indices))
                for name, indices in cancel.cancelled.items()
            ]
            self._state.say(cancel.peer, service.Cancelled(cancel.call, tasks))

    def forget(self, peer: bytes) -> None:
        """Nobody waits for these answers any more."""
        self._cancels = [cancel for cancel in self._cancels if cancel.peer != peer]


class _Cancel:
    """A CancelTasks that is not answered yet."""

    def __init__(self, peer: bytes, call: int, interrupt: bool, deadline: float) -> None:
        self.peer = peer
        self.call = call
        self.interrupt = interrupt
        self.deadline = deadline
        self.pending: dict[bytes, set[int]] = {}
        self.cancelled: dict[bytes, set[int]] = {}

    def settle(self, stream: bytes, indices: list[int], cancelled: bool) -> None:
        """What became of some of its tasks."""
        waits = self.pending.get(stream)
        if not waits:
            return
        settled = waits.intersection(indices)
        waits -= settled
        if cancelled and settled:
            self.cancelled.setdefault(stream, set()).update(settled)
