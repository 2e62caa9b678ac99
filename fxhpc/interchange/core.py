"""The interchange's decisions: which manager gets which tasks, and what becomes of lost ones.

No I/O: events in, actions out. The forwarder sends as much as the window allows; managers get as
much as their credit allows, the streams in turn; what a manager loses goes to the front of the
queue or ends as lost. Everything here can be rebuilt: from the forwarder, which sends again what is
owed; from the managers, which say what they hold; from the journal, which says what to wait for.

`dispatching` is who gets what, `registering` a manager's greeting, `ending` outcomes and
cancelling, `losses` what is tried again, `recovering` what is known after a restart, `bodies`
functions and shared arguments.
"""

from __future__ import annotations

from typing import Any

from fxhpc.interchange import events as ev
from fxhpc.interchange.bodies import Bodies
from fxhpc.interchange.dispatching import Dispatching
from fxhpc.interchange.ending import Ending
from fxhpc.interchange.held import Manager, each, single
from fxhpc.interchange.losses import Losses
from fxhpc.interchange.recovering import RETURN_S, Recovering
from fxhpc.interchange.registering import Registering
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.provision import ScalingPolicy
from fxhpc.version import __version__

#: Seconds between heartbeats, and how many may be missed before a manager counts as lost.
HEARTBEAT_S = 5.0
MISSED_HEARTBEATS = 3

#: What the interchange asks for beside the managers' credit: so that a scale-out sees a backlog.
BASE_WINDOW_TASKS = 64
BASE_WINDOW_BYTES = 16 * 2**20


