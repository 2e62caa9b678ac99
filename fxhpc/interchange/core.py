"""The interchange's decisions: which manager gets which tasks, and what becomes of lost ones.

No I/O: events in, actions out. The forwarder sends as much as the window allows; managers get as
much as their credit allows, the streams in turn; what a manager loses goes to the front of the
queue or ends as lost. Everything here can be rebuilt: from the forwarder, which sends again what is
owed; from the managers, which say what they hold; from the journal, which says what to wait for.

`dispatching` is who gets what, `registering` a manager's greeting, `ending` outcomes and
cancelling, `losses` what is tried again, `bad_nodes` which hosts are to blame, `walltimes` what the
ends of blocks mean, `recovering`
what is known after a restart, `bodies` functions and shared arguments; `allocating` is which blocks
there are, `leaving` how all this ends, `reporting` what is told of it.
"""

from __future__ import annotations

from typing import Any

from fxhpc.interchange import events as ev
from fxhpc.interchange.blocks import walltimes
from fxhpc.interchange.blocks.allocating import Allocating
from fxhpc.interchange.blocks.bad_nodes import BadNodes
from fxhpc.interchange.bodies import Bodies
from fxhpc.interchange.dispatching import Dispatching
from fxhpc.interchange.ending import Ending
from fxhpc.interchange.held import Manager, each, in_block, single, slice_run
from fxhpc.interchange.leaving import Leaving
from fxhpc.interchange.losses import Losses
from fxhpc.interchange.placement.partitions import Partitions
from fxhpc.interchange.placement.reasons import why_unfit
from fxhpc.interchange.recovering import RETURN_S, Recovering
from fxhpc.interchange.registering import Registering
from fxhpc.interchange.reporting import Reporting
from fxhpc.interchange.state import State
from fxhpc.interchange.unsent import Unsent
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import needs_of
from fxhpc.protocol.needs_words import nodes
from fxhpc.protocol.outcome import DEFAULT_RETRIES, Loss, LossCause
from fxhpc.protocol.provision import ScalingPolicy
from fxhpc.protocol.sizes import SizeLimits
from fxhpc.protocol.versions import PROTOCOL
from fxhpc.units import format_duration
from fxhpc.version import __version__

