"""Starts workers, for cells and for leases; gives up where they die before they can do anything."""

from __future__ import annotations

from collections import Counter

from fxhpc.manager import events as ev
from fxhpc.manager import losses
from fxhpc.manager.desk import Desk
from fxhpc.manager.held import Part, Slot
from fxhpc.protocol.needs import Lease

#: Workers that die in a row before they are ready, until that is said to be hopeless; and how long
#: it takes until the next one is tried.
HOPELESS = 3
RETRY_S = 5.0

#: Classes of which it is known that their workers die so.
_FAILING = 1000


class Hiring:
    """Who is started, and who is not.

    Args:
        slots: the workers that are not known to be dead; those that are started come in.

    Attributes:
        sized: of these, those that have a lease, for tasks of one class.
        hopeless: the last of several that died before they could do anything.
    """

    def __init__(self, desk: Desk, slots: dict[int, Slot]) -> None:
        self.sized: dict[int, Slot] = {}
        self.hopeless: ev.WorkerGone | None = None
        self._slots = slots
        self._desk = desk
        self._cells = list(range(desk.host.slots))  # that have no worker
        self._next_worker = 1
        self._failures = 0
        self._class_failures: Counter[bytes] = Counter()
        self._class_hopeless: dict[bytes, tuple[ev.WorkerGone, float]] = {}  # until when
        self._retry_at = 0.0

    def fill(self) -> None:
        """Start workers until there is one for each cell."""
        while self._cells:
            self._start()

    def start_sized(self, needs: bytes, lease: Lease) -> Slot:
        """Have a worker made for tasks that need this, and have this."""
        slot = Slot(self._next_worker, needs=needs, lease=lease)
        self._next_worker += 1
        self._slots[slot.worker] = self.sized[slot.worker] = slot
        lent = self._desk.lent
        hosts = tuple(member.host for member in lent.members) if lent is not None else ()
        self._desk.actions.append(ev.StartWorker(slot.worker, slot.cell, lease, needs, hosts))
        return slot

    def is_ready(self, slot: Slot) -> None:
        """A worker has come so far that it can be given something."""
        if slot.needs:
            self._class_failures.pop(slot.needs, None)
            self._class_hopeless.pop(slot.needs, None)
        self._failures = 0
        if self.hopeless is not None:
            self.hopeless = None
            self.fill()

    def replace(self, slot: Slot, gone: ev.WorkerGone) -> None:
        """Start another worker in the place of one that died, if that was no one's own."""
        self.sized.pop(slot.worker, None)
        if self._desk.leaving:
            return
        died_early = not slot.ready and not gone.seed_lost and not slot.dismissed
        if slot.lease is not None:
            if died_early:
                self._note_failure(slot.needs, gone)
            return
        self._cells.append(slot.cell)
        if died_early:
            self._failures += 1
            if self._failures >= HOPELESS:
                self.hopeless, self._retry_at = gone, self._desk.now + RETRY_S
                return
        if self.hopeless is None or not self._ordinary:
            self._start()

    def lose_hopeless(self, needs: bytes) -> bool:
        """Whether no worker for tasks that need this could be started just now; then they are told
        so at once: each attempt would keep others from what it holds, for as long as it takes.
        """
        gone, until = self._class_hopeless.get(needs, (None, 0.0))
        if gone is None:
            return False
        if self._desk.now >= until:
            del self._class_hopeless[needs]
            return False
        self._lose(self._desk.backlog.sized.take_class(needs), gone)
        return True

    def turn(self) -> bool:
        """Where workers cannot be started, try one again now and then. If there is none at all, say
        so of all tasks.

        Returns whether one is tried.
        """
        gone = self.hopeless
        if gone is None:
            return False
        is_due = self._desk.now >= self._retry_at
        if self._ordinary:  # others do the work, or this one is being tried
            if not (is_due and self._cells):
                return False
        elif not is_due:
            self._lose(self._desk.backlog.take_all(), gone)
            return False
        elif not self._desk.backlog:
            return False
        self._failures = HOPELESS - 1
        self._retry_at = self._desk.now + RETRY_S
        self._start()
        return True

    def _note_failure(self, needs: bytes, gone: ev.WorkerGone) -> None:
        """A worker of a class has died early: of the last of several, its tasks are told."""
        failures = self._class_failures
        failures[needs] += 1
        if failures[needs] >= HOPELESS:
            # Until one comes up each further one is the last of several: others wait meanwhile.
            failures[needs] = HOPELESS - 1
            self._class_hopeless[needs] = gone, self._desk.now + RETRY_S
            self._lose(self._desk.backlog.sized.take_class(needs), gone)
        if len(failures) > _FAILING:
            oldest = next(iter(failures))
            del failures[oldest]
            self._class_hopeless.pop(oldest, None)

    @property
    def _ordinary(self) -> int:
        """How many workers there are for all tasks."""
        return self._desk.host.slots - len(self._cells)

    def _start(self) -> None:
        slot = Slot(self._next_worker, self._cells.pop(0))
        self._next_worker += 1
        self._slots[slot.worker] = slot
        self._desk.actions.append(ev.StartWorker(slot.worker, slot.cell))

    def _lose(self, parts: list[Part], gone: ev.WorkerGone) -> None:
        self._desk.lose(
            [
                losses.lost(one, losses.unstartable(one, gone, self._desk.host))
                for part in parts
                for one in (part.take(1) for _ in range(len(part)))
            ]
        )
