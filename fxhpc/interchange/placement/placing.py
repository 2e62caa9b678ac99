"""Which manager gets which of the tasks that have needs of their own, and when it is their turn.

* A task goes where it fits now, and leaves least: so whole nodes stay whole for larger ones.
* Classes share what there is, ordinary tasks being one of them: whoever has the smaller part of all
  that it wants is next, so that none starves and all come to their end together. A node where tasks
  of a class end goes on with that class as long as that is fair: emptying it for another costs.
* What fits nowhere now gets *one* manager, as a reservation: the first task of the class is sent
  there, and waits until its cells are free; nobody else gets these. Small tasks go on elsewhere,
  and in the other cells there. (As EASY does it: Lifka 1995; Mu'alem and Feitelson 2001.)
* More urgent classes come first, and less urgent ones when nothing else can use what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

from fxhpc.interchange.blocks import walltimes
from fxhpc.interchange.held import Manager
from fxhpc.interchange.placement.sized import Line
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import DEFAULT_PRIORITY
from fxhpc.protocol.outcome import Outcome

#: Of all managers, one in so many is being emptied for larger tasks; at least one is.
EMPTIED = 4

#: Seconds for which the part that ordinary tasks have is not counted again.
COUNTED_S = 0.05

#: Of short tasks that nobody else waits behind, work for so many seconds is held ahead, and at most
#: so many tasks for each that runs: if one of them takes long after all, no more wait for it.
HOLD_S, HOLD_TASKS = 0.02, 16
SHORT_S = 0.01

#: Classes of which it is known how long their tasks take.
MEASURED = 1000

_Batches: TypeAlias = dict[bytes, list[msg.TaskRun]]
_Within: TypeAlias = Callable[[Manager, msg.TaskRun], list[msg.TaskRun]]
_Assign: TypeAlias = Callable[[Manager, msg.TaskRun, _Batches], None]


class Placing:
    """Sends sized tasks.

    Args:
        within: as much of a run as a manager has bytes for; the rest waits again.
        assign: gives a run to a manager.
    """

    def __init__(self, state: State, within: _Within, assign: _Assign) -> None:
        self._state = state
        self._within = within
        self._assign = assign
        self._reserved: dict[bytes, Manager] = {}  # by class: where its next task waits
        self._emptied = 0  # how many of these are emptied: one cell is free soon anyway
        self._took: dict[bytes, float] = {}  # seconds that a task of a class takes, of late
        self._lines: list[Line] = []  # of this event
        self._passed: list[Line] = []  # those of them whose turn it was not
        self._ordinary = 0  # thousandths of a core that ordinary tasks have
        self._counted_at = -math.inf
        self._served_at = -math.inf  # when ordinary tasks had anything last, or wanted nothing

    @property
    def reserved(self) -> dict[bytes, Manager]:
        """The managers that are being emptied, by the class that waits there."""
        return self._reserved

    def could_have(self, manager: Manager, packed: bytes) -> bool:
        """Whether a task that needs this could run at a manager, if nothing else did."""
        return manager.ledger is not None and bool(manager.ledger.wanted(packed).cells)

    def may_have(self, manager: Manager, run: msg.TaskRun) -> bool:
        """Whether it could, and no other waits there to do so."""
        return self.could_have(manager, run.needs) and not manager.is_emptied

    def find(
        self, run: msg.TaskRun, among: Callable[[Manager], bool] = lambda manager: True
    ) -> Manager | None:
        """Where a single task that is apart fits first: it need not fit there now."""
        best: tuple[int, Manager] | None = None
        for manager in self._state.managers.values():
            ledger = manager.ledger
            if (
                ledger is not None
                and self._is_open(manager)
                and self.may_have(manager, run)
                and self._has_bytes(manager)
                and among(manager)
                and run.walltime_s <= self._left_s(manager)
            ):
                room = ledger.cores - manager.in_way * ledger.cell_cores
                if best is None or room > best[0]:
                    best = room, manager
        return None if best is None else best[1]

    # --- placing --------------------------------------------------------------------------------

    def place(self, changed: Iterable[Manager], batches: _Batches) -> None:
        """Before ordinary tasks: whose turn it is.

        Args:
            changed: managers that may have more room than when this was called last.
        """
        self._passed = []
        self._settle()
        state = self._state
        if not state.sized:
            return
        if not state.queue:
            self._served_at = state.now
        elif state.now >= self._counted_at + COUNTED_S:
            self._count_ordinary()
        # The larger first: where a large one has ended another fits, and small ones fit elsewhere.
        self._lines = sorted(
            state.sized.first_lines(),
            key=lambda line: (line.priority, -line.cores, self._part(line)),
        )
        there = state.managers
        some = [one for one in changed if there.get(one.peer) is one and self._is_open(one)]
        every: list[Manager] | None = None
        for line in self._lines:
            if line.unfit and any(self.could_have(one, line.packed) for one in some):
                line.look_at = -math.inf
            if state.now < line.look_at:
                found = some
            else:
                every = self._every() if every is None else every
                found = every
                self._look(line, found)
            self._place_line(line, found, batches)
            if line.turns and not line.unfit:
                self._reserve(line, batches)
            if line.turns and 0 < self._took.get(line.packed, 0.0) <= SHORT_S:
                self._hold_ahead(line, found, batches)

    def place_rest(self, batches: _Batches) -> None:
        """After ordinary tasks: what is left, whoever can use it."""
        if not self._passed:
            return
        # One that has not told yet that a sized task has ended has more room than it seems.
        found = [
            one
            for one in self._every()
            if one.ledger is not None and (not one.ledger or one.slots >= one.ledger.slots)
        ]
        for line in self._passed:
            if line.turns:
                self._place_line(line, found, batches, fair=False)

    def _look(self, line: Line, managers: list[Manager]) -> None:
        """See what tasks of a line take, and whether anybody who is there can run them."""
        wants = [one.ledger.wanted(line.packed) for one in managers if one.ledger is not None]
        line.cores = max((want.cores for want in wants), default=0)
        line.cells = max((want.cells for want in wants), default=0)
        line.unfit = bool(managers) and not any(want.cells for want in wants)
        line.look_at = math.inf if managers else -math.inf
        if line.unfit:
            self._state.sized.pass_over(line)

    def _place_line(
        self, line: Line, managers: list[Manager], batches: _Batches, *, fair: bool = True
    ) -> None:
        fitting: list[tuple[int, int, Manager]] = []
        for number, manager in enumerate(managers):
            assert manager.ledger is not None
            want, ledger = manager.ledger.wanted(line.packed), manager.ledger
            if not want.cells or ledger.waiting:
                continue
            spare = ledger.cores - manager.in_way * ledger.cell_cores - want.cores
            if spare >= 0:
                fitting.append((spare, number, manager))
        fitting.sort()
        for _, _, manager in fitting:
            if not line.turns:
                return
            if not self._is_open(manager):
                continue
            if fair and not self._is_turn(line):
                line.look_at = self._state.now + COUNTED_S
                self._passed.append(line)
                return
            self._fill(line, manager, batches, fair=fair)

    def _fill(self, line: Line, manager: Manager, batches: _Batches, *, fair: bool) -> None:
        """As many tasks as fit at a manager; while others wait, one by one."""
        assert manager.ledger is not None
        while line.turns and self._has_bytes(manager) and (not fair or self._is_turn(line)):
            most = 1 if fair and self._others(line) else len(line.turns)
            count = manager.ledger.fitting(line.packed, most, manager.in_way)
            if not count or not self._give(line, manager, count, batches):
                return

    def _give(self, line: Line, manager: Manager, count: int, batches: _Batches) -> bool:
        runs = self._state.sized.take(line, count, self._left_s(manager))
        if runs:
            line.served_at = self._state.now
        given = False
        for run in runs:
            for part in self._within(manager, run):
                self._assign(manager, part, batches)
                given = True
        return given

    def ended(self, packed: bytes, outcomes: list[Outcome]) -> None:
        """Tasks of a class have ended: note how long they take."""
        mean = sum(outcome.ran for outcome in outcomes) / len(outcomes)
        if not mean:
            return  # they have not run
        before = self._took.pop(packed, mean)
        self._took[packed] = 0.5 * (before + mean)
        if len(self._took) > MEASURED:
            del self._took[next(iter(self._took))]

    def _hold_ahead(self, line: Line, managers: list[Manager], batches: _Batches) -> None:
        """Short tasks go where others of their class run, before these have ended."""
        if self._others(line):
            return
        each = min(HOLD_TASKS, int(HOLD_S / self._took[line.packed]))
        for manager in managers:
            assert manager.ledger is not None
            count = manager.ledger.ahead(line.packed, each)
            if count > 0 and line.turns and self._has_bytes(manager):
                self._give(line, manager, count, batches)

    # --- reservations ---------------------------------------------------------------------------

    def _settle(self) -> None:
        """Reservations are over when what waited there runs."""
        self._emptied = 0
        for packed, manager in list(self._reserved.items()):
            there = self._state.managers.get(manager.peer) is manager and not manager.draining
            if not (there and manager.is_emptied):
                del self._reserved[packed]
            elif manager.ledger is not None and manager.ledger.wanted(packed).cells > 1:
                self._emptied += 1

    def _reserve(self, line: Line, batches: _Batches) -> None:
        """The first task of a line that fits nowhere gets the manager where it will fit first."""
        managers = self._state.managers
        if (
            line.packed in self._reserved
            or (line.cells > 1 and self._emptied >= max(1, len(managers) // EMPTIED))
            or not self._is_worth_emptying(line)
        ):
            return
        emptied = {*self._reserved.values()}
        best: tuple[int, Manager] | None = None
        for manager in managers.values():
            ledger = manager.ledger
            if (
                ledger is None
                or manager in emptied
                or not self._is_open(manager)
                or ledger.waiting
                or not ledger.wanted(line.packed).cells
            ):
                continue
            room = ledger.cores - manager.in_way * ledger.cell_cores
            if best is None or room > best[0]:
                best = room, manager
        if best is None or not self._give(line, best[1], 1, batches):
            return
        manager = best[1]
        self._reserved[line.packed] = manager
        self._emptied += line.cells > 1
        assert manager.ledger is not None
        ordinary = manager.held_tasks - len(manager.ledger)
        if manager.ledger.free_cells < ordinary and not manager.asked_back:
            manager.asked_back = True
            back = msg.GiveBack(ordinary - manager.ledger.free_cells)
            self._state.to_manager(manager.peer, back)

    # --- whose turn it is -----------------------------------------------------------------------

    def _others(self, line: Line) -> list[tuple[int, int, float]]:
        """Of the others that wait and are as urgent: what they have, what they want in all, and
        when they got something last.
        """
        others = [
            (self._has(other), self._wants(other), other.served_at)
            for other in self._lines
            if other is not line
            and other.turns
            and not other.unfit
            and other.priority == line.priority
        ]
        queue = self._state.queue
        if queue and line.priority == DEFAULT_PRIORITY:
            each = max(1, self._cell_cores())
            wants = self._ordinary + len(queue) * each
            others.append((self._ordinary, wants, self._served_at))
        return others

    def _is_turn(self, line: Line) -> bool:
        """Whether the others would not have less than it, had they got what it wants now; and none
        has waited for longer that has nothing.
        """
        if self._state.queue and line.priority > DEFAULT_PRIORITY:
            return False
        part, cores = self._part(line), line.cores
        return all(
            part <= (has + cores) / max(1, wants) and (has or served_at >= line.served_at)
            for has, wants, served_at in self._others(line)
        )

    def _is_worth_emptying(self, line: Line) -> bool:
        """Whether it would still not have more than the others, if these lost what it wants."""
        if self._state.queue and line.priority > DEFAULT_PRIORITY:
            return False
        has, others = self._has(line), self._others(line)
        if not has:
            return all(theirs or served_at >= line.served_at for theirs, _, served_at in others)
        part, cores = (has + line.cores) / max(1, self._wants(line)), line.cores
        return all(part <= (has - cores) / max(1, wants) for has, wants, _ in others)

    def _has(self, line: Line) -> int:
        return self._state.sized.held[line.packed] * line.cores

    def _wants(self, line: Line) -> int:
        return (self._state.sized.held[line.packed] + len(line.turns)) * line.cores

    def _part(self, line: Line) -> float:
        return self._has(line) / max(1, self._wants(line))

    def _count_ordinary(self) -> None:
        self._counted_at = self._state.now
        self._ordinary = 0
        for manager in self._state.managers.values():
            ledger = manager.ledger
            if ledger is not None:
                held = min(manager.held_tasks - len(ledger), ledger.free_cells)
                self._ordinary += max(0, held) * ledger.cell_cores
        if self._ordinary:
            self._served_at = self._state.now

    def _cell_cores(self) -> int:
        for manager in self._state.managers.values():
            if manager.ledger is not None:
                return manager.ledger.cell_cores
        return 0

    # --- managers -------------------------------------------------------------------------------

    def _every(self) -> list[Manager]:
        return [manager for manager in self._state.managers.values() if self._is_open(manager)]

    def _is_open(self, manager: Manager) -> bool:
        return (
            manager.ledger is not None
            and manager.takes_work
            and not manager.is_reserved
            and manager.credit_bytes > 0
        )

    def _left_s(self, manager: Manager) -> float:
        return manager.ends - self._state.now - walltimes.MARGIN_S

    def _has_bytes(self, manager: Manager) -> bool:
        return not manager.held_tasks or manager.held_bytes < manager.credit_bytes
