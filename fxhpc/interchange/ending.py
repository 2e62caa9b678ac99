"""Tasks that end, or shall: outcomes, also of attempts that were given up, and cancelling."""

from __future__ import annotations

from fxhpc.ids import to_ranges
from fxhpc.interchange import events as ev
from fxhpc.interchange.held import Manager, each, without
from fxhpc.interchange.losses import Losses
from fxhpc.interchange.placement.placing import Placing
from fxhpc.interchange.recovering import Recovering
from fxhpc.interchange.registering import Registering
from fxhpc.interchange.state import State
from fxhpc.interchange.unsent import Unsent
from fxhpc.protocol import messages as msg


class Ending:
    """Takes outcomes in, and sees that no other attempt at the same task goes on."""

    def __init__(
        self,
        state: State,
        losses: Losses,
        recovering: Recovering,
        registering: Registering,
        unsent: Unsent,
        placing: Placing,
    ) -> None:
        self._state = state
        self._placing = placing
        self._unsent = unsent
        self._losses = losses
        self._recovering = recovering
        self._registering = registering

    def results(self, manager: Manager, message: msg.Results) -> None:
        """A manager tells outcomes."""
        for run in message.runs:
            stream = run.stream
            held: msg.TaskRun | None = None
            for outcome in run.outcomes:
                held = manager.release(stream, outcome.index)
                if held is None:
                    self._late(run, outcome.index)
                elif (held.epoch, held.attempt) != (run.epoch, run.attempt):
                    # An earlier attempt has ended after all, so that this one need not.
                    refs = [msg.TaskRefs(stream, [outcome.index, 1], held.epoch, held.attempt)]
                    self._state.actions.append(
                        ev.ToManager(manager.peer, msg.Cancel(refs, interrupt=True, forget=True))
                    )
                if self._losses.watching:
                    self._losses.ended(run.host or manager.host, stream, outcome)
                if self._state.unwanted:
                    self._state.unwanted.pop((stream, outcome.index), None)
                if self._state.again:
                    self._state.again.pop((stream, outcome.index), None)
            if self._state.has_needs and held is not None and held.needs:
                self._placing.ended(held.needs, run.outcomes)
            manager.ended += len(run.outcomes)
            if manager.proven is not None:
                manager.prove(len(run.outcomes), self._state.now)
        self._state.outbox.add(manager.peer, message.number, message.runs, self._state.actions)
        if manager.unstored:
            manager.unstored.discard(message.number)
            self._registering.requeue_missing(manager)

    def left(self, event: ev.Left) -> None:
        """A manager has left outcomes in a file, before it ended."""
        for results in event.batch:
            for run in results.runs:
                for outcome in run.outcomes:
                    self._late(run, outcome.index)
                    self._state.unwanted.pop((run.stream, outcome.index), None)
                    if self._losses.watching:
                        self._losses.ended(run.host, run.stream, outcome)
        runs = [results.runs for results in event.batch]
        self._state.outbox.add_left(event.path, runs, self._state.actions)

    def _late(self, ended: msg.ResultRun, index: int) -> None:
        """An outcome of an attempt that was given up: it counts; any other attempt is ended.

        When many managers come back at once there are tens of thousands of these: where another
        attempt is, or that there is none, is looked up as far as that is possible.
        """
        stream = ended.stream
        cancel = msg.Cancel([msg.TaskRefs(stream, [index, 1])], interrupt=True, forget=True)
        name = self._state.again.pop((stream, index), None)
        other = self._state.by_name.get(name) if name else None
        if other is not None and other.release(stream, index):
            self._state.actions.append(ev.ToManager(other.peer, cancel))
            return
        if self._state.apart.remove(stream, index) or self._state.remove_sized(stream, {index}):
            return
        if (
            name is None
            and ended.epoch == self._state.epoch
            and not self._recovering.was_sent_again(stream, index)
        ):
            if self._recovering:
                self._recovering.ended((stream, index))
            return  # this process gave no other attempt to anybody
        for run in self._state.queue.peek_lane(stream):
            if run.first <= index < run.first + len(run.payloads):
                lane = self._state.queue.peek_lane(stream)
                at = lane.index(run)
                self._state.queue.replace_lane(
                    stream, [*lane[:at], *without(run, {index}), *lane[at + 1 :]]
                )
                return
        if self._recovering.ended((stream, index)):
            return
        self._state.actions.extend(
            ev.ToManager(other.peer, cancel)
            for other in self._state.managers.values()
            if other.release(stream, index)
        )

    def cancel(self, message: msg.Cancel) -> None:
        """Cancel what waits here, and have the rest cancelled where it is."""
        ended: dict[bytes, list[int]] = {}
        for ref in message.tasks:
            wanted = {index for _, index in each([ref])}
            left: list[msg.TaskRun] = []
            for run in self._state.queue.peek_lane(ref.stream):
                indices = wanted & set(range(run.first, run.first + len(run.payloads)))
                ended.setdefault(ref.stream, []).extend(indices)
                left += without(run, indices) if indices else [run]
            self._state.queue.replace_lane(ref.stream, left)
            ended[ref.stream] = [
                *ended.get(ref.stream, ()),
                *self._state.remove_sized(ref.stream, wanted),
            ]
            for suspect in [run for run in self._state.apart if run.stream == ref.stream]:
                if suspect.first in wanted:
                    self._state.apart.remove(ref.stream, suspect.first)
                    ended.setdefault(ref.stream, []).append(suspect.first)
            found = set(ended.get(ref.stream, ()))
            for tasks in self._state.waiting.values():
                for index in [index for index in wanted if (ref.stream, index) in tasks]:
                    found.add(index)
                    task = (ref.stream, index)
                    if not (message.interrupt or message.forget):
                        # A manager of before may run it: that it says when it comes back.
                        self._state.unwanted.setdefault(task, False)
                        continue
                    del tasks[task]
                    self._state.unwanted.pop(task, None)
                    self._recovering.disowned.add(task)  # for whoever comes back with it
                    ended.setdefault(ref.stream, []).append(index)
            if message.forget and self._recovering:
                for index in wanted:
                    if claimed_by := self._recovering.disown((ref.stream, index)):
                        refs = [msg.TaskRefs(ref.stream, [index, 1])]
                        cancel = msg.Cancel(refs, message.interrupt, forget=True)
                        self._state.actions.append(ev.ToManager(claimed_by.peer, cancel))
            for manager in self._state.managers.values():
                there = wanted & manager.held.get(ref.stream, {}).keys()
                if there:
                    found |= there
                    for index in there:
                        task = (ref.stream, index)
                        if message.forget:
                            manager.release(ref.stream, index)
                            self._state.unwanted.pop(task, None)
                            self._state.again.pop(task, None)
                        elif message.interrupt or task not in manager.running:
                            manager.cancelled[task] = message.interrupt
                            self._state.unwanted[task] = message.interrupt
                    refs = [msg.TaskRefs(ref.stream, to_ranges(there))]
                    cancel = msg.Cancel(refs, message.interrupt, message.forget)
                    self._state.actions.append(ev.ToManager(manager.peer, cancel))
            if not message.forget and len(found) < len(wanted):
                unsent = self._unsent.cancel(ref.stream, wanted - found, message.interrupt)
                ended.setdefault(ref.stream, []).extend(unsent)
            self._losses.cancelled(ref.stream, wanted if message.forget else ended[ref.stream])
        if self._state.again:
            for task in [(stream, index) for stream in ended for index in ended[stream]]:
                self._state.again.pop(task, None)
        if not message.forget:
            self._state.tell_cancelled(ended)
