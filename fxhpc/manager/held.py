"""What a manager holds: parts of runs, and for each worker which of them it was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from fxhpc.ids import to_ranges
from fxhpc.manager.resources.nearing import Over
from fxhpc.protocol.messages import TaskRefs, TaskRun
from fxhpc.protocol.needs import Lease


class Part:
    """Consecutive tasks of a run: those at its positions `start` up to `stop`."""

    __slots__ = ("run", "start", "stop")

    def __init__(self, run: TaskRun, start: int, stop: int) -> None:
        self.run = run
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def take(self, count: int) -> Part:
        """Cut off the first `count` tasks."""
        head = Part(self.run, self.start, self.start + count)
        self.start += count
        return head

    def take_last(self, count: int) -> Part:
        """Cut off the last `count` tasks."""
        tail = Part(self.run, self.stop - count, self.stop)
        self.stop -= count
        return tail

    @property
    def first(self) -> int:
        """The index, in the stream, of the first task."""
        return self.run.first + self.start

    @property
    def indices(self) -> range:
        """The indices, in the stream, of its tasks."""
        return range(self.run.first + self.start, self.run.first + self.stop)

    def payload_bytes(self) -> int:
        """Bytes of arguments."""
        return sum(map(len, self.run.payloads[self.start : self.stop]))

    def without(self, indices: set[int]) -> list[Part]:
        """What is left when some of its tasks are taken out."""
        if not indices:
            return [self] if len(self) else []
        kept = to_ranges(index for index in self.indices if index not in indices)
        offset = self.run.first
        return [
            Part(self.run, first - offset, first - offset + count)
            for first, count in zip(kept[::2], kept[1::2], strict=True)
        ]


class Given:
    """A part that a worker was given, and the place of its first task there."""

    __slots__ = ("cost_s", "part", "place")

    def __init__(self, place: int, part: Part, cost_s: float) -> None:
        self.place = place
        self.part = part
        self.cost_s = cost_s  # expected of each task

    @property
    def end(self) -> int:
        """The place after its last task."""
        return self.place + len(self.part)

    def take(self, count: int) -> Part:
        """Cut off the first `count` tasks."""
        self.place += count
        return self.part.take(count)


class Ending(NamedTuple):
    """What becomes of a task that its worker is killed for: it is cancelled, or out of time, or
    over its memory.
    """

    tell: bool = True  # of a cancelled one: whether that is to be told
    ran_s: float = 0.0  # it has run for so long, which was too long; 0: it is cancelled
    limit_s: float = 0.0  # likewise: its declared walltime
    call: int = -1  # likewise, of a chunk: the place of the call of which both is said
    over: Over | None = None  # it is over its memory
    why: str = ""  # it is to run again: why this attempt was ended

    @property
    def is_told(self) -> bool:
        """Whether the interchange hears of it."""
        return self.tell or self.ran_s > 0 or self.over is not None or bool(self.why)


class Slot:
    """One worker, as the core sees it.

    Args:
        cell: what it has of its node, if it is an ordinary one.
        needs: of tasks, packed, for which alone it was made; with `lease`, what it has for them.
    """

    def __init__(
        self, worker: int, cell: int = -1, needs: bytes = b"", lease: Lease | None = None
    ) -> None:
        self.worker = worker
        self.cell = cell
        self.needs = needs
        self.lease = lease
        # It is not for any ordinary task: it has a lease, or others have what its cell has, or are
        # to get it, which then is kept free (aside).
        self.apart = lease is not None
        self.aside = False
        self.turn_until = 0.0  # of one with a lease: its class goes on for so long
        self.idle_since = 0.0  # likewise
        self.dismissed = False  # likewise: it was told to end, having nothing to do
        self.pid = 0
        self.ready = False
        self.known: set[bytes] = set()  # bodies that it has
        self.given: deque[Given] = deque()  # in the order of their places
        self.tasks = 0  # given and not ended
        self.load_s = 0.0  # expected of these
        self.next_place = 0
        self.done = 0  # outcomes are known up to this place
        self.begun = 0  # at the last look
        self.begun_since = 0.0
        self.captures = False  # it has run tasks whose output is wanted
        self.announced = False  # a Started was sent for the task that it is at
        self.limited = False  # it was given tasks that have a walltime
        # When the walltime is over of what it is at (0: it has none), since when it is seen at
        # that, and what that is: a task, or a call of a chunk (-1: none) whose calls have one each.
        self.due = 0.0
        self.limited_since = 0.0
        self.limit_s = 0.0
        self.call_limit_s = 0.0
        self.call = -1
        self.call_seen = 0.0  # at the last look
        # Places that it was told not to begin, since when, and whether it is known by now which
        # of them it had begun before it was told.
        self.skip: tuple[int, int] | None = None
        self.skip_since = 0.0
        self.skip_settled = False
        # Places to be cancelled if it has not begun them: also if it has, and is that to be told?
        self.cancelled: dict[int, tuple[bool, bool]] = {}
        self.kill: dict[int, Ending] = {}  # places that it is killed for
        self.killed_at = 0.0

    def give(self, part: Part, cost_s: float) -> None:
        """Note that it was given this, at its next places."""
        self.given.append(Given(self.next_place, part, cost_s))
        self.limited = self.limited or part.run.walltime_s > 0
        self.next_place += len(part)
        self.tasks += len(part)
        self.load_s += cost_s * len(part)

    def ended(self, count: int, cost_s: float) -> None:
        """Note that so many tasks of what it was given are not its concern any more."""
        self.tasks -= count
        self.load_s = max(0.0, self.load_s - cost_s * count) if self.tasks else 0.0

    def part_at(self, place: int) -> Part | None:
        """The task at this place, if it has not ended."""
        for given in self.given:
            if given.place <= place < given.end:
                position = given.part.start + place - given.place
                return Part(given.part.run, position, position + 1)
        return None

    def cut(self, place: int) -> list[tuple[int, Part]]:
        """Take away all that it was given from this place on: the parts and their places."""
        cut: list[tuple[int, Part]] = []
        while self.given and self.given[-1].end > place:
            given = self.given[-1]
            if given.place >= place:
                self.given.pop()
                part = given.part
            else:
                part = given.part.take_last(given.end - place)
            self.ended(len(part), given.cost_s)
            cut.append((max(place, given.place), part))
        cut.reverse()
        return cut

    def passed(self, place: int) -> list[tuple[int, Part]]:
        """Take away all that it was given before this place: the parts and their places."""
        passed: list[tuple[int, Part]] = []
        while self.given and self.given[0].place < place:
            given = self.given[0]
            begin, count = given.place, min(len(given.part), place - given.place)
            passed.append((begin, given.take(count)))
            if not given.part:
                self.given.popleft()
            self.ended(count, given.cost_s)
        return passed

    def parts(self) -> list[Part]:
        """All that it was given and has not ended."""
        return [given.part for given in self.given]

    def claimed(self) -> tuple[list[Part], list[Part]]:
        """What an interchange is told that it has: what it has not begun, and what it has.

        Not what is to end there without a word, since another interchange did not want it: who
        counted on that would never hear what became of it.
        """
        silent = {place for place, ending in self.kill.items() if not ending.is_told}
        silent |= {place for place, (_, tell) in self.cancelled.items() if not tell}
        queued: list[Part] = []
        begun: list[Part] = []
        for given in self.given:
            split = min(max(self.begun, given.place), given.end) - given.place
            whole = given.part
            left_out = {whole.first + place - given.place for place in silent}
            middle = whole.start + split
            begun += Part(whole.run, whole.start, middle).without(left_out)
            queued += Part(whole.run, middle, whole.stop).without(left_out)
        return queued, begun

    def singles(self) -> list[Part]:
        """All that it was given and has not ended, task by task."""
        return [
            Part(part.run, position, position + 1)
            for part in self.parts()
            for position in range(part.start, part.stop)
        ]

    @property
    def running_place(self) -> int | None:
        """The place of the task that it was at when it was last looked at."""
        return self.begun - 1 if self.begun > self.done else None

    def is_at(self, part: Part) -> bool:
        """Whether the first task of this part is the one that it was at, and has not ended."""
        place = self.running_place
        running = self.part_at(place) if place is not None else None
        return running is not None and running.run is part.run and running.first == part.first


def refs(parts: Iterable[Part]) -> list[TaskRefs]:
    """Parts, as a message names them."""
    grouped: dict[tuple[bytes, int, int], list[int]] = {}
    for part in parts:
        run = part.run
        grouped.setdefault((run.stream, run.epoch, run.attempt), []).extend(part.indices)
    return [
        TaskRefs(stream, to_ranges(indices), epoch, attempt)
        for (stream, epoch, attempt), indices in grouped.items()
    ]
