"""What a manager holds, as the interchange knows it; runs of tasks taken apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from fxhpc.ids import from_ranges, to_ranges
from fxhpc.interchange.placement.ledger import Ledger
from fxhpc.protocol.messages import Capacity, Partition, Register, TaskRefs, TaskRun
from fxhpc.protocol.outcome import Loss, LossCause

#: A task: its stream and its index there.
Task: TypeAlias = tuple[bytes, int]


#: Where tasks must not run twice, a manager holds as many as it has ended in so many seconds, and
#: at least one for each worker. What it holds when it is lost may have run: so that is little, and
#: short tasks still need not wait for each other's results.
PROOF_S = 0.02


class Claim(NamedTuple):
    """That a manager holds a task which the forwarder has not sent to this interchange yet."""

    manager: str
    epoch: int
    attempt: int
    running: bool


class Manager:
    """One connected manager: its credit, and the tasks that it was sent and has not ended."""

    def __init__(
        self,
        peer: bytes,
        name: str,
        slots: int,
        host: str,
        now: float,
        about: Register | None = None,
    ) -> None:
        self.peer = peer
        self.name = name
        self.slots = slots  # workers that take work
        self.workers = slots  # all of them, also while it is drained
        self.host = host
        self.block = about.block if about else ""
        self.job = about.job if about else ""
        self.pid = about.pid if about else 0
        self.cores = about.cores if about else 0
        self.memory = about.memory if about else 0
        self.accelerators = about.accelerators if about else 0
        self.python = about.python if about else ""
        self.version = about.version if about else ""
        self.block_s = about.walltime_s if about else 0.0
        # When the batch system ends its block.
        self.ends = now + about.remaining_s if about and about.remaining_s else math.inf
        self.credit_tasks = 0
        self.credit_bytes = 0
        self.told = (0, slots)  # tasks and slots, as its last Capacity had them
        # What sized tasks have there; None: it knows ordinary tasks alone.
        self.ledger: Ledger | None = None
        if about is not None and about.size is not None:
            self.ledger = Ledger(about.size, labels_of(about))
        self.held: dict[bytes, dict[int, TaskRun]] = {}
        self.held_tasks = 0
        self.held_bytes = 0
        self.running: dict[tuple[bytes, int], float] = {}  # and since when, as far as it is known
        self.suspect: tuple[bytes, int] | None = None
        self.cancelled: dict[tuple[bytes, int], bool] = {}  # of what it holds: running ones too?
        self.bodies: set[bytes] = set()
        self.heard = now
        self.greeted = now
        self.asked_back = False
        self.draining = False
        self.ended = 0  # tasks that have ended well there
        # How many ended within `PROOF_S` of late: it holds no more. None: as many as it wants.
        self.proven: int | None = None
        self._ending = (0.0, 0)  # since when so many have ended
        # The one suspect that it runs is to run without any others; it takes nothing until it has.
        self.alone = False
        self.kept_free = False  # likewise, as soon as what it holds has ended
        # The task over several nodes that has it for itself, or shall have it when it is empty.
        self.lent: Partition | None = about.lent if about else None
        # Those that have changed since somebody looked, see `Roster`.
        self.changed: list[Manager] = []
        self.is_changed = False
        # After a greeting: Results that will be sent again, and tasks that only they can explain.
        self.unstored: set[int] = set()
        self.missing: list[tuple[bytes, int]] = []

    @property
    def free(self) -> int:
        """How many more tasks it wants."""
        if self.draining or self.is_reserved:
            return 0
        if self.held_tasks and self.held_bytes >= self.credit_bytes:
            return 0
        most = self.credit_tasks
        if self.proven is not None:
            most = min(most, max(self.slots, self.proven))
        return max(0, most - self.held_tasks)

    def credited(self, message: Capacity) -> None:
        """It tells how much it wants to hold."""
        self.told = (message.tasks, message.slots)
        self.credit_tasks, self.credit_bytes = message.tasks, message.bytes
        self.slots = message.slots
        if self.ledger:
            self._count_cells(self.ledger)
        self.touch()

    def _count_cells(self, ledger: Ledger) -> None:
        """The cells of sized tasks are nobody else's, also before it has told so itself."""
        tasks, slots = self.told
        self.slots = min(slots, ledger.slots) if ledger else slots
        self.credit_tasks = tasks * self.slots // slots if slots else tasks

    @property
    def in_way(self) -> int:
        """Cells that ordinary tasks have for longer than a moment."""
        assert self.ledger is not None
        tasks, slots = self.told
        # If it wants to hold some ahead, they are short.
        return 0 if tasks > slots else self.held_tasks - len(self.ledger)

    def prove(self, count: int, now: float) -> None:
        """Note that so many tasks have ended there."""
        self.doubt(now)
        since, ended = self._ending
        if now - since > PROOF_S:
            self.proven, since, ended = ended, now, 0
        self._ending = since, ended + count
        self.proven = max(self.proven or 0, ended + count)

    def doubt(self, now: float) -> None:
        """Forget what has ended if that is long ago."""
        if now - self._ending[0] > 2 * PROOF_S:
            self.proven, self._ending = 0, (now, 0)

    @property
    def is_reserved(self) -> bool:
        """Whether it takes no more for now, since a task runs or shall run there alone."""
        return self.alone or self.kept_free or self.lent is not None

    @property
    def is_emptied(self) -> bool:
        """Whether a sized task waits there until others have ended."""
        ledger = self.ledger
        if ledger is None or not ledger:
            return False
        return bool(ledger.waiting) or ledger.free_cells < self.in_way

    @property
    def load(self) -> float:
        """Tasks for each of its workers; below 1, one of them has nothing to do."""
        return self.held_tasks / max(1, self.slots)

    @property
    def takes_work(self) -> bool:
        """Whether it would take tasks if it had room."""
        return self.slots > 0 and not self.draining

    def touch(self) -> None:
        """Note that it may have more room now, or less."""
        if not self.is_changed:
            self.is_changed = True
            self.changed.append(self)

    def hold(self, run: TaskRun) -> None:
        """Note that these tasks are there now."""
        count = len(run.payloads)
        self.held.setdefault(run.stream, {}).update(
            dict.fromkeys(range(run.first, run.first + count), run)
        )
        self.held_tasks += count
        self.held_bytes += sum(map(len, run.payloads))
        if run.suspect:
            self.suspect = (run.stream, run.first)
        if run.needs and self.ledger is not None:
            for index in range(run.first, run.first + count):
                self.ledger.hold((run.stream, index), run.needs)
            self._count_cells(self.ledger)
        self.touch()

    def release(self, stream: bytes, index: int) -> TaskRun | None:
        """Note that this task is not there any more; the run that it came in, or None."""
        tasks = self.held.get(stream)
        run = tasks.pop(index, None) if tasks is not None else None
        if tasks is None or run is None:
            return None
        if not tasks:
            del self.held[stream]
        self.held_tasks -= 1
        self.held_bytes -= len(run.payloads[index - run.first])
        if self.running:
            self.running.pop((stream, index), None)
        if self.suspect == (stream, index):
            self.suspect = None
            self.alone = False
        if run.needs and self.ledger is not None:
            self.ledger.release((stream, index))
            self._count_cells(self.ledger)
        self.touch()
        if self.cancelled:
            self.cancelled.pop((stream, index), None)
        return run

    def oldest(self, count: int) -> set[tuple[bytes, int]]:
        """The tasks that it was sent first: those that may have begun."""
        found: set[tuple[bytes, int]] = set()
        for stream, index, _ in self.tasks():
            if len(found) >= count:
                break
            found.add((stream, index))
        return found

    def tasks(self) -> Iterator[tuple[bytes, int, TaskRun]]:
        """All that it holds."""
        for stream, tasks in self.held.items():
            for index, run in tasks.items():
                yield stream, index, run


