"""How much work a manager wants to hold, in tasks and bytes, and what of it it gives back."""

from __future__ import annotations

import math

from fxhpc.manager.desk import Desk
from fxhpc.manager.held import refs
from fxhpc.manager.leasing import Leasing
from fxhpc.manager.pace import HOLD_TASKS, Pace
from fxhpc.manager.staff import Staff
from fxhpc.protocol import messages as msg

#: Bytes of tasks that are held, and of results that nobody has stored before work stops.
HELD_BYTES = 64 * 2**20
UNSTORED_BYTES = 128 * 2**20

#: Results smaller than this cannot fill that while they are in workers' hands.
SMALL_RESULT_BYTES = 4096

#: How long a request to give back waits for something to give back.
GIVE_BACK_S = 0.1

#: What would wait here for longer than this, in seconds, goes back without being asked for:
#: others may have time for it, or something else may be more urgent. But not so often that tasks
#: go to and fro all the time, where the two sides count differently what is here.
TOO_LONG_S = 0.25
RELIEVE_S = 0.05


class Credit:
    """What the interchange is told to send, and what it gets back."""

    def __init__(self, desk: Desk, staff: Staff, pace: Pace, leasing: Leasing) -> None:
        self._desk = desk
        self._staff = staff
        self._pace = pace
        self._leasing = leasing
        self._asked = 0  # tasks to be given back
        self._asked_since = 0.0
        self._told = (-1, -1, -1)
        self._too_many = False  # more may be here than is wanted
        self._relieved = desk.now - RELIEVE_S

    def wait_s(self, now: float) -> float:
        """After how many seconds, at most, a turn is wanted."""
        if self._too_many and self._desk.linked:
            return max(0.0, self._relieved + RELIEVE_S - now)
        return GIVE_BACK_S if self._asked else math.inf

    def ask(self, count: int) -> None:
        """The interchange wants up to so many tasks back that have not begun."""
        self._asked, self._asked_since = count, self._desk.now

    def received(self) -> None:
        """Tasks have come, maybe more than is wanted by now."""
        self._too_many = True
        if self._asked:  # it was for others who had nothing, and was before there were these
            self._asked = 0
            self._desk.say(msg.Returned([]))

    def forget(self) -> None:
        """Another interchange listens: it is told anew."""
        self._told = (-1, -1, -1)

    def give_back(self) -> None:
        """Give back what was asked for, as far as no worker has it."""
        if not self._asked:
            return
        parts = self._desk.backlog.take_last(self._asked)
        if parts or self._desk.now - self._asked_since >= GIVE_BACK_S:
            self._asked = 0
            self._desk.say(msg.Returned(refs(parts)))

    def tell(self) -> None:
        """Tell how much may be here if that has changed, and give back what is too much."""
        slots = 0 if self._desk.draining else self._leasing.open
        room = max(0, min(HELD_BYTES, UNSTORED_BYTES - self._desk.outbox.bytes))
        # Nothing is held ahead for a worker that is at one task for long: it would wait for that.
        stuck = min(slots, self._staff.stuck)
        tasks = stuck + self._pace.hold(slots - stuck) if slots and room else 0
        free = slots - stuck
        if self._leasing.active and not self._desk.draining:
            # What has needs of its own is counted one by one, beside the workers for all others.
            held = self._leasing.held
            slots, tasks = slots + held, tasks + held if room else 0
        before_tasks, before_bytes, before_slots = self._told
        if (
            slots != before_slots
            or abs(tasks - before_tasks) * 4 > before_tasks
            or abs(room - before_bytes) * 4 > before_bytes
        ):
            self._told = (tasks, room, slots)
            self._desk.say(msg.Capacity(tasks, room, slots))
            self._too_many = self._too_many or tasks < before_tasks
        if self._too_many and self._desk.now - self._relieved >= RELIEVE_S:
            self._too_many = False
            if slots and not (self._leasing.active and self._desk.backlog.sized.any_waits):
                self._relieve(free)

    def _relieve(self, free: int) -> None:
        """Give back what would wait for too long, if so many workers work it off."""
        if not self._pace.is_known:
            return
        backlog = self._desk.backlog
        most = self._pace.within(free, TOO_LONG_S)
        if most >= HOLD_TASKS:  # it is not worth counting them
            return
        waiting = sum(map(len, backlog.queue))
        if waiting > most:
            self._relieved = self._desk.now
            self._desk.say_returned(backlog.take_last(waiting - self._pace.hold(free)))

    def room_for_results(self) -> int:
        """For how many more tasks there is room for what they may make."""
        free = UNSTORED_BYTES - self._desk.outbox.bytes
        each = self._pace.result_bytes()
        if free < 0 or each < SMALL_RESULT_BYTES:
            return HOLD_TASKS if free >= 0 else 0
        given = sum(slot.tasks for slot in self._staff.slots.values())
        return max(int(free / each) - given, 0 if given else 1)