class Interchange:
    """One endpoint's queue, its managers and their tasks.

    Args:
        endpoint: the endpoint's UUID.
        epoch: raised at every start, so that no attempt of before is taken for one of now.
        heartbeat_s: between two heartbeats.
        missed_heartbeats: so many in a row, and a manager counts as lost.
        return_s: how long managers of before may take to come back after a restart.
        scaling: when it asks for blocks; None: managers come by themselves.
        retries: of tasks that do not ask for a number of their own; None: `DEFAULT_RETRIES`.
        name: the endpoint's, for the names of its jobs and for people.
        details: of its configuration, sent along with every report.
        wall_offset_s: the wall clock minus the clock that `now` is read from.
        notes: whether the log is wanted, see `events.Note`.
    """

    def __init__(
        self,
        endpoint: str,
        epoch: int,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        missed_heartbeats: int = MISSED_HEARTBEATS,
        return_s: float = RETURN_S,
        scaling: ScalingPolicy | None = None,
        retries: int | None = None,
        name: str = "",
        details: dict[str, Any] | None = None,
        wall_offset_s: float = 0.0,
        notes: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self._heartbeat_s = heartbeat_s
        self._missed_heartbeats = missed_heartbeats
        self._state = State(endpoint, epoch)
        self._bodies = Bodies(self._state)
        self._dispatching = Dispatching(self._state, self._bodies)
        self._losses = Losses(self._state)
        self._recovering = Recovering(self._state, self._losses, return_s)
        self._registering = Registering(self._state, self._recovering, heartbeat_s)
        self._ending = Ending(self._state, self._losses, self._recovering, self._registering)
        self._window = (0, 0)
        self._status: msg.Status | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is outstanding, so that the journal is of no use any more."""
        state = self._state
        return not (
            self._recovering
            or state.queue
            or state.suspects
            or state.outbox
            or state.waiting
            or any(manager.held_tasks for manager in state.managers.values())
        )

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Take note of an event; what is to be done about it, in this order."""
        state = self._state
        actions = state.actions = []
        if isinstance(event, ev.ManagerSaid):
            self._manager_said(event.peer, event.message, now)
        elif isinstance(event, ev.ForwarderSaid):
            self._forwarder_said(event.message)
        elif isinstance(event, ev.ManagerGone):
            if manager := state.managers.get(event.peer):
                self._lose_manager(manager, event.why)
        elif isinstance(event, ev.ForwarderGone):
            state.outbox.forwarder_gone(actions)
        elif isinstance(event, ev.Spooled):
            state.outbox.spooled(event, actions)
        elif isinstance(event, ev.Unspooled):
            state.outbox.unspooled(event.batch, actions)
        elif isinstance(event, ev.Recovered):
            state.outbox.recover(event.spooled)
            self._recovering.recover(event, now)
        else:
            self._tick(now)
        self._dispatching.dispatch()
        self._report(isinstance(event, ev.Tick))
        return actions

    def _forwarder_said(self, message: msg.ToInterchange) -> None:
        state = self._state
        if isinstance(message, msg.Tasks):
            for run in message.runs:
                self._recovering.accept(run)
        elif isinstance(message, msg.ResultsStored):
            state.outbox.stored(message.numbers, state.actions)
        elif isinstance(message, msg.Body):
            self._bodies.came(message.digest, message.data)
        elif isinstance(message, msg.NoBody):
            self._bodies.missing(message.digests)
        elif isinstance(message, msg.Cancel):
            self._ending.cancel(message)
        elif isinstance(message, msg.Hello):
            self._window, self._status = (0, 0), None
            # Results first: what they end is then not missed in the list of what is held.
            state.outbox.greeted(state.actions)
            present = msg.Present(self.endpoint, self.epoch, __version__, held=state.held())
            state.actions.append(ev.ToForwarder(present))

    def _manager_said(self, peer: bytes, message: msg.FromManager, now: float) -> None:
        state = self._state
        if isinstance(message, msg.Register):
            self._registering.register(peer, message, now)
            return
        manager = state.managers.get(peer)
        if manager is None:
            state.to_manager(peer, msg.Reset())
            return
        manager.heard = now
        if isinstance(message, msg.Results):
            self._ending.results(manager, message)
        elif isinstance(message, msg.Capacity):
            manager.credit_tasks, manager.credit_bytes = message.tasks, message.bytes
            manager.slots = message.slots
        elif isinstance(message, msg.Started):
            for ref, index in each(message.tasks):
                if index in manager.held.get(ref.stream, {}):
                    manager.running.add((ref.stream, index))
            state.actions.append(ev.ToForwarder(message))
        elif isinstance(message, msg.Lost):
            for lost in message.tasks:
                run = manager.held.get(lost.stream, {}).get(lost.index)
                if run and (run.epoch, run.attempt) == (lost.epoch, lost.attempt):
                    manager.release(lost.stream, lost.index)
                    self._losses.lose(single(run, lost.index), lost.loss)
                else:
                    self._recovering.lost(manager, lost)
        elif isinstance(message, msg.Returned):
            manager.asked_back = False
            self._take_back(manager, message.tasks)
        elif isinstance(message, msg.NeedBody):
            self._bodies.need(manager, message.digests)
        elif isinstance(message, msg.Bye):
            self._lose_manager(manager, message.reason or "it said goodbye")

    def _take_back(self, manager: Manager, returned: list[msg.TaskRefs]) -> None:
        for ref, index in reversed(list(each(returned))):
            run = manager.held.get(ref.stream, {}).get(index)
            if run and (run.epoch, run.attempt) == (ref.epoch, ref.attempt):
                manager.release(ref.stream, index)
                self._state.requeue(single(run, index))
            else:
                self._recovering.returned(manager, ref, index)

    def _lose_manager(self, manager: Manager, why: str) -> None:
        state = self._state
        state.managers.pop(manager.peer, None)
        if state.by_name.get(manager.name) is manager:
            del state.by_name[manager.name]
        state.actions += (ev.CloseManager(manager.peer), ev.ManagerKnown(manager.name, False))
        self._recovering.manager_gone(manager, why)
        self._losses.lose_tasks(manager, why)

    def _tick(self, now: float) -> None:
        for manager in list(self._state.managers.values()):
            silent = now - manager.heard
            if silent > self._heartbeat_s * self._missed_heartbeats:
                self._lose_manager(manager, f"nothing was heard of it for {silent:.0f} s")
            elif now - manager.greeted >= self._heartbeat_s:
                manager.greeted = now
                self._state.to_manager(manager.peer, msg.Heartbeat())
        self._recovering.tick(now)

    def _report(self, everything: bool) -> None:
        """Tell the forwarder of a window or a status that has changed."""
        if not self._state.outbox.connected:
            return
        managers = [manager for manager in self._state.managers.values() if not manager.draining]
        tasks = BASE_WINDOW_TASKS + 2 * sum(manager.credit_tasks for manager in managers)
        size = BASE_WINDOW_BYTES + 2 * sum(manager.credit_bytes for manager in managers)
        if (tasks, size) != self._window:
            self._window = (tasks, size)
            self._state.actions.append(ev.ToForwarder(msg.Window(tasks, size)))
        workers = sum(manager.slots for manager in self._state.managers.values())
        before = self._status
        changed = before is None or (before.managers, before.workers) != (
            len(self._state.managers),
            workers,
        )
        if not (changed or everything):
            return
        running = sum(
            min(manager.slots, manager.held_tasks) for manager in self._state.managers.values()
        )
        held = sum(manager.held_tasks for manager in self._state.managers.values())
        status = msg.Status(
            managers=len(self._state.managers),
            workers=workers,
            idle_workers=workers - running,
            queued=len(self._state.queue) + len(self._state.suspects) + held - running,
            running=running,
            reason="" if workers else "no manager has registered yet",
        )
        if status != before:
            self._status = status
            self._state.actions.append(ev.ToForwarder(status))
