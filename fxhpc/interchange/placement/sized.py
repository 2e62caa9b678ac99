"""What waits of tasks with needs of their own: a line for each class, its streams in turn."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import islice

from fxhpc.interchange.held import single, split_run, without
from fxhpc.protocol.messages import TaskRun
from fxhpc.protocol.needs import needs_of, priority_of
from fxhpc.protocol.turns import Turns

#: Of very many classes, so many are looked at for one event; those that waited longest first.
COMPARED = 32


class Line:
    """The tasks of a class, which all need the same.

    Attributes:
        packed: what they need.
        priority: less goes first.
        look_at: when all managers are to be looked at for them again; until then, those that have
            changed.
        cells, cores: what a task of it takes at the managers that are there, at most; the cores
            in thousandths.
        served_at: when a manager was given any of it last; or when it came.
        unfit: when they were looked at last, no manager that is there could ever run them.
        beyond, beyond_of: what `Brought.is_beyond` found, and of which version.
    """

    def __init__(self, packed: bytes, now: float) -> None:
        self.packed = packed
        self.served_at = now
        self.priority = priority_of(needs_of(packed))
        self.turns: Turns[TaskRun] = Turns(lambda run: len(run.payloads), split_run)
        self.streams: set[bytes] = set()
        self.look_at = -math.inf
        self.cells = self.cores = 0
        self.unfit = False
        self.beyond, self.beyond_of = False, -1


class Sized:
    """All that waits of such tasks; as a collection, its runs.

    Attributes:
        now: the time of the event that is being handled.
        held: how many tasks of each class managers have.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.held: Counter[bytes] = Counter()
        self._levels: dict[int, OrderedDict[bytes, Line]] = {}  # by priority; longest waiting first
        self._of_stream: dict[bytes, Line] = {}
        self._tasks = 0

    def __len__(self) -> int:
        """Tasks that wait."""
        return self._tasks

    def __iter__(self) -> Iterator[TaskRun]:
        for line in self.lines():
            yield from line.turns

    def count(self) -> tuple[int, int]:
        """How many tasks wait, and their bytes."""
        if not self._tasks:
            return 0, 0
        return self._tasks, sum(len(payload) for run in self for payload in run.payloads)

    def lines(self) -> Iterator[Line]:
        """All lines, the most urgent first."""
        for _, lines in sorted(self._levels.items()):
            yield from lines.values()

    def first_lines(self) -> list[Line]:
        """Those to be placed next."""
        return list(islice(self.lines(), COMPARED))

    def push(self, run: TaskRun) -> None:
        """Append to its line."""
        line = self._line(run)
        line.turns.push(run.stream, run)
        line.look_at = -math.inf
        self._tasks += len(run.payloads)

    def push_front(self, run: TaskRun) -> None:
        """Put before all of its line: for what was lost."""
        line = self._line(run)
        line.turns.push_front(run.stream, run)
        line.look_at = -math.inf
        self._tasks += len(run.payloads)

    def put_back(self, run: TaskRun) -> None:
        """Put before all of its stream: for what nobody has begun."""
        line = self._line(run)
        line.turns.put_back(run.stream, run)
        line.look_at = -math.inf
        self._tasks += len(run.payloads)

    def take(self, line: Line, count: int, left_s: float) -> list[TaskRun]:
        """Up to so many tasks of a line that take no longer than this."""

        def room(run: TaskRun) -> int:
            return len(run.payloads) if run.walltime_s <= left_s else 0

        taken = line.turns.take(count, None if left_s == math.inf else room)
        self._tasks -= sum(len(run.payloads) for run in taken)
        if taken:
            self._levels[line.priority].move_to_end(line.packed)
            self._forget_empty(line)
        return taken

    def pass_over(self, line: Line) -> None:
        """Nobody who is there can run these: others are looked at before them next time."""
        self._levels[line.priority].move_to_end(line.packed)

    def look_again(self) -> None:
        """Something has changed that is not a manager's room."""
        for line in self.lines():
            line.look_at = -math.inf

    def remove(self, stream: bytes, wanted: set[int]) -> set[int]:
        """Take tasks of a stream out; those that were here."""
        line = self._of_stream.get(stream)
        if line is None:
            return set()
        found: set[int] = set()
        left: list[TaskRun] = []
        for run in line.turns.peek_lane(stream):
            indices = wanted.intersection(range(run.first, run.first + len(run.payloads)))
            found |= indices
            left += without(run, indices) if indices else [run]
        if found:
            line.turns.replace_lane(stream, left)
            self._tasks -= len(found)
            self._forget_empty(line)
        return found

    def find(self, stream: bytes, index: int) -> TaskRun | None:
        """The run with this task, if it waits here."""
        line = self._of_stream.get(stream)
        for run in line.turns.peek_lane(stream) if line is not None else ():
            if run.first <= index < run.first + len(run.payloads):
                return run
        return None

    def take_one(self, stream: bytes, index: int) -> None:
        """Take a task out; if it was the next of its line, it is the next stream's turn."""
        line = self._of_stream[stream]
        first = next(iter(line.turns))
        if (first.stream, first.first) == (stream, index):
            self.take(line, 1, math.inf)
        else:
            self.remove(stream, {index})

    def take_out(self, line: Line) -> list[TaskRun]:
        """Take a whole line out, as single tasks."""
        runs = list(line.turns)
        for stream in list(line.streams):
            line.turns.replace_lane(stream, [])
        self._tasks -= sum(len(run.payloads) for run in runs)
        self._forget_empty(line)
        return [
            single(run, index)
            for run in runs
            for index in range(run.first, run.first + len(run.payloads))
        ]

    def _line(self, run: TaskRun) -> Line:
        line = self._of_stream.get(run.stream)
        if line is not None:
            return line
        packed = run.needs
        priority = priority_of(needs_of(packed))
        lines = self._levels.setdefault(priority, OrderedDict())
        line = lines.get(packed)
        if line is None:
            line = lines[packed] = Line(packed, self.now)
        line.streams.add(run.stream)
        self._of_stream[run.stream] = line
        return line

    def _forget_empty(self, line: Line) -> None:
        if line.turns:
            return
        for stream in line.streams:
            del self._of_stream[stream]
        line.streams.clear()
        lines = self._levels[line.priority]
        del lines[line.packed]
        if not lines:
            del self._levels[line.priority]
