"""Which manager gets which tasks: as much as it wants, idle workers first, the streams in turn."""

from __future__ import annotations

import math
from collections.abc import Callable

from fxhpc.interchange import events as ev
from fxhpc.interchange.apart import take_fitting
from fxhpc.interchange.blocks import walltimes
from fxhpc.interchange.blocks.bad_nodes import BadNodes
from fxhpc.interchange.bodies import Bodies
from fxhpc.interchange.held import Manager, split_run
from fxhpc.interchange.placement.partitions import Partitions
from fxhpc.interchange.placement.placing import Placing
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg

#: Of all managers, one in so many is kept free for tasks that are to run alone; at least one is.
KEPT_FREE = 4


class Dispatching:
    """Sends what waits to whoever has room, and asks back what others have not begun."""

    def __init__(
        self, state: State, bodies: Bodies, bad_nodes: BadNodes, partitions: Partitions
    ) -> None:
        self._state = state
        self._bodies = bodies
        self._bad_nodes = bad_nodes
        self._kept_free: list[Manager] = []
        self.partitions = partitions
        self.placing = Placing(state, self._within_bytes, self._assign)

    def dispatch(self, tick: bool) -> None:
        """Send what can be sent now.

        Args:
            tick: time has passed, and nothing else has happened.
        """
        state = self._state
        sized = state.has_needs  # nothing else is asked of those who never heard of such tasks
        changed = list(state.roster.changed) if sized else []
        several = sized and bool(self.partitions)
        if several:
            self.partitions.changed(changed)
            self.partitions.settle(tick)
        state.roster.refresh()
        batches: dict[bytes, list[msg.TaskRun]] = {}
        if state.apart or self._kept_free:
            self._place_alone(batches)
            if state.has_needs:
                self._place_sized_apart(batches)
            self._place_suspects(batches)
            self._place_elsewhere(batches)
            state.apart.forget_empty()
        if sized and (state.sized or self.placing.reserved):
            self.placing.place(changed, batches)
            state.roster.refresh()
        if state.queue:
            self._place_queue(batches)
        if sized and state.sized:
            self.placing.place_rest(batches)
        if not batches and not state.queue:
            self._balance()
        self._send_all(batches)
        if several:
            # After that: who is told that it is lent has nothing on the way when it says that it
            # is empty.
            given: dict[bytes, list[msg.TaskRun]] = {}
            self.partitions.place(lambda lead, task: self._assign(lead, task, given))
            self._send_all(given)
        state.roster.refresh()

    # --- the queue ------------------------------------------------------------------------------

    def _place_queue(self, batches: dict[bytes, list[msg.TaskRun]]) -> None:
        """The least loaded first, each the same share; a worker that has nothing to do comes
        before look-ahead elsewhere.
        """
        queue, roster = self._state.queue, self._state.roster
        passed: list[Manager] = []
        while queue and (ready := roster.ready):
            share = math.ceil(len(queue) / ready)
            served: list[Manager] = []
            for _ in range(ready):
                manager = roster.take() if queue else None
                if manager is None:
                    break
                if manager.proven:
                    manager.doubt(self._state.now)
                limit = min(manager.free, share)
                if manager.held_tasks < manager.slots:
                    limit = min(limit, manager.slots - manager.held_tasks)
                has_taken = False
                for run in queue.take(limit, self._room(manager)):
                    for part in self._within_bytes(manager, run):
                        has_taken = True
                        self._assign(manager, part, batches)
                (served if has_taken else passed).append(manager)
            self._see_again(served)
        self._see_again(passed)

    def _see_again(self, managers: list[Manager]) -> None:
        for manager in managers:
            manager.touch()
        self._state.roster.refresh()

    def _room(self, manager: Manager) -> Callable[[msg.TaskRun], int] | None:
        return walltimes.room(manager, self._state.now) if self._state.declared else None

    def _fits(self, manager: Manager) -> Callable[[msg.TaskRun], int]:
        """The same for single tasks, with needs of their own or without."""
        room = self._room(manager)

        def fits(run: msg.TaskRun) -> int:
            if run.needs and not self.placing.may_have(manager, run):
                return 0
            return len(run.payloads) if room is None else room(run)

        return fits

    def _within_bytes(self, manager: Manager, run: msg.TaskRun) -> list[msg.TaskRun]:
        """As much of a run as the manager has bytes for; the rest goes back to the queue."""
        room = manager.credit_bytes - manager.held_bytes
        if manager.held_tasks and room <= 0:
            self._state.put_first(run)
            return []
        size = 0
        for position, payload in enumerate(run.payloads):
            size += len(payload)
            if size > room and position:
                head, rest = split_run(run, position)
                self._state.put_first(rest)
                return [head]
        return [run]

    # --- what is apart --------------------------------------------------------------------------

    def _place_suspects(self, batches: dict[bytes, list[msg.TaskRun]]) -> None:
        """One for each manager: the first that has time to end there."""
        suspects, roster = self._state.apart.suspects, self._state.roster
        placed = True
        while suspects and placed:
            placed = False
            for manager in roster.without_suspect():
                task = take_fitting(suspects, self._fits(manager))
                if task is not None:
                    self._assign(manager, task, batches)
                    placed = True
            roster.refresh()

    def _place_alone(self, batches: dict[bytes, list[msg.TaskRun]]) -> None:
        """Each gets a manager that has nothing; until there is one, some take nothing new."""
        state = self._state
        for one in self._kept_free:
            one.kept_free = False
            one.touch()
        kept = [one for one in self._kept_free if state.managers.get(one.peer) is one]
        self._kept_free = []
        state.roster.refresh()
        if not state.apart.alone:
            return
        most = max(1, len(state.managers) // KEPT_FREE)
        passed: list[Manager] = []
        seen: set[Manager] = set()
        kept.sort(key=lambda manager: manager.load)
        while state.apart.alone and len(self._kept_free) < most:
            found = kept.pop(0) if kept else state.roster.take()
            if found is None:
                break
            if found in seen or not found.takes_work:
                continue
            manager, task = found, None
            seen.add(manager)
            if not manager.held_tasks and manager.free:
                task = take_fitting(state.apart.alone, self._fits(manager))
            if task is not None:
                self._assign(manager, task, batches)
                manager.alone = True
            elif manager.held_tasks:
                self._kept_free.append(manager)
            else:
                passed.append(manager)
        for one in self._kept_free:
            one.kept_free = True
        self._see_again([*passed, *self._kept_free])

    def _place_elsewhere(self, batches: dict[bytes, list[msg.TaskRun]]) -> None:
        """To other hosts than those where their workers died, as long as there are any others."""
        state, roster = self._state, self._state.roster
        for hosts, tasks in list(state.apart.elsewhere.items()):
            if not roster.others_than(hosts):
                while tasks:
                    _, last = tasks.popitem()
                    state.put_first(last)
                continue
            passed: list[Manager] = []
            while tasks and (manager := roster.take()) is not None:
                task = None
                # Rather there again than wait for a worker while that one has nothing to do.
                idle = not state.queue and manager.held_tasks < manager.slots
                if manager.host not in hosts or (
                    idle and not self._bad_nodes.is_doubtful(manager.host)
                ):
                    task = take_fitting(tasks, self._fits(manager))
                if task is None:
                    passed.append(manager)
                else:
                    self._assign(manager, task, batches)
                    roster.refresh()
            self._see_again(passed)

    def _place_sized_apart(self, batches: dict[bytes, list[msg.TaskRun]]) -> None:
        """Those with needs of their own go to a manager that has nothing for ordinary ones, too."""
        state, find = self._state, self.placing.find
        for task in [task for task in state.apart.suspects.values() if task.needs]:
            if (one := find(task, lambda manager: manager.suspect is None)) is not None:
                del state.apart.suspects[task.stream, task.first]
                self._assign(one, task, batches)
        for hosts, tasks in list(state.apart.elsewhere.items()):
            for task in [task for task in tasks.values() if task.needs]:
                one = find(task, lambda manager, hosts=hosts: manager.host not in hosts)  # type: ignore[misc]
                if one is not None:
                    self._assign(one, task, batches)
                elif not any(
                    self.placing.could_have(manager, task.needs)
                    for manager in state.managers.values()
                    if manager.host not in hosts and manager.takes_work
                ):
                    state.sized.push_front(task)
                else:
                    continue
                del tasks[task.stream, task.first]
        state.roster.refresh()

    # --- sending --------------------------------------------------------------------------------

    def _assign(
        self, manager: Manager, run: msg.TaskRun, batches: dict[bytes, list[msg.TaskRun]]
    ) -> None:
        run.epoch = self._state.epoch
        run.attempt += 1
        run.sent_before = False
        if again := self._state.again:
            for index in range(run.first, run.first + len(run.payloads)):
                if (run.stream, index) in again:
                    again[run.stream, index] = manager.name
        manager.hold(run)
        batches.setdefault(manager.peer, []).append(run)

    def _send_all(self, batches: dict[bytes, list[msg.TaskRun]]) -> None:
        for peer, runs in batches.items():
            self._send(self._state.managers[peer], runs)

    def _send(self, manager: Manager, runs: list[msg.TaskRun]) -> None:
        self._bodies.offer(manager, runs)
        sent = [
            msg.TaskRefs(run.stream, [run.first, len(run.payloads)], run.epoch, run.attempt)
            for run in runs
        ]
        self._state.actions.append(ev.Sent(manager.name, sent))
        self._state.actions.append(ev.ToManager(manager.peer, msg.Tasks(runs)))

    # --- taking back ----------------------------------------------------------------------------

    def _balance(self) -> None:
        """Nothing waits here: let idle managers have what others hold and have not begun."""
        roster = self._state.roster
        if not roster.idle:
            return
        richest = roster.richest()
        if richest is None:
            return
        spare = richest.held_tasks - richest.slots
        workers = 0
        for manager in roster.idle:
            if workers >= spare:
                break
            if manager.credit_tasks and self._has_time_for(manager, richest):
                workers += manager.slots - manager.held_tasks
        if workers:
            richest.asked_back = True
            richest.touch()
            count = min(spare, max(workers, spare // 2))
            self._state.actions.append(ev.ToManager(richest.peer, msg.GiveBack(count)))

    def _has_time_for(self, manager: Manager, other: Manager) -> bool:
        """Whether whatever another manager gives back can end at this one."""
        room = self._room(manager)
        runs = (next(iter(tasks.values())) for tasks in other.held.values())
        return room is None or all(run.needs or room(run) for run in runs)
