"""Tasks over several nodes: whole managers of a block are lent to a task until it has ended.

One partition is collected at a time, so that no two have half of what they need and wait for each
other. Its managers take nothing new from then on (Lend), and each says when it is empty (Lent). The
first of them, the lead, then gets the task. When that has ended, in whatever way, all are theirs
again (Unlend): before the next partition is collected, others that wait get their share of them.

If any of them is lost, so is the attempt. After a restart of the interchange the managers that are
lent say so; they stay lent for as long as the lead has the task, or may come back with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from fxhpc.interchange.blocks import walltimes
from fxhpc.interchange.held import Manager, manager_lost, single
from fxhpc.interchange.losses import Losses
from fxhpc.interchange.recovering import Recovering
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import needs_of
from fxhpc.protocol.outcome import Loss, LossCause

#: Seconds until it is seen again whether any block has enough nodes, if nothing tells sooner.
LOOK_S = 0.1

_Key: TypeAlias = tuple[bytes, int, int, int]
Assign: TypeAlias = Callable[[Manager, msg.TaskRun], None]


class _Choice(NamedTuple):
    """Managers that a task could have; the least is the best."""

    busy: int  # that have something to do
    load: float  # of the one that has most
    number: int  # so that no two are the same
    managers: list[Manager]


class Partitions:
    """Lends managers to tasks, and sees that they are returned."""

    def __init__(self, state: State, losses: Losses, recovering: Recovering) -> None:
        self._state = state
        self._losses = losses
        self._recovering = recovering
        self._given: dict[_Key, msg.Partition] = {}  # whose task was sent, here or before
        # Those of which a node was lost: until the lead has ended what is left of the attempt.
        self._broken: dict[_Key, tuple[Manager, Loss]] = {}
        self._doubtful: set[_Key] = set()  # of these, those that may be over
        self._collected: msg.Partition | None = None
        self._ready: set[str] = set()  # managers of that which are empty
        self._look_at = -math.inf

    def __bool__(self) -> bool:
        """Whether any task wants several nodes, or has them."""
        return bool(self._given or self._collected or self._state.several)

    # --- what is heard --------------------------------------------------------------------------

    def registered(self, manager: Manager) -> None:
        """A manager has greeted, and says what it is lent to."""
        self._look_at = -math.inf
        lent, collected = manager.lent, self._collected
        if lent is not None:
            self._state.has_needs = True
        if collected is not None and _is_in(manager, collected):
            self._ready.discard(manager.name)
            if lent != collected:  # that it shall be lent was lost on the way
                self._unlend(manager)
                self._lend(manager, collected)
        elif lent is not None:
            known = self._given.setdefault(_key(lent), lent)
            self._doubtful.add(_key(lent))
            if known != lent:
                self._unlend(manager)
            elif _key(lent) in self._broken:  # that it shall end it was lost on the way
                self._state.to_manager(manager.peer, msg.Unlend(lent))
        for partition in self._given.values():
            if _is_in(manager, partition):
                self._doubtful.add(_key(partition))

    def lent(self, manager: Manager, partition: msg.Partition) -> None:
        """A manager has nothing to do, and waits for this."""
        if partition == self._collected and manager.lent == partition:
            self._ready.add(manager.name)

    def manager_gone(self, manager: Manager, why: str, cause: LossCause) -> None:
        """A manager is lost: what it was lent to cannot go on."""
        partition = manager.lent
        if partition is None or partition == self._collected:
            return
        self._doubtful.add(_key(partition))
        if manager.name != partition.members[0].manager:  # else its own tasks are lost anyway
            self._lose(partition, manager, why, cause)

    def changed(self, managers: Iterable[Manager]) -> None:
        """These may have less to do than before."""
        for manager in managers:
            if manager.lent is not None:
                self._doubtful.add(_key(manager.lent))

    # --- what is done ---------------------------------------------------------------------------

    def settle(self, tick: bool = False) -> None:
        """Take back what was lent to tasks that have ended."""
        if tick:
            self._doubtful.update(self._given)
        while self._doubtful:
            partition = self._given.get(self._doubtful.pop())
            if partition is not None and not self._goes_on(partition):
                del self._given[_key(partition)]
                self._broken.pop(_key(partition), None)
                self._unlend_all(partition)
        collected = self._collected
        if collected is not None and not self._can_be_had(collected):
            self._abandon(collected)
        elif tick and collected is not None:
            self._look_for_better(collected)

    def place(self, assign: Assign) -> None:
        """Send the task whose managers are empty; see about the next."""
        if self._collected is not None and len(self._ready) == len(self._collected.members):
            self._give(self._collected, assign)
        if self._collected is None and self._state.several and self._state.now >= self._look_at:
            self._collect()

    # --- collecting -----------------------------------------------------------------------------

    def _collect(self) -> None:
        """Choose the task that is next, and managers for it."""
        self._look_at = self._state.now + LOOK_S
        for line in self._state.several.first_lines():
            run = next(iter(line.turns))
            choice = self._choose(run)
            if choice is not None:
                self._begin(run, choice)
                return

    def _begin(self, run: msg.TaskRun, choice: _Choice) -> None:
        members = tuple(msg.Member(one.name, one.host) for one in choice.managers)
        epoch, attempt = self._state.epoch, run.attempt + 1
        self._collected = msg.Partition(run.stream, run.first, epoch, attempt, members)
        self._ready.clear()
        for manager in choice.managers:
            self._lend(manager, self._collected)

    def _choose(self, run: msg.TaskRun) -> _Choice | None:
        """The managers of a block that are empty first; None: no block has enough."""
        needs = needs_of(run.needs)
        blocks: dict[str, dict[str, Manager]] = {}
        for manager in self._state.managers.values():
            if manager.is_reserved or not self._is_fit(manager, run):
                continue
            by_host = blocks.setdefault(manager.block, {})
            other = by_host.get(manager.host)
            if other is None or manager.load < other.load:
                by_host[manager.host] = manager
        best: _Choice | None = None
        for number, by_host in enumerate(blocks.values()):
            if len(by_host) >= needs.nodes:
                chosen = sorted(by_host.values(), key=lambda one: one.load)[: needs.nodes]
                busy = sum(one.held_tasks > 0 for one in chosen)
                choice = _Choice(busy, chosen[-1].load, number, chosen)
                best = choice if best is None or choice[:3] < best[:3] else best
        return best

    def _is_fit(self, manager: Manager, run: msg.TaskRun) -> bool:
        ledger = manager.ledger
        left_s = manager.ends - self._state.now - walltimes.MARGIN_S
        return (
            ledger is not None
            and manager.takes_work
            and run.walltime_s <= left_s
            and ledger.wanted(run.needs).cells > 0
        )

    def _can_be_had(self, collected: msg.Partition) -> bool:
        """Whether the task still waits, and all managers are there, and take work."""
        run = self._waiting(collected)
        if run is None:
            return False
        found = (self._state.by_name.get(member.manager) for member in collected.members)
        return all(
            one is not None and one.lent == collected and self._is_fit(one, run) for one in found
        )

    def _waiting(self, collected: msg.Partition) -> msg.TaskRun | None:
        run = self._state.several.find(collected.stream, collected.index)
        return run if run is not None and run.attempt + 1 == collected.attempt else None

    def _look_for_better(self, collected: msg.Partition) -> None:
        """Other nodes may have nothing to do, while some of these have for long."""
        run = self._waiting(collected)
        if run is not None and len(self._ready) < len(collected.members):
            choice = self._choose(run)
            if choice is not None and not choice.busy:
                self._abandon(collected)
                self._begin(single(run, collected.index), choice)

    def _abandon(self, collected: msg.Partition) -> None:
        self._collected = None
        self._look_at = -math.inf
        self._unlend_all(collected)

    def _give(self, collected: msg.Partition, assign: Assign) -> None:
        run, lead = self._waiting(collected), self._state.by_name[collected.members[0].manager]
        assert run is not None, "what is collected for nobody is abandoned before"
        task = single(run, collected.index)
        self._state.several.take_one(collected.stream, collected.index)
        task.partition = collected
        self._collected = None
        self._given[_key(collected)] = collected
        assign(lead, task)

    # --- those that are given -------------------------------------------------------------------

    def _goes_on(self, partition: msg.Partition) -> bool:
        """Whether the lead has the task, or may come back with it, and all others are there."""
        task = (partition.stream, partition.index)
        name = partition.members[0].manager
        lead = self._state.by_name.get(name)
        if lead is None:
            return self._recovering.may_come(name)
        run = lead.held.get(partition.stream, {}).get(partition.index)
        if run is None:
            claim = self._recovering.claims.get(task)
            return claim is not None and claim[:3] == (name, partition.epoch, partition.attempt)
        if (run.epoch, run.attempt) != (partition.epoch, partition.attempt):
            return False
        if _key(partition) in self._broken:
            return True  # until it has ended
        for member in partition.members:
            there = self._state.by_name.get(member.manager)
            if there is None and self._recovering.may_come(member.manager):
                continue
            if there is None or there.lent != partition:
                gone = there or Manager(b"", member.manager, 0, member.host, 0.0)
                self._lose(partition, gone, "it did not come back", LossCause.MANAGER_LOST)
                break
        return True

    def _lose(self, partition: msg.Partition, gone: Manager, why: str, cause: LossCause) -> None:
        """A node of a running task is lost: what is left of the attempt is to end, and is lost."""
        task = (partition.stream, partition.index)
        lead = self._state.by_name.get(partition.members[0].manager)
        run = lead.held.get(partition.stream, {}).get(partition.index) if lead else None
        if lead is None or run is None:
            return
        if (run.epoch, run.attempt) != (partition.epoch, partition.attempt):
            return
        loss = manager_lost(gone, why, task in lead.running, cause)
        loss.text = f"{loss.text} (one of the {len(partition.members)} nodes that the task had)"
        self._losses.count_walltime(lead, lead.running.get(task), loss)
        if self._broken.setdefault(_key(partition), (gone, loss))[1] is loss:
            self._state.to_manager(lead.peer, msg.Unlend(partition))

    def lose(self, lost: msg.LostTask, task: msg.TaskRun) -> bool:
        """A lead tells that it has lost a task; whether that was because of another node."""
        key = (lost.stream, lost.index, lost.epoch, lost.attempt)
        gone, loss = self._broken.pop(key, (None, None))
        if gone is None or loss is None or lost.loss.cause != LossCause.INTERRUPTED:
            return False
        loss.output = lost.loss.output
        self._losses.lose_with_node(gone, task, loss)
        return True

    # --- lending --------------------------------------------------------------------------------

    def _lend(self, manager: Manager, partition: msg.Partition) -> None:
        manager.lent = partition
        manager.touch()
        self._state.to_manager(manager.peer, msg.Lend(partition))

    def _unlend(self, manager: Manager) -> None:
        if manager.lent is not None:
            self._state.to_manager(manager.peer, msg.Unlend(manager.lent))
            manager.lent = None
            manager.touch()

    def _unlend_all(self, partition: msg.Partition) -> None:
        self._look_at = -math.inf
        for member in partition.members:
            manager = self._state.by_name.get(member.manager)
            if manager is not None and manager.lent == partition:
                self._unlend(manager)


def _key(partition: msg.Partition) -> _Key:
    return partition.stream, partition.index, partition.epoch, partition.attempt


def _is_in(manager: Manager, partition: msg.Partition) -> bool:
    return any(member.manager == manager.name for member in partition.members)
