"""Which manager gets which tasks: as much as it wants, idle workers first, the streams in turn."""

from __future__ import annotations

import math
from collections.abc import Callable

from fxhpc.interchange import events as ev
from fxhpc.interchange import walltimes
from fxhpc.interchange.bodies import Bodies
from fxhpc.interchange.held import Manager, split_run
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg


class Dispatching:
    """Sends what waits to whoever has room, and asks back what others have not begun."""

    def __init__(self, state: State, bodies: Bodies) -> None:
        self._state = state
        self._bodies = bodies

    def dispatch(self) -> None:
        """Send what can be sent now."""
        if not (self._state.queue or self._state.suspects):
            self._balance()
            return
        batches: dict[bytes, list[msg.TaskRun]] = {}
        for manager in self._state.managers.values():
            if self._state.suspects and manager.suspect is None and manager.free:
                self._assign_suspect(manager, batches)
        progress = True
        while self._state.queue and progress:
            progress = False
            ready = sorted(
                (manager for manager in self._state.managers.values() if manager.free),
                key=lambda manager: manager.held_tasks / max(1, manager.slots),
            )
            if not ready:
                break
            idle = [manager for manager in ready if manager.held_tasks < manager.slots]
            share = math.ceil(len(self._state.queue) / len(idle or ready))
            for manager in idle or ready:
                limit = min(manager.free, share)
                if idle:  # a worker that has nothing to do comes before look-ahead elsewhere
                    limit = min(limit, manager.slots - manager.held_tasks)
                for run in self._state.queue.take(limit, self._room(manager)):
                    progress = True
                    for part in self._within_bytes(manager, run):
                        self._assign(manager, part, batches)
        for peer, runs in batches.items():
            self._send(self._state.managers[peer], runs)

    def _room(self, manager: Manager) -> Callable[[msg.TaskRun], int] | None:
        return walltimes.room(manager, self._state.now) if self._state.declared else None

    def _assign_suspect(self, manager: Manager, batches: dict[bytes, list[msg.TaskRun]]) -> None:
        """The first suspect that has time to end there."""
        room = self._room(manager)
        for suspect in self._state.suspects:
            if room is None or room(suspect):
                self._state.suspects.remove(suspect)
                self._assign(manager, suspect, batches)
                return

    def _within_bytes(self, manager: Manager, run: msg.TaskRun) -> list[msg.TaskRun]:
        """As much of a run as the manager has bytes for; the rest goes back to the queue."""
        room = manager.credit_bytes - manager.held_bytes
        if manager.held_tasks and room <= 0:
            self._state.queue.push_front(run.stream, run)
            return []
        size = 0
        for position, payload in enumerate(run.payloads):
            size += len(payload)
            if size > room and position:
                head, rest = split_run(run, position)
                self._state.queue.push_front(run.stream, rest)
                return [head]
        return [run]

    def _assign(
        self, manager: Manager, run: msg.TaskRun, batches: dict[bytes, list[msg.TaskRun]]
    ) -> None:
        run.epoch = self._state.epoch
        run.attempt += 1
        run.sent_before = False
        manager.hold(run)
        batches.setdefault(manager.peer, []).append(run)

    def _send(self, manager: Manager, runs: list[msg.TaskRun]) -> None:
        self._bodies.offer(manager, runs)
        sent = [
            msg.TaskRefs(run.stream, [run.first, len(run.payloads)], run.epoch, run.attempt)
            for run in runs
        ]
        self._state.actions.append(ev.Sent(manager.name, sent))
        self._state.actions.append(ev.ToManager(manager.peer, msg.Tasks(runs)))

    def _balance(self) -> None:
        """Nothing waits here: let idle managers have what others hold and have not begun."""
        if len(self._state.managers) < 2:
            return
        idle = [
            manager
            for manager in self._state.managers.values()
            if manager.held_tasks < manager.slots and not manager.draining and manager.credit_tasks
        ]
        if not idle:
            return
        busiest = max(self._state.managers.values(), key=lambda manager: manager.held_tasks)
        spare = busiest.held_tasks - busiest.slots
        if spare <= 0 or busiest.asked_back or busiest.draining:
            return
        workers = sum(
            manager.slots - manager.held_tasks
            for manager in idle
            if self._has_time_for(manager, busiest)
        )
        if workers:
            busiest.asked_back = True
            count = min(spare, max(workers, spare // 2))
            self._state.actions.append(ev.ToManager(busiest.peer, msg.GiveBack(count)))

    def _has_time_for(self, manager: Manager, other: Manager) -> bool:
        """Whether whatever another manager gives back can end at this one."""
        room = self._room(manager)
        return room is None or all(
            room(next(iter(tasks.values()))) for tasks in other.held.values()
        )
