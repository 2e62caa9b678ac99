"""Tasks that wait for what they need of a node: lines of those that need the same.

Lines and ordinary tasks take turns. A line whose turn has come is the head of those who wait, and
is not passed by what came later; when a task of it has its worker, the line goes behind all that
waits at that moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from fxhpc.manager.held import Part
from fxhpc.protocol import needs as protocol_needs
from fxhpc.protocol.messages import TaskRun
from fxhpc.protocol.needs import Size, could_ever, is_ordinary_on, needs_of
from fxhpc.protocol.needs_words import has, wanted

#: Kinds of needs whose meaning here is remembered.
_KNOWN = 1000


def priority_of(run: TaskRun) -> int:
    """Which of those who wait go first: those with the least."""
    return protocol_needs.priority_of(needs_of(run.needs))


class Line:
    """Tasks that need the same.

    Attributes:
        packed: what they need; workers are made for that.
        since: when its turn came up: less goes first among those of its priority.
        behind: ordinary tasks that go first, since they waited before.
        waits: there are some that go first, these or more urgent ones.
    """

    def __init__(self, run: TaskRun, since: int, behind: tuple[Part, ...]) -> None:
        self.packed = run.needs
        self.suspect = run.suspect
        self.needs = needs_of(run.needs)
        self.priority = priority_of(run)
        self.parts: deque[Part] = deque()
        self.since = since
        self.behind = behind
        self.waits = bool(behind)


class Lines:
    """All lines of a manager.

    Args:
        size: what its node has.

    Attributes:
        lines: those in which tasks wait.
        changed: tasks have come or gone, so that it is to be seen anew who can have what.
    """

    def __init__(self, size: Size) -> None:
        self.lines: dict[tuple[bytes, bool], Line] = {}
        self.changed = False
        self._size = size
        self._turns = 0
        self._ordinary: dict[bytes, bool] = {}

    def is_ordinary(self, packed: bytes) -> bool:
        """Whether any worker of this node is good for who needs this."""
        known = self._ordinary.get(packed)
        if known is None:
            if len(self._ordinary) >= _KNOWN:
                self._ordinary.clear()
            known = self._ordinary[packed] = is_ordinary_on(self._size, needs_of(packed))
        return known

    def unfit(self, run: TaskRun) -> str:
        """Why this node can never run these tasks; nothing if it can."""
        if not run.needs:
            return ""
        try:
            needs = needs_of(run.needs)
        except msgspec.DecodeError as error:
            return f"what it needs cannot be read by this version: {error}"
        if could_ever(self._size, needs):
            return ""
        return f"it needs {wanted(needs)}, and this node has {has(self._size, needs)} for tasks"

    def add(self, part: Part, ordinary: Sequence[Iterable[Part]]) -> None:
        """Have tasks wait. `ordinary`: those that wait already, the last of each last."""
        key = (part.run.needs, part.run.suspect)
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(part.run, 0, ())
            self.next_turn(line, ordinary)
        line.parts.append(part)
        self.changed = True

    def put_front(self, part: Part) -> None:
        """Put back what was given to a worker and not begun."""
        key = (part.run.needs, part.run.suspect)
        line = self.lines.get(key)
        if line is None:
            self._turns += 1
            line = self.lines[key] = Line(part.run, self._turns, ())
        line.parts.appendleft(part)
        self.changed = True

    def next_turn(self, line: Line, ordinary: Sequence[Iterable[Part]]) -> None:
        """It has had its turn: it comes behind whoever waits now."""
        self._turns += 1
        line.since = self._turns
        line.behind = behind = tuple(
            last for parts in ordinary if (last := _last(parts, line.priority)) is not None
        )
        line.waits = bool(behind)

    def see_who_is_behind(self, ordinary: Sequence[Iterable[Part]]) -> None:
        """Note which ordinary tasks have had their turn, and whether there are more urgent ones."""
        urgent = [priority_of(part.run) for parts in ordinary for part in islice(parts, 1)]
        for line in self.lines.values():
            if line.behind:
                waiting = {id(part) for parts in ordinary for part in parts}
                line.behind = tuple(part for part in line.behind if id(part) in waiting)
            waits = bool(line.behind) or any(priority < line.priority for priority in urgent)
            if waits != line.waits:
                line.waits, self.changed = waits, True

    @property
    def any_waits(self) -> bool:
        """Whether ordinary tasks are here whose turn is next."""
        return any(line.waits for line in self.lines.values())

    def ranked(self) -> list[Line]:
        """Who goes first."""
        return sorted(self.lines.values(), key=lambda line: (line.priority, line.since))

    def settle(self, line: Line) -> None:
        """Forget a line in which nothing waits any more."""
        if not line.parts:
            self.lines.pop((line.packed, line.suspect), None)

    def parts(self) -> Iterator[Part]:
        """All that waits."""
        for line in self.lines.values():
            yield from line.parts

    def filter(self, keep: Callable[[Iterable[Part]], Iterator[Part]]) -> None:
        """Keep what is kept of what waits."""
        for line in list(self.lines.values()):
            line.parts = deque(keep(line.parts))
            self.settle(line)
        self.changed = True

    def take_class(self, packed: bytes) -> list[Part]:
        """Take out all who need this."""
        lines = [line for line in self.lines.values() if line.packed == packed]
        for line in lines:
            del self.lines[line.packed, line.suspect]
        self.changed = True
        return [part for line in lines for part in line.parts]

    def clear(self) -> None:
        """Nothing waits any more."""
        self.lines.clear()
        self.changed = True


def _last(parts: Iterable[Part], priority: int) -> Part | None:
    """The last of these that is not to be passed by who has this priority."""
    found: Part | None = None
    for part in parts:
        if priority_of(part.run) <= priority:
            found = part
    return found
