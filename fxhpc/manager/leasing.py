"""Who has which cores, memory and accelerators of the node: leases of tasks that need their own.

A task that needs more, less or something else than a worker has runs in a worker of its own class,
which is made for its lease: cores of several workers' cells, parts of accelerators, memory, and
variables. The ordinary workers of these cells idle meanwhile. A worker of a class serves others of
its class, as long as nobody else wants what it has.

Nothing is booked: what is left is found anew from who has what, whenever that has changed. So it
cannot be wrong for long, and ordinary tasks pay nothing for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fxhpc.manager import events as ev
from fxhpc.manager.desk import Desk
from fxhpc.manager.held import Part, Slot
from fxhpc.manager.pace import Pace, kind_of
from fxhpc.manager.sized import Line
from fxhpc.manager.staff import UNDEAD_S, Staff
from fxhpc.protocol.needs import Lease, Needs, Room, needs_several

#: A worker of a class goes on with its class, if there is more of that, for so long before others
#: have their turn: starting another costs some milliseconds.
TURN_S = 0.1

#: A worker is started for so much work, in seconds, or if there is none.
START_S = 0.01

#: A worker of a class that has nothing to do stays for so long although others want its cores,
#: since more may be on the way; and for so long although nobody does.
KEEP_S = 0.005
IDLE_S = 60.0

#: Tasks that are let in between must be expected to be so many times quicker than they need be.
CAUTION = 2

Give = Callable[[Slot, int, "deque[Part]"], int]


class Target(NamedTuple):
    """What is kept free for the first of a line, as it becomes free."""

    lease: Lease
    until: float  # when all of it is expected to be free; inf: nobody knows


class Leasing:
    """Gives tasks of all sizes their place on a node.

    Args:
        give: gives a worker up to so many tasks of these, and tells how many these were.

    Attributes:
        open: how many ordinary workers can have work.
        active: somebody has a lease, or is to get one.
    """

    def __init__(self, desk: Desk, staff: Staff, pace: Pace, give: Give) -> None:
        self.open = desk.host.slots
        self.active = False
        self._size = desk.host.room
        self._desk = desk
        self._lines = desk.backlog.sized
        self._staff = staff
        self._pace = pace
        self._give = give
        self._targets: dict[Line, Target] = {}
        self._seen = 0.0

    @property
    def held(self) -> int:
        """How many tasks with needs of their own are here, begun or not."""
        waiting = sum(map(len, self._lines.parts()))
        return waiting + sum(slot.tasks for slot in self._staff.sized.values())

    def wait_s(self, now: float) -> float:
        """After how many seconds, at most, a turn is wanted."""
        if not (self._targets or self._desk.backlog.queue):
            return math.inf
        ends = [
            end - now
            for slot in self._staff.sized.values()
            if not slot.tasks and not slot.dismissed and (end := self._stays_until(slot)) > now
        ]
        return min(ends, default=math.inf)

    def turn(self, room: int) -> int:
        """See who can have what. Returns for how many tasks' results there is room then."""
        if room <= 0:
            return room
        lines, staff = self._lines, self._staff
        self._end_idle()
        lines.see_who_is_behind(self._desk.backlog.ordinary())
        if not (lines.changed or staff.changed or self._has_come()):
            return room
        free = self._free_now()
        targets: dict[Line, Target] = {}
        for line in lines.ranked():
            if staff.hiring.lose_hopeless(line.packed):
                continue
            if room > 0:
                room -= self._feed(line, targets, room)
            if not self._start_for(line, free) and line.parts and not line.waits:
                self._keep_free(line, targets, free)
            lines.settle(line)
        self._targets = targets
        self._see_who_is_apart()
        for slot in list(staff.sized.values()):
            if self._is_in_the_way(slot, targets):
                self._dismiss(slot)
        self.active = bool(lines.lines or staff.sized)
        self._seen = self._desk.now
        lines.changed = staff.changed = room <= 0
        return room

    def let_in(self) -> list[Slot]:
        """Ordinary workers whose cells are kept free, and can have the next task until then."""
        queue, now = self._desk.backlog.queue, self._desk.now
        if not queue or not self._targets:
            return []
        each_s = self._pace.expected(kind_of(queue[0].run))
        until = min(target.until for target in self._targets.values())
        if each_s is None or math.isinf(until) or now + CAUTION * each_s > until:
            return []
        return [slot for slot in self._staff.apart.values() if not slot.needs and slot.aside]

    def make_room(self) -> None:
        """Ordinary tasks wait: workers that wait for more of their class make way."""
        now = self._desk.now
        for slot in self._staff.sized.values():
            is_idle = slot.ready and not slot.tasks and not slot.dismissed
            if is_idle and now >= self._stays_until(slot):
                self._dismiss(slot)
                return

    # --- lines ----------------------------------------------------------------------------------

    def _feed(self, line: Line, targets: dict[Line, Target], room: int) -> int:
        """Give workers of its class what is next; how many tasks."""
        now, count = self._desk.now, 0
        ready = [
            slot
            for workers in (self._staff.apart, self._staff.ahead)
            for slot in workers.values()
            if slot.needs == line.packed
        ]
        for slot in ready:
            if not line.parts or count >= room:
                break
            new_turn = now >= slot.turn_until
            if new_turn and (line.waits or self._is_in_the_way(slot, targets, but=line)):
                continue
            if line.suspect:
                if self._staff.suspect is not None:
                    break
                if slot.tasks:
                    continue
                self._staff.suspect = slot.worker
                count += self._give(slot, 1, line.parts)
                break
            # As many as there are workers for, so that none waits while another is idle.
            share = max(1, -(-sum(map(len, line.parts)) // len(ready)))
            given = self._give(slot, min(share, room - count), line.parts)
            count += given
            if given and new_turn:
                slot.turn_until = now + TURN_S
                self._lines.next_turn(line, self._desk.backlog.ordinary())
        return count

    def _start_for(self, line: Line, free: Room) -> bool:
        """Start workers for who waits, as far as there is room; whether the first has one."""
        if line.suspect and self._staff.suspect is not None:
            return True  # it is not its turn
        slots = [slot for slot in self._staff.sized.values() if slot.needs == line.packed]
        begun = sum(not slot.ready for slot in slots)
        there = sum(slot.ready and not (slot.kill or slot.dismissed) for slot in slots)
        wanted = self._wanted(line, there)
        if there and not wanted:
            return True
        while begun < wanted and not line.waits:
            if len(self._staff.sized) >= self._desk.host.most_sized:
                return True  # there are too many to keep anything free for more
            lease = free.take(line.needs)
            if lease is None:
                break
            slot = self._staff.hiring.start_sized(line.packed, lease)
            slot.turn_until = self._desk.now + TURN_S
            self._lines.next_turn(line, self._desk.backlog.ordinary())
            begun += 1
        return begun > 0

    def _wanted(self, line: Line, there: int) -> int:
        """How many more workers are worth their start, where so many are there already."""
        waiting = 1 if line.suspect else sum(map(len, line.parts))
        if not waiting:
            return 0
        each_s = self._pace.expected(line.packed + kind_of(line.parts[0].run))
        if each_s is None:
            return waiting
        enough = math.ceil(waiting * each_s / START_S) - there
        return min(waiting, max(enough, 0 if there else 1))

    def _keep_free(self, line: Line, targets: dict[Line, Target], free: Room) -> None:
        """Keep free for the first of a line what it can have first."""
        target = self._targets.get(line)
        if target is None:
            target = self._first_for(line.needs, [kept.lease for kept in targets.values()])
        if target is not None:
            targets[line] = target
            free.take_left(target.lease)

    def _first_for(self, needs: Needs, kept: Iterable[Lease]) -> Target | None:
        """What a task can have first, if others keep this; None if nobody can know."""
        room = Room(self._size)
        for lease in kept:
            room.take_left(lease)
        taken = [(ends, room.take_left(lease)) for ends, lease in self._taken()]
        until = self._desk.now
        for ends, lease in sorted(taken, key=lambda one: one[0]):
            if room.fits(needs):
                break
            room.give_back(lease)
            until = max(until, ends)
        found = room.take(needs)
        return None if found is None else Target(found, until)

    def _taken(self) -> list[tuple[float, Lease]]:
        """Who has something now, and until when by what is known."""
        room, slots = Room(self._size), self._staff.slots.values()
        return [
            (self._ends(slot), room.cell(slot.cell) if slot.lease is None else slot.lease)
            for slot in slots
            if slot.lease is not None or slot.tasks
        ]

    def _ends(self, slot: Slot) -> float:
        now = self._desk.now
        if not slot.tasks:
            return now if slot.ready else math.inf
        first = slot.given[0].part.run
        each_s = self._pace.expected(slot.needs + kind_of(first))
        if each_s is not None:
            begun = now if slot.running_place is None else slot.begun_since
            if begun + each_s > now:
                return max(begun + each_s, slot.turn_until)
        return slot.due or math.inf

    def _free_now(self) -> Room:
        room = Room(self._size)
        for slot in self._staff.slots.values():
            if slot.lease is not None:
                room.take_left(slot.lease)
        for slot in self._staff.slots.values():
            if slot.lease is None and slot.tasks:
                room.take_left(room.cell(slot.cell))
        return room

    # --- workers --------------------------------------------------------------------------------

    def _see_who_is_apart(self) -> None:
        """Which ordinary workers are to idle, since others have their cells, or are to get them."""
        leased, kept, used = Room(self._size), Room(self._size), Room(self._size)
        for slot in self._staff.sized.values():
            assert slot.lease is not None
            leased.take_left(slot.lease)
            kept.take_left(slot.lease)
            if slot.tasks or not slot.ready:
                used.take_left(slot.lease)
        for target in self._targets.values():
            kept.take_left(target.lease)
            used.take_left(target.lease)
        # Who only waits for more of its class makes way for who comes.
        self.open = sum(map(used.is_free, range(len(self._size.cells))))
        for slot in self._staff.slots.values():
            if slot.lease is not None:
                continue
            apart = not kept.is_free(slot.cell)
            slot.aside = apart and leased.is_free(slot.cell)
            if apart != slot.apart:
                self._staff.set_apart(slot, apart)

    def _is_in_the_way(
        self, slot: Slot, targets: dict[Line, Target], but: Line | None = None
    ) -> bool:
        """Whether a worker that is done with its turn has what is kept for others."""
        if not targets or not slot.ready or slot.lease is None:
            return False
        if self._desk.now < self._stays_until(slot):
            return False
        return any(
            _overlap(slot.lease, target.lease)
            for line, target in targets.items()
            if line is not but and line.packed != slot.needs
        )

    def _stays_until(self, slot: Slot) -> float:
        """When a worker of a class is to make way for others: its turn lasts as long as there is
        something of its class."""
        lines = self._lines.lines
        if slot.tasks or (slot.needs, False) in lines or (slot.needs, True) in lines:
            return slot.turn_until
        return slot.idle_since + KEEP_S

    def end_several(self) -> None:
        """Workers for several nodes know those of one task alone."""
        for slot in list(self._staff.sized.values()):
            if needs_several(slot.needs):
                self._dismiss(slot)

    def _dismiss(self, slot: Slot) -> None:
        """End a worker that has nothing to do."""
        if slot.tasks or slot.dismissed:
            return
        slot.dismissed, slot.killed_at = True, self._desk.now
        self._staff.withhold(slot)
        self._desk.actions.append(ev.KillWorker(slot.worker))

    def _has_come(self) -> bool:
        """Whether somebody's turn has come, though nothing has happened."""
        if self._staff.suspect is None and any(line.suspect for line in self._lines.ranked()):
            return True
        seen, now, workers = self._seen, self._desk.now, self._staff.sized.values()
        return any(seen < self._stays_until(slot) <= now for slot in workers)

    def _end_idle(self) -> None:
        now = self._desk.now
        for slot in list(self._staff.sized.values()):
            if slot.dismissed:
                if now - slot.killed_at >= UNDEAD_S:
                    self._staff.gone(ev.WorkerGone(slot.worker, slot.begun, undead=True))
            elif slot.ready and not slot.tasks and now - slot.idle_since >= IDLE_S:
                self._dismiss(slot)


def _overlap(one: Lease, other: Lease) -> bool:
    cells, devices = {cell for cell, _ in other.cores}, {device for device, _ in other.devices}
    return (
        any(cell in cells for cell, _ in one.cores)
        or any(device in devices for device, _ in one.devices)
        or bool(one.memory and other.memory)
    )
