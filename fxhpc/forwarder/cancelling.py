"""Cancelling: what has not begun ends here; what is out is asked for, and the answer waited for."""

from __future__ import annotations

from collections.abc import Iterable

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.gathering import Gathering
from fxhpc.forwarder.sending import Sending
from fxhpc.forwarder.settling import Settling
from fxhpc.forwarder.state import State
from fxhpc.forwarder.streams import PARKED, QUEUED, RUNNING, SENT, STORING, Stream
from fxhpc.ids import to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Outcome, OutcomeKind

#: Seconds after which a cancellation is answered, whatever is known by then.
CANCEL_S = 10.0


class Cancelling:
    """CancelTasks calls, until what became of each of their tasks is known.

    What was asked for holds beyond the answer, and beyond its client: a task that nobody could be
    asked about in time ends when somebody can.
    """

    def __init__(
        self, state: State, gathering: Gathering, sending: Sending, settling: Settling
    ) -> None:
        self._state = state
        self._settling = settling
        self._gathering = gathering
        self._sending = sending
        self._unanswered: dict[_Cancel, None] = {}
        # Who waits to know what becomes of a task, by stream and index; most often one call.
        self._waits: dict[bytes, dict[int, tuple[_Cancel, ...]]] = {}
        # Tasks whose submission is on its way into the store: looked at again when it is there.
        self._early: list[tuple[_Cancel, bytes, list[int]]] = []
        # Likewise, of which it is not known yet whether they run.
        self._unsettled: list[tuple[_Cancel, bytes, list[int]]] = []

    def cancel(self, client: Client, message: service.CancelTasks) -> None:
        """A client wants these tasks to end."""
        cancel = _Cancel(client.peer, message.call, message.interrupt, self._state.now + CANCEL_S)
        self._unanswered[cancel] = None
        wanted: dict[bytes, list[int]] = {}
        for part in message.tasks:
            wanted.setdefault(part.stream, []).extend(part.ranges)
        groups = frozenset(message.groups) - {""}
        for name, stream in self._state.streams.items() if groups else ():
            if stream.info.group in groups and stream.accepted:
                wanted[name] = [0, stream.accepted]
                cancel.asked.append(service.StreamRanges(name, [0, stream.accepted]))
        out: dict[bytes, list[msg.TaskRefs]] = {}
        for name, ranges in wanted.items():
            if found := self._state.streams.get(name):
                indices = _indices(found, ranges)
                if message.interrupt or self._settling.is_settled(found):
                    self._cancel(cancel, found, indices, out)
                else:
                    doubtful = self._settling.doubtful(found, indices)
                    if doubtful:
                        cancel.left += len(doubtful)
                        self._unsettled.append((cancel, name, sorted(doubtful)))
                    known = [index for index in indices if index not in doubtful]
                    self._cancel(cancel, found, known, out)
        self._ask(out, message.interrupt)
        if not cancel.left:
            self._answer(cancel)

    def _cancel(
        self,
        cancel: _Cancel,
        stream: Stream,
        indices: Iterable[int],
        out: dict[bytes, list[msg.TaskRefs]],
    ) -> None:
        """End these tasks of a stream, or add them to what their interchange is asked for."""
        queued: list[int] = []
        away: list[int] = []
        early: list[int] = []
        storing: list[int] = []  # ended, by an earlier call perhaps: its answer shall be the same
        unsent: set[int] | None = None
        endpoint = self._state.endpoint_of(stream)
        # Nobody can be asked: what is not known to run ends here, and there when the interchange
        # is back and says that it holds it.
        unreachable = endpoint is None or not (endpoint.is_local or endpoint.connected)
        for index in indices:
            if index >= stream.count:
                early.append(index)
                continue
            state = stream.states[index]
            if state == SENT and unsent is None:
                unsent = self._sending.unsent(stream)
            if state in (QUEUED, PARKED) or (state == SENT and unsent and index in unsent):
                queued.append(index)
            elif state == SENT or (state == RUNNING and cancel.interrupt):
                (queued if unreachable else away).append(index)
            elif state == STORING:
                storing.append(index)
        self._end(stream, queued)
        if away and endpoint is not None:
            refs = msg.TaskRefs(stream.info.stream, to_ranges(away))
            out.setdefault(endpoint.key, []).append(refs)
        if early:
            self._early.append((cancel, stream.info.stream, early))
        settling = (*queued, *away, *storing)
        cancel.left += len(settling) + len(early)
        if settling:
            waits = self._waits.setdefault(stream.info.stream, {})
            mine = (cancel,)
            for index in settling:
                waits[index] = (*waits[index], cancel) if index in waits else mine

    def _go_on(self) -> None:
        """Look at those again of which it was not known whether they run."""
        unsettled, self._unsettled = self._unsettled, []
        for cancel, name, indices in unsettled:
            stream = self._state.streams.get(name)
            if stream is not None and not self._settling.is_settled(stream):
                self._unsettled.append((cancel, name, indices))
                continue
            out: dict[bytes, list[msg.TaskRefs]] = {}
            cancel.left -= len(indices)
            if stream is not None:
                self._cancel(cancel, stream, indices, out)
                self._ask(out, cancel.interrupt)
            if not cancel.left:
                self._answer(cancel)

    def accepted(self) -> None:
        """The store has answered: what was too early to be cancelled may be there now."""
        if not self._early:
            return
        early, self._early = self._early, []
        for cancel, name, indices in early:
            stream = self._state.streams.get(name)
            end = stream.accepted if stream is not None else 0
            count = stream.count if stream is not None else 0
            there = [index for index in indices if index < count]
            later = [index for index in indices if count <= index < end]
            cancel.left -= len(indices) - len(later)  # refused ones never were
            if stream is not None and there:
                out: dict[bytes, list[msg.TaskRefs]] = {}
                self._cancel(cancel, stream, there, out)
                self._ask(out, cancel.interrupt)
            if later:
                self._early.append((cancel, name, later))
            if not cancel.left:
                self._answer(cancel)

    def _ask(self, out: dict[bytes, list[msg.TaskRefs]], interrupt: bool) -> None:
        self._state.actions.extend(
            ev.ToInterchange(key, msg.Cancel(refs, interrupt)) for key, refs in out.items()
        )

    def _end(self, stream: Stream, indices: list[int]) -> None:
        if indices:
            cancelled = [Outcome(index, OutcomeKind.CANCELLED) for index in indices]
            self._gathering.add(stream, cancelled)

    # --- what becomes of them -------------------------------------------------------------------

    def started(self, stream: bytes, indices: Iterable[int]) -> None:
        """These run: those that are not to be interrupted are not cancelled."""
        waits = self._waits.get(stream)
        if not waits:
            return
        for index in indices:
            for cancel in waits.get(index, ()):
                if not cancel.interrupt:
                    left = tuple(other for other in waits[index] if other is not cancel)
                    if left:
                        waits[index] = left
                    else:
                        del waits[index]
                    self._settle(cancel, stream, index, False)
        if not waits:
            del self._waits[stream]

    def settle(self, stream: bytes, outcomes: Iterable[Outcome]) -> None:
        """Let those who have cancelled know what became of it."""
        waits = self._waits.get(stream)
        if not waits:
            return
        for outcome in outcomes:
            for cancel in waits.pop(outcome.index, ()):
                cancelled = outcome.kind == OutcomeKind.CANCELLED
                self._settle(cancel, stream, outcome.index, cancelled)
        if not waits:
            self._waits.pop(stream, None)

    def _settle(self, cancel: _Cancel, stream: bytes, index: int, cancelled: bool) -> None:
        cancel.left -= 1
        if cancel not in self._unanswered:
            return
        if cancelled:
            cancel.cancelled.setdefault(stream, []).append(index)
        if not cancel.left:
            self._answer(cancel)

    def unreachable(self, streams: Iterable[Stream]) -> None:
        """Where these run, nobody can be asked any more: what was to end there ends here."""
        for stream in streams:
            waits = self._waits.get(stream.info.stream)
            if waits:
                self._end(stream, [index for index in waits if stream.states[index] < STORING])

    def greeted(self, endpoint: Endpoint, held: list[msg.TaskRefs], epoch: int) -> None:
        """An interchange says what it holds, before anything is queued again: what is to end there
        is asked for once more, what is not there ends here."""
        self._settling.greeted(endpoint, epoch)
        if not self._waits:
            return
        there: dict[bytes, set[int]] = {}
        for ref in held:
            if (stream := endpoint.streams.get(ref.stream)) and ref.stream in self._waits:
                there.setdefault(ref.stream, set()).update(_indices(stream, ref.ranges))
        for name, stream in endpoint.streams.items():
            asked: dict[bool, list[int]] = {}
            gone: list[int] = []
            for index, cancels in self._waits.get(name, {}).items():
                if stream.states[index] >= STORING:
                    continue
                if index in there.get(name, ()):
                    interrupt = any(cancel.interrupt for cancel in cancels)
                    asked.setdefault(interrupt, []).append(index)
                else:
                    gone.append(index)
            self._end(stream, gone)
            for interrupt, indices in asked.items():
                refs = msg.TaskRefs(name, to_ranges(indices))
                self._ask({endpoint.key: [refs]}, interrupt)

    # --- answers --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Answer calls that have waited too long; forget what nobody can know any more."""
        self._settling.tick()
        self._go_on()
        for name in [name for name in self._waits if name not in self._state.streams]:
            for cancels in self._waits.pop(name).values():
                for cancel in cancels:
                    self._settle(cancel, name, 0, False)
        self.accepted()
        for cancel in list(self._unanswered):
            if self._state.now < cancel.deadline:
                break  # they were made in this order
            self._answer(cancel)

    def _answer(self, cancel: _Cancel) -> None:
        if cancel not in self._unanswered:
            return
        del self._unanswered[cancel]
        tasks = [
            service.StreamRanges(name, to_ranges(indices))
            for name, indices in cancel.cancelled.items()
        ]
        cancel.cancelled.clear()
        self._state.say(cancel.peer, service.Cancelled(cancel.call, tasks, cancel.asked))

    def forget(self, peer: bytes) -> None:
        """Nobody waits for these answers any more; what was asked for holds."""
        for cancel in [cancel for cancel in self._unanswered if cancel.peer == peer]:
            del self._unanswered[cancel]


class _Cancel:
    """A CancelTasks whose tasks have not all ended."""

    def __init__(self, peer: bytes, call: int, interrupt: bool, deadline: float) -> None:
        self.peer = peer
        self.call = call
        self.interrupt = interrupt
        self.deadline = deadline
        self.left = 0  # tasks of which it is not known yet what became of them
        self.cancelled: dict[bytes, list[int]] = {}
        self.asked: list[service.StreamRanges] = []  # what the groups were, if there were any


def _indices(stream: Stream, ranges: list[int]) -> list[int]:
    """The tasks of a stream that ranges name, each once; of those that exist."""
    found: dict[int, None] = {}
    for first, count in zip(ranges[::2], ranges[1::2], strict=True):
        found.update(dict.fromkeys(range(first, min(first + count, stream.accepted))))
    return list(found)
