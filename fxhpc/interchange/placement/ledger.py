"""What of a node tasks with needs of their own have, as far as the interchange knows.

The manager alone knows in which cells of its node something runs. The interchange counts: what it
has sent there takes room from then on, until it has ended or come back. Ordinary tasks take cells,
but are not entered here one by one: there are too many of them, and all are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from fxhpc.protocol.needs import Lease, Needs, Room, Size, needs_of

_Task: TypeAlias = tuple[bytes, int]


class Want(NamedTuple):
    """What a task takes of a node where nobody else has anything."""

    cells: int = 0  # that others cannot have then; 0: it never fits there
    cores: int = 0  # thousandths


_NEVER = Want()


class Ledger:
    """The sized tasks that a manager was sent.

    Args:
        size: what its node has.
        labels: those of its node.

    Attributes:
        waiting: those for which there is no room yet, in their order, and their needs.
        free_cells: cells of which no sized task has anything.
        cores: thousandths that no sized task has.
    """

    def __init__(self, size: Size, labels: Iterable[str] = ()) -> None:
        self.size = size
        self.labels = frozenset(labels)
        self.waiting: dict[_Task, bytes] = {}
        self.free_cells = len(size.cells)
        self.cores = size.cores
        self._held: Counter[bytes] = Counter()  # how many of each class it has
        self._total: Counter[bytes] = Counter()  # the same of all managers
        #: Of a worker's cell, on average: what an ordinary task takes.
        self.cell_cores = size.cores // len(size.cells) if size.cells else 0
        self._room = Room(size)
        self._leases: dict[_Task, tuple[bytes, Lease]] = {}
        self._wanted: dict[bytes, Want] = {}
        self._avoided: dict[bytes, float] = {}  # classes, and until when

    def __len__(self) -> int:
        """How many sized tasks it has, whether there is room for them or not."""
        return len(self._leases) + len(self.waiting)

    @property
    def slots(self) -> int:
        """How many tasks can run or are to run next: of those that it has, and ordinary ones.

        The first that waits is about to have its cells: nobody else gets them.
        """
        free = self.free_cells
        if self.waiting:
            first = next(iter(self.waiting.values()))
            free = max(0, free - self.wanted(first).cells)
        return free + len(self)

    @property
    def extra_cells(self) -> int:
        """Cells that its sized tasks have or wait for, beyond one for each."""
        leased = len(self.size.cells) - self.free_cells
        waits = sum(max(1, self.wanted(packed).cells) for packed in self.waiting.values())
        return max(0, leased + waits - len(self))

    def ahead(self, packed: bytes, each: int) -> int:
        """How many more tasks of a class may wait here for those that run, so many for each."""
        if any(other != packed for other in self.waiting.values()):
            return 0
        run = self._held[packed] - len(self.waiting)
        return run * each - len(self.waiting)

    def wanted(self, packed: bytes) -> Want:
        """What tasks of a class take here."""
        if packed in self._avoided:
            return _NEVER
        want = self._wanted.get(packed)
        if want is None:
            want = self._wanted[packed] = self._find_wanted(needs_of(packed))
        return want

    def avoid(self, packed: bytes, until: float) -> None:
        """No more tasks of a class are to go there: their container does not start."""
        self._avoided[packed] = until

    def forgive(self, now: float) -> None:
        """What is avoided may be tried again, if its time has come."""
        for packed in [packed for packed, until in self._avoided.items() if until <= now]:
            del self._avoided[packed]

    def _find_wanted(self, needs: Needs) -> Want:
        if not self.labels.issuperset(needs.labels):
            return _NEVER
        room = Room(self.size)
        lease = room.take(needs)
        if lease is None:
            return _NEVER
        free = sum(map(room.is_free, range(len(self.size.cells))))
        cells = max(1, len(self.size.cells) - free)
        return Want(cells, sum(part for _, part in lease.cores))

    def fitting(self, packed: bytes, most: int, kept: int) -> int:
        """How many tasks of a class, at most so many, fit now beside what is there.

        Args:
            kept: cells in which ordinary tasks run.
        """
        if self.waiting or not self.wanted(packed).cells:
            return 0
        needs, room = needs_of(packed), self._room
        taken: list[Lease] = []
        while len(taken) < most:
            lease = room.take(needs)
            if lease is None:
                break
            taken.append(lease)
            if kept and self._count_free() < kept:
                room.give_back(taken.pop())
                break
        for lease in taken:
            room.give_back(lease)
        return len(taken)

    def join(self, total: Counter[bytes]) -> None:
        """Its tasks count among those of all managers, by class."""
        self._total = total
        total.update(self._held)

    def leave(self) -> None:
        """They do not any more."""
        total, self._total = self._total, Counter()
        for packed, count in self._held.items():
            total[packed] -= count
            if not total[packed]:
                del total[packed]

    def _count(self, packed: bytes, change: int) -> None:
        for held in (self._held, self._total):
            held[packed] += change
            if not held[packed]:
                del held[packed]

    def hold(self, task: _Task, packed: bytes) -> None:
        """It was sent this task."""
        self.release(task)
        self._count(packed, 1)
        self.waiting[task] = packed
        self._let_in()

    def release(self, task: _Task) -> None:
        """It does not have this task any more, if it had it."""
        if leased := self._leases.pop(task, None):
            packed, lease = leased
            self._room.give_back(lease)
            self.cores += sum(part for _, part in lease.cores)
            self.free_cells = self._count_free()
        elif packed := self.waiting.pop(task, b""):
            pass
        else:
            return
        self._count(packed, -1)
        self._let_in()

    def _let_in(self) -> None:
        """Those that wait get what there is, in their order: none passes another."""
        while self.waiting:
            task, packed = next(iter(self.waiting.items()))
            lease = self._room.take(needs_of(packed))
            if lease is None:
                return
            del self.waiting[task]
            self._leases[task] = packed, lease
            self.cores -= sum(part for _, part in lease.cores)
            self.free_cells = self._count_free()

    def _count_free(self) -> int:
        return sum(map(self._room.is_free, range(len(self.size.cells))))
