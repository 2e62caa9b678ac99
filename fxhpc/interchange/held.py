"""What a manager holds, as the interchange knows it, and what became of tasks that were lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from fxhpc.ids import from_ranges, to_ranges
from fxhpc.protocol.messages import Register, TaskRefs, TaskRun
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
        return self.alone or self.kept_free

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


#: So many lost managers are remembered, in case that they come back.
MOST_BLAMED = 1_000


class Histories:
    """What happened to tasks that were lost at least once. Empty in good times."""

    def __init__(self) -> None:
        self._stories: dict[Task, list[str]] = {}
        self._charges: dict[Task, list[str]] = {}  # the host of each death that counts
        # How often the end of a block cut it off, and how long it ran at most.
        self._cut_offs: dict[Task, tuple[int, float]] = {}
        # Suspects that lost a manager where others ran too: how many managers.
        self._lost_among: dict[Task, int] = {}
        # How many managers were lost with it, and how many of these it had for itself.
        self._managers: dict[Task, tuple[int, int]] = {}
        # Suspects that lost a manager, by its name: should it come back, they did not.
        self._blamed: dict[str, list[Task]] = {}

    def __bool__(self) -> bool:
        return bool(self._stories)

    def add(self, task: Task, loss: Loss, charges: int) -> int:
        """Note a loss that counts so often; how many now count against the task."""
        self._stories.setdefault(task, []).append(loss.text)
        if charges:
            self._charges.setdefault(task, []).extend([loss.host] * charges)
        return self.charged(task)

    def charged(self, task: Task) -> int:
        """How many losses count against it."""
        return len(self._charges.get(task, ()))

    def charged_on(self, task: Task) -> frozenset[str]:
        """The hosts where it lost a worker, or a manager, and was to blame for it."""
        return frozenset(filter(None, self._charges.get(task, ())))

    def take_charges(self, task: Task, host: str) -> None:
        """That host was to blame, and not the task."""
        if charges := self._charges.get(task):
            charges[:] = [each for each in charges if each != host]

    def lost_manager(self, task: Task, alone: bool) -> None:
        """A manager was lost with it; whether it had it for itself."""
        managers, alone_times = self._managers.get(task, (0, 0))
        self._managers[task] = managers + 1, alone_times + alone

    def managers_lost(self, task: Task) -> tuple[int, int]:
        """How many managers were lost with it, and how many of these it had for itself."""
        return self._managers.get(task, (0, 0))

    def lost_among_others(self, task: Task) -> None:
        """A suspect lost a manager, and any of those that ran there may have done it."""
        self._lost_among[task] = self._lost_among.get(task, 0) + 1

    def must_be_alone(self, task: Task) -> bool:
        """Whether it is to run on a manager of its own, so that it is known who has done it."""
        return task in self._lost_among

    def convict(self, task: Task) -> int:
        """It lost a manager that it had for itself: how many losses count against it now."""
        among = self._lost_among.get(task, 0)
        self._lost_among[task] = 0
        return among + 1

    def blame(self, task: Task, manager: str) -> None:
        """A suspect may have lost this manager; or it is only cut off, and comes back."""
        self._blamed.setdefault(manager, []).append(task)
        if len(self._blamed) > MOST_BLAMED:
            del self._blamed[next(iter(self._blamed))]

    def acquit(self, manager: str) -> None:
        """This manager lives: nothing that ran there has ended it."""
        for task in self._blamed.pop(manager, ()):
            managers, alone_times = self.managers_lost(task)
            self._managers[task] = max(0, managers - 1), max(0, alone_times - 1)
            if charges := self._charges.get(task):
                charges.pop()
            elif self._lost_among.get(task):
                self._lost_among[task] -= 1

    def cut_off(self, task: Task, ran_s: float) -> tuple[int, float]:
        """Note that the end of a block cut it off; how often that was, and its longest run."""
        count, longest_s = self._cut_offs.get(task, (0, 0.0))
        self._cut_offs[task] = count + 1, max(longest_s, ran_s)
        return self._cut_offs[task]

    def earlier(self, task: Task) -> list[str]:
        """The stories of all losses but the last."""
        return self._stories.get(task, [])[:-1]

    def forget(self, task: Task) -> None:
        """The task has ended."""
        for known in (
            self._stories,
            self._charges,
            self._cut_offs,
            self._lost_among,
            self._managers,
        ):
            known.pop(task, None)


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