#: Seconds between heartbeats, and how many may be missed before a manager counts as lost.
HEARTBEAT_S = 5.0
MISSED_HEARTBEATS = 3


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
        remedy: what people do when what its blocks failed of is mended; empty: they restart it.
        made_from: what blocks are made from, noted with each of them.
        limits: of results; the smaller of this and what a task's submitter says counts.
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
        remedy: str = "",
        made_from: str = "",
        limits: SizeLimits | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self._heartbeat_s = heartbeat_s
        self._missed_heartbeats = missed_heartbeats
        self._retries = retries
        self._limits = limits or SizeLimits()
        self._state = State(endpoint, epoch, name, notes, remedy)
        self._state.made_from = made_from
        self._bodies = Bodies(self._state)
        self._allocating = None if scaling is None else Allocating(self._state, scaling)
        self._bad_nodes = BadNodes(self._state, self._allocating)
        self._losses = Losses(self._state, self._bad_nodes)
        self._recovering = Recovering(self._state, self._losses, return_s)
        self._partitions = Partitions(self._state, self._losses, self._recovering)
        self._dispatching = Dispatching(
            self._state, self._bodies, self._bad_nodes, self._partitions
        )
        self._unsent = Unsent(self._state, self._recovering)
        self._registering = Registering(self._state, self._recovering, self._unsent, heartbeat_s)
        self._ending = Ending(
            self._state,
            self._losses,
            self._recovering,
            self._registering,
            self._unsent,
            self._dispatching.placing,
        )
        self._leaving = Leaving(self._state, self._allocating, self._recovering)
        self._reporting = Reporting(
            self._state,
            self._allocating,
            {} if details is None else details,
            wall_offset_s,
            self._recovering.waits_for,
            self._bad_nodes.reports,
            self._dispatching.placing,
        )

    @property
    def has_all(self) -> bool:
        """Whether the forwarder has sent again all that an incomplete journal may lack. Until then
        it is not known of tasks that it sends whether they ran, also if nothing is outstanding.
        """
        return self._recovering.has_all

    @property
    def is_idle(self) -> bool:
        """Whether nothing is outstanding, so that the journal is of no use any more."""
        state = self._state
        return not (
            self._recovering
            or state.queue
            or state.apart
            or state.sized
            or self._partitions
            or state.outbox
            or state.waiting
            or any(manager.held_tasks for manager in state.managers.values())
        )

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Take note of an event; what is to be done about it, in this order."""
        state = self._state
        actions = state.begin(now)
        if isinstance(event, ev.ManagerSaid):
            self._manager_said(event.peer, event.message, now)
        elif isinstance(event, ev.ForwarderSaid):
            self._forwarder_said(event.message, now)
        elif isinstance(event, ev.ManagerGone):
            if manager := state.managers.get(event.peer):
                silent = format_duration(now - manager.heard)
                self._lose_manager(manager, f"{event.why}, {silent} after its last word")
                self._unsent.settle()
        elif isinstance(event, ev.ForwarderGone):
            state.outbox.forwarder_gone(actions)
            if self._allocating is not None:
                self._allocating.backlog = 0  # it can send nothing; it tells again when it greets
        elif isinstance(event, ev.Spooled):
            state.outbox.spooled(event, actions)
        elif isinstance(event, ev.Unspooled):
            if lost := state.outbox.unspooled(event, actions):
                self._recovering.unreadable(lost)
        elif isinstance(event, ev.Left):
            self._ending.left(event)
        elif isinstance(event, ev.OnlyManager):
            self._recovering.replaced(event.manager, now)
            state.only_one = True
        elif isinstance(event, ev.Recovered):
            state.outbox.recover(event.spooled)
            self._recovering.recover(event, now)
        elif isinstance(event, ev.Tick):
            self._tick(now)
        elif isinstance(event, ev.StopAsked):
            self._leaving.ask(event, now)
        elif self._allocating is not None:
            self._blocks_event(self._allocating, event, now)
        self._dispatching.dispatch(isinstance(event, ev.Tick))
        if state.only_one and (state.sized or state.several):
            self._end_unfit()
        if state.stopping:
            self._leaving.go_on(now)
        # What a lone manager's node has decides what is refused: that is told at once.
        self._reporting.report(isinstance(event, ev.Tick | ev.OnlyManager))
        return actions

    def status(self) -> msg.Status:
        """How the endpoint is now, also while no forwarder listens."""
        return self._reporting.status()

    def _blocks_event(
        self,
        allocating: Allocating,
        event: ev.ProvisionerSaid | ev.ProvisionerGone | ev.RecoveredBlocks,
        now: float,
    ) -> None:
        if isinstance(event, ev.ProvisionerSaid):
            allocating.said(event.message, now)
            if not self._state.stopping:
                allocating.scale(now)
        elif isinstance(event, ev.ProvisionerGone):
            allocating.provisioner_gone(event.why, now)
        else:
            allocating.blocks.recover(event, now)

    def _forwarder_said(self, message: msg.ToInterchange, now: float) -> None:
        state = self._state
        if isinstance(message, msg.Tasks):
            for run in message.runs:
                if self._retries is not None and run.retries == DEFAULT_RETRIES:
                    run.retries = self._retries
                if run.retries == 0:
                    state.be_cautious()
                if run.walltime_s:
                    state.declared = True
                if run.needs and not state.has_needs:
                    state.has_needs, state.sized.now = True, now
                if 0 < self._limits.result < run.result_limit:
                    run.result_limit = self._limits.result
                run.spill = run.spill or self._limits.spill
                self._recovering.accept(run)
            self._scale_from_nothing(now)
        elif isinstance(message, msg.ResultsStored):
            state.outbox.stored(message.numbers, state.actions)
        elif isinstance(message, msg.Body):
            self._bodies.came(message.digest, message.data)
        elif isinstance(message, msg.NoBody):
            self._bodies.missing(message.digests)
        elif isinstance(message, msg.Cancel):
            self._ending.cancel(message)
        elif isinstance(message, msg.Hello):
            self._reporting.greeted()
            if self._allocating is not None:
                self._allocating.backlog = 0  # as the forwarder counts from now on
            # Results first: what they end is then not missed in the list of what is held.
            state.outbox.greeted(state.actions)
            present = msg.Present(
                self.endpoint,
                self.epoch,
                __version__,
                protocol=min(message.protocol, PROTOCOL),
                held=state.held(),
                doubtful=self._recovering.is_open,
                incomplete=not self.has_all,
            )
            state.actions.append(ev.ToForwarder(present))
            if running := [*state.running(), *self._recovering.claims.running()]:
                state.actions.append(ev.ToForwarder(msg.Started(running)))
            self._bodies.greeted()
        elif isinstance(message, msg.Backlog):
            self._recovering.has_all = self._recovering.has_all or not message.again
            if self._allocating is not None:
                self._allocating.backlog = message.tasks
                self._scale_from_nothing(now)

    def _scale_from_nothing(self, now: float) -> None:
        """Tasks have come: the first block is asked for at once, others with the next tick."""
        allocating = self._allocating
        if allocating is not None and not len(allocating.blocks) and not self._state.stopping:
            allocating.scale(now)

    def _manager_said(self, peer: bytes, message: msg.FromManager, now: float) -> None:
        state = self._state
        if isinstance(message, msg.Register):
            self._register(peer, message, now)
            return
        manager = state.managers.get(peer)
        if manager is None:
            state.to_manager(peer, msg.Reset())
            return
        manager.heard = now
        if isinstance(message, msg.Results):
            self._ending.results(manager, message)
        elif isinstance(message, msg.Capacity):
            manager.credited(message)
            state.credit_changed = True
        elif isinstance(message, msg.Started):
            for ref, index in each(message.tasks):
                task = (ref.stream, index)
                if index in manager.held.get(ref.stream, {}):
                    manager.running.setdefault(task, now)
                else:
                    self._recovering.claims.began(task)
                if state.unwanted.get(task):
                    continue
                state.unwanted.pop(task, None)  # it had begun before it could be cancelled
            told = msg.Started(message.tasks, manager.host, manager.name)
            state.actions.append(ev.ToForwarder(told))
        elif isinstance(message, msg.Lost):
            for lost in message.tasks:
                run = manager.held.get(lost.stream, {}).get(lost.index)
                if run and (run.epoch, run.attempt) == (lost.epoch, lost.attempt):
                    manager.release(lost.stream, lost.index)
                    task_run = single(run, lost.index)
                    if not (run.needs and self._partitions.lose(lost, task_run)):
                        self._losses.told(manager, task_run, lost.loss)
                else:
                    self._recovering.lost(manager, lost)
            self._unsent.settle()
        elif isinstance(message, msg.Returned):
            manager.asked_back = False
            manager.touch()
            self._take_back(manager, message.tasks)
            self._unsent.settle()
        elif isinstance(message, msg.Lent):
            self._partitions.lent(manager, message.partition)
        elif isinstance(message, msg.NeedBody):
            self._bodies.need(manager, message.digests)
        elif isinstance(message, msg.Bye):
            manager.alone = False  # nothing that ran there has ended it
            why = message.reason or "it said goodbye"
            self._lose_manager(manager, why, LossCause.INTERRUPTED)

    def _take_back(self, manager: Manager, returned: list[msg.TaskRefs]) -> None:
        back: list[tuple[msg.TaskRun, int, int]] = []  # of a run, from which index on, up to which
        for ref, index in each(returned):
            run = manager.held.get(ref.stream, {}).get(index)
            if not run or (run.epoch, run.attempt) != (ref.epoch, ref.attempt):
                self._recovering.returned(manager, ref, index)
                continue
            manager.release(ref.stream, index)
            if back and back[-1][0] is run and back[-1][2] == index:
                back[-1] = (run, back[-1][1], index + 1)
            else:
                back.append((run, index, index + 1))
        for run, begin, end in reversed(back):
            self._state.requeue_run(slice_run(run, begin - run.first, end - run.first))

    def _has_ended(self, block: str) -> bool:
        """Whether there is no such block any more, as far as a manager's block is known."""
        if self._allocating is None or not block.isdecimal():
            return False
        return self._allocating.blocks.of(block) is None

    def _register(self, peer: bytes, message: msg.Register, now: float) -> None:
        refused = self._registering.register(peer, message, now)
        manager = self._state.managers.get(peer)
        if refused or manager is None:
            self._reporting.refused = refused
            if self._allocating is not None:
                self._allocating.refused(message, refused, now)
            return
        self._reporting.refused = ""
        self._state.credit_changed = True
        self._partitions.registered(manager)
        leaving = self._allocating is not None and self._allocating.registered(manager, now)
        if manager.draining or leaving or self._state.stopping:
            self._state.drain(manager)
        else:
            self._bad_nodes.registered(manager)

    def _lose_manager(
        self, manager: Manager, why: str, cause: LossCause = LossCause.MANAGER_LOST
    ) -> None:
        state = self._state
        state.dismiss(manager)
        state.actions += (ev.CloseManager(manager.peer), ev.ManagerKnown(manager.name, False))
        state.note(f"manager {manager.name} on {manager.host}{in_block(manager)} is gone: {why}")
        if self._allocating is not None:
            why, found = self._allocating.explain(manager, why, state.now)
            cause = cause if found == LossCause.MANAGER_LOST else found
            self._allocating.lost(manager, state.now)
        elif walltimes.is_near_end(manager, state.now):
            cause = LossCause.WALLTIME
        elif state.stopping:
            cause = LossCause.INTERRUPTED
            why = why if state.stop_why in why else f"{why} ({state.stop_why})"
        if manager.lent is not None:
            self._partitions.manager_gone(manager, why, cause)
        self._recovering.manager_gone(manager, why, cause)
        self._losses.lose_tasks(manager, why, cause)

    def _end_unfit(self) -> None:
        """There is one manager, and never another: what it can never run ends."""
        state = self._state
        node = state.only_node()
        if node is None:
            return
        host = next(iter(state.managers.values())).host
        for line in [line for line in state.sized.lines() if line.unfit]:
            text = f"the task was not begun: {why_unfit(line.packed, node)} ({host})"
            for task in state.sized.take_out(line):
                self._losses.lose(task, Loss(LossCause.UNFIT, text, host))
        for line in list(state.several.lines()):
            text = f"the task was not begun: it needs {nodes(needs_of(line.packed))}, and this is"
            for task in state.several.take_out(line):
                self._losses.lose(task, Loss(LossCause.UNFIT, f"{text} the only one", host))

    def _tick(self, now: float) -> None:
        self._state.outbox.tick(now, self._state.actions)
        self._state.sized.look_again()
        for manager in list(self._state.managers.values()):
            if manager.ledger is not None:
                manager.ledger.forgive(now)
            silent = now - manager.heard
            if silent > self._heartbeat_s * self._missed_heartbeats:
                self._lose_manager(manager, f"nothing was heard of it for {silent:.0f} s")
            elif now - manager.greeted >= self._heartbeat_s:
                manager.greeted = now
                self._state.to_manager(manager.peer, msg.Heartbeat())
            if now >= manager.ends - walltimes.MARGIN_S and not manager.draining:
                self._state.drain(manager)
        self._recovering.tick(now, self._has_ended)
        self._unsent.settle()
        if self._allocating is not None:
            self._allocating.tick(now)
