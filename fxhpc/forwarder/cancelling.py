"""Cancelling: what has not begun ends here; what is out is asked for, and the answer waited for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.finding import find
from fxhpc.forwarder.gathering import Gathering
from fxhpc.forwarder.sending import Sending
from fxhpc.forwarder.state import State
from fxhpc.forwarder.streams import QUEUED, STORING, Stream
from fxhpc.ids import to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Outcome, OutcomeKind

#: Seconds that an interchange which has gone, or which a new forwarder has not heard of yet, has to
#: come back. Until then nothing that it was sent counts as not begun.
RETURN_S = 5.0

#: Seconds after which a cancellation is answered, whatever is known by then.
CANCEL_S = 10.0

#: What interchanges are asked to cancel, by endpoint; also if it runs, and without a word of it?
_Out: TypeAlias = dict[tuple[bytes, bool, bool], list[msg.TaskRefs]]


class Cancelling:
    """CancelTasks calls, until what became of each of their tasks is known.

    What was asked for holds beyond the answer, and beyond its client: a task that nobody could be
    asked about in time ends when somebody can.
    """

    def __init__(self, state: State, gathering: Gathering, sending: Sending) -> None:
        self._state = state
        self._gathering = gathering
        self._sending = sending
        self._unanswered: dict[_Cancel, None] = {}
        # Who waits to know what becomes of a task, by stream and index; most often one call.
        self._waits: dict[bytes, dict[int, tuple[_Cancel, ...]]] = {}
        # Tasks whose submission is on its way into the store: looked at again when it is there.
        self._early: list[tuple[_Cancel, bytes, list[int]]] = []
        # Since when interchanges are asked about tasks that they were not sent, by stream.
        self._asking: dict[bytes, float] = {}
        # What ended here while its interchange was away, by endpoint: nobody there wants it.
        self._untold: dict[bytes, list[msg.TaskRefs]] = {}

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
        out: _Out = {}
        for name, ranges in wanted.items():
            if found := self._state.streams.get(name):
                self._cancel(cancel, found, _indices(found, ranges), out)
        self._ask(out)
        if not cancel.left:
            self._answer(cancel)

    def _cancel(self, cancel: _Cancel, stream: Stream, indices: list[int], out: _Out) -> None:
        """End these tasks of a stream, or add them to what their interchange is asked for."""
        endpoint = self._state.endpoint_of(stream)
        found = find(stream, indices, endpoint, self._sending)
        name = stream.info.stream
        queued, early = found.queued, found.early
        waits: list[int] = []  # for an answer, or for somebody who can be asked
        gone: list[int] = []  # end here; whoever has them is not to run them
        away = [*found.sent, *(found.running if cancel.interrupt else ())]
        doubtful = [*found.again, *found.asked]
        if endpoint is None or self._is_lost(endpoint):
            gone = [*away, *doubtful, *found.loading]
        elif cancel.interrupt:
            gone = [*doubtful, *found.loading]
            if self._is_there(endpoint):
                waits = away
            else:
                gone += away
        else:
            waits = [*away, *doubtful]
            if endpoint.connected:
                early += found.loading  # a moment later they are sent
                self._ask_about(endpoint, stream, found.again, out)
            else:
                waits += found.loading
        if away and waits and endpoint is not None and self._is_there(endpoint):
            refs = msg.TaskRefs(name, to_ranges(away))
            out.setdefault((endpoint.key, cancel.interrupt, False), []).append(refs)
        if gone and endpoint is not None:
            self._disown(endpoint, stream, gone, out)
        queued += gone
        self._end(stream, queued)
        if early:
            self._early.append((cancel, name, early))
        settling = (*queued, *waits, *found.storing)
        cancel.left += len(settling) + len(early)
        if settling:
            waiting = self._waits.setdefault(name, {})
            mine = (cancel,)
            for index in settling:
                waiting[index] = (*waiting[index], cancel) if index in waiting else mine

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
                out: _Out = {}
                self._cancel(cancel, stream, there, out)
                self._ask(out)
            if later:
                self._early.append((cancel, name, later))
            if not cancel.left:
                self._answer(cancel)

    def _is_there(self, endpoint: Endpoint) -> bool:
        return endpoint.is_local or endpoint.connected

    def _is_lost(self, endpoint: Endpoint) -> bool:
        """Whether its interchange has been away for so long that it is not waited for."""
        back_by = endpoint.left_at + RETURN_S
        return not self._is_there(endpoint) and (endpoint.deleted or self._state.now >= back_by)

    def _ask_about(self, endpoint: Endpoint, stream: Stream, indices: list[int], out: _Out) -> None:
        """Have its interchange find out who of before has what waits here to be sent again."""
        if indices:
            endpoint.ask(stream, indices)
            self._asking[stream.info.stream] = self._state.now
            refs = msg.TaskRefs(stream.info.stream, to_ranges(indices))
            out.setdefault((endpoint.key, False, False), []).append(refs)

    def _disown(self, endpoint: Endpoint, stream: Stream, indices: list[int], out: _Out) -> None:
        """These end here; whoever of before has them is to drop them."""
        refs = msg.TaskRefs(stream.info.stream, to_ranges(indices))
        if endpoint.connected:
            out.setdefault((endpoint.key, True, True), []).append(refs)
        else:
            self._untold.setdefault(endpoint.key, []).append(refs)

    def _ask(self, out: _Out) -> None:
        self._state.actions.extend(
            ev.ToInterchange(key, msg.Cancel(refs, interrupt, forget))
            for (key, interrupt, forget), refs in out.items()
        )

    def _end(self, stream: Stream, indices: list[int]) -> None:
        if indices:
            cancelled = [Outcome(index, OutcomeKind.CANCELLED) for index in indices]
            self._gathering.add(stream, cancelled)

    # --- what becomes of them -------------------------------------------------------------------

    def started(self, stream: bytes, indices: Iterable[int]) -> None:
        """These run: those that are not to be interrupted are not cancelled."""
        indices = list(indices)
        found = self._state.streams.get(stream)
        if found is not None and found.asked:
            self._send_again(found, found.asked.intersection(indices))
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

    def _send_again(self, stream: Stream, indices: set[int]) -> None:
        """Its interchange is to have these after all, to know whose they are."""
        if endpoint := self._state.endpoint_of(stream):
            endpoint.give_back(stream, indices)

    def _settle(self, cancel: _Cancel, stream: bytes, index: int, cancelled: bool) -> None:
        cancel.left -= 1
        if cancel not in self._unanswered:
            return
        if cancelled:
            cancel.cancelled.setdefault(stream, []).append(index)
        if not cancel.left:
            self._answer(cancel)

    def unreachable(self, streams: Iterable[Stream], *, for_good: bool) -> None:
        """Where these run, nobody can be asked any more: what was to end there ends here.

        Args:
            for_good: nobody comes back either; else what is not to be interrupted waits for that.
        """
        for stream in streams:
            waits = self._waits.get(stream.info.stream, {})
            ended = [
                index
                for index, cancels in waits.items()
                if stream.states[index] < STORING
                and (for_good or any(cancel.interrupt for cancel in cancels))
            ]
            endpoint = self._state.endpoint_of(stream)
            if ended and endpoint is not None:
                self._disown(endpoint, stream, ended, {})
            self._end(stream, ended)

    def greeted(self, endpoint: Endpoint, message: msg.Present) -> None:
        """An interchange says what it holds, before anything is queued again: what is to end there
        is asked for once more, what is not there, for sure, ends here."""
        endpoint.doubtful = message.doubtful
        out: _Out = {}
        untold = self._untold.pop(endpoint.key, [])
        if untold and message.doubtful:
            out[endpoint.key, True, True] = untold
        there: dict[bytes, set[int]] = {}
        for ref in message.held if self._waits else ():
            if (stream := endpoint.streams.get(ref.stream)) and ref.stream in self._waits:
                there.setdefault(ref.stream, set()).update(_indices(stream, ref.ranges))
        for name, stream in endpoint.streams.items():
            stream.asked.clear()
            asked: dict[bool, list[int]] = {}
            gone: list[int] = []
            for index, cancels in self._waits.get(name, {}).items():
                if stream.states[index] >= STORING:
                    continue
                interrupt = any(cancel.interrupt for cancel in cancels)
                if index in there.get(name, ()):
                    asked.setdefault(interrupt, []).append(index)
                elif interrupt or not message.doubtful:
                    gone.append(index)
            if gone and message.doubtful:
                self._disown(endpoint, stream, gone, out)
            self._end(stream, gone)
            for interrupt, indices in asked.items():
                refs = msg.TaskRefs(name, to_ranges(indices))
                out.setdefault((endpoint.key, interrupt, False), []).append(refs)
        self._ask(out)

    def reconnected(self, endpoint: Endpoint) -> None:
        """All that an interchange does not hold is queued again: it is asked about what was to be
        cancelled of that, before anything is sent."""
        out: _Out = {}
        for name, stream in endpoint.streams.items() if endpoint.doubtful else ():
            waits = self._waits.get(name, {})
            again = [index for index in waits if stream.states[index] == QUEUED]
            self._ask_about(endpoint, stream, again, out)
        self._ask(out)

    # --- answers --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Answer calls that have waited too long; forget what nobody can know any more."""
        for name, since in list(self._asking.items()):
            found = self._state.streams.get(name)
            if found is None or not found.asked:
                del self._asking[name]
            elif self._state.now >= since + CANCEL_S:
                del self._asking[name]
                self._send_again(found, set(found.asked))
        for name in [name for name in self._waits if name not in self._state.streams]:
            for cancels in self._waits.pop(name).values():
                for cancel in cancels:
                    self._settle(cancel, name, 0, False)
        lost = [
            stream
            for name in self._waits
            if (stream := self._state.streams.get(name)) is not None
            and (endpoint := self._state.endpoint_of(stream)) is not None
            and self._is_lost(endpoint)
        ]
        self.unreachable(lost, for_good=True)
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