def labels_of(about: Register) -> list[str]:
    """What tasks may ask for that are to run there: the labels of its node, and its own."""
    labels = [*about.labels, f"host:{about.host}", f"host:{about.host.partition('.')[0]}"]
    return [*labels, f"block:{about.block}"] if about.block else labels


def slice_run(run: TaskRun, start: int, stop: int) -> TaskRun:
    """The tasks at positions start to stop of a run."""
    return TaskRun(
        run.stream,
        run.first + start,
        run.function,
        run.payloads[start:stop],
        run.epoch,
        run.attempt,
        run.shared,
        run.retries,
        run.result_limit,
        run.sent_before,
        run.suspect,
        run.walltime_s,
        run.capture,
        run.spill,
        run.calls,
        run.given_up,
        run.needs,
        run.kept,
    )


def split_run(run: TaskRun, count: int) -> tuple[TaskRun, TaskRun]:
    """The first `count` tasks of a run, and the rest."""
    return slice_run(run, 0, count), slice_run(run, count, len(run.payloads))


def single(run: TaskRun, index: int) -> TaskRun:
    """One task of a run, as a run of its own."""
    return slice_run(run, index - run.first, index - run.first + 1)


def without(run: TaskRun, indices: set[int]) -> list[TaskRun]:
    """What is left of a run when some of its tasks are taken out."""
    kept = [i for i in range(run.first, run.first + len(run.payloads)) if i not in indices]
    ranges = to_ranges(kept)
    return [
        slice_run(run, first - run.first, first - run.first + count)
        for first, count in zip(ranges[::2], ranges[1::2], strict=True)
    ]


def refs(tasks: dict[bytes, list[int]]) -> list[TaskRefs]:
    """Indices by stream, as a message names them."""
    return [TaskRefs(stream, to_ranges(indices)) for stream, indices in tasks.items()]


def each(tasks: list[TaskRefs]) -> Iterator[tuple[TaskRefs, int]]:
    """Every task that a message names."""
    for ref in tasks:
        for index in from_ranges(ref.ranges):
            yield ref, index


def manager_lost(
    manager: Manager, why: str, ran: bool, cause: LossCause = LossCause.MANAGER_LOST
) -> Loss:
    """The loss of a task whose manager is gone.

    Args:
        ran: whether it is known to have begun.
        cause: MANAGER_LOST, or INTERRUPTED or WALLTIME if it is known who ended the manager.
    """
    doing = "ran" if ran else "may have run"
    return Loss(
        cause,
        f"the task {doing} on {manager.host or 'a host'} when its manager {manager.name}"
        f"{in_block(manager)} was lost: {why}",
        host=manager.host,
    )


def unreadable() -> Loss:
    """The loss of a task whose outcome cannot be read any more."""
    return Loss(
        LossCause.INTERRUPTED,
        "the task may have ended, but the endpoint's spool, which kept its result while the "
        "home's forwarder was away, was damaged on the disk",
    )


def unclaimed() -> Loss:
    """The loss of a task that was sent, nobody knows to whom, and that nobody has."""
    return Loss(
        LossCause.MANAGER_LOST,
        "the task may have run: it had been sent before the interchange was started again, whose "
        "journal does not say to which manager, and no manager that is there has it",
    )


def in_block(manager: Manager) -> str:
    """ " in block 7, job 123", as far as that is known."""
    block = f" in block {manager.block}" if manager.block else ""
    return f"{block}, job {manager.job}" if block and manager.job else block


def one_ref(ref: TaskRefs, index: int) -> TaskRefs:
    """One task of those that are named together."""
    return TaskRefs(ref.stream, [index, 1], ref.epoch, ref.attempt)
