"""What a manager holds and no worker has: tasks in their order, and the bodies that they need."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator

from fxhpc.manager.held import Part
from fxhpc.manager.sized import Lines, priority_of
from fxhpc.protocol.messages import TaskRefs, TaskRun
from fxhpc.protocol.needs import Size

#: Bytes of bodies that are kept although nothing here needs them at the moment.
BODIES_BYTES = 256 * 2**20


class Backlog:
    """Tasks that wait: for a worker, for their turn as a suspect, or for a body.

    Attributes:
        sized: those that wait for a worker that is made for them.
    """

    def __init__(self, size: Size) -> None:
        self.queue: deque[Part] = deque()
        self.suspects: deque[Part] = deque()  # single tasks
        self.sized = Lines(size)
        self.bodies: OrderedDict[bytes, int] = OrderedDict()  # their sizes, by when last used
        self.wanted: set[bytes] = set()  # bodies that were asked for
        self._waiting: list[Part] = []
        self._bodies_bytes = 0
        self._has_priorities = False  # of what waits some may be more urgent

    def __len__(self) -> int:
        return sum(map(len, self.parts()))

    def __bool__(self) -> bool:
        return bool(self.queue or self.suspects or self._waiting or self.sized.lines)

    def parts(self) -> Iterator[Part]:
        """All that waits."""
        yield from self.queue
        yield from self.suspects
        yield from self._waiting
        yield from self.sized.parts()

    def ordinary(self) -> tuple[deque[Part], deque[Part]]:
        """Those that wait for any worker."""
        return self.queue, self.suspects

    def add(self, runs: Iterable[TaskRun]) -> list[bytes]:
        """Take in what the interchange has sent; returns the bodies that have to be asked for."""
        for run in runs:
            part = Part(run, 0, len(run.payloads))
            if self._missing(part):
                self._waiting.append(part)
            else:
                self._enqueue(part)
        needed = {digest for part in self._waiting for digest in self._missing(part)}
        ask = sorted(needed - self.wanted)
        self.wanted |= needed
        return ask

    def put_front(self, parts: list[Part]) -> None:
        """Put back what was given to a worker, in its order."""
        for part in reversed(parts):
            if part.run.needs and not self.sized.is_ordinary(part.run.needs):
                self.sized.put_front(part)
            elif part.run.suspect:
                self.suspects.appendleft(part)
            else:
                self.queue.appendleft(part)

    def add_body(self, digest: bytes, size: int) -> bool:
        """Let go what waited for a body that is here now; whether it was not here before."""
        is_new = digest not in self.bodies
        if is_new:
            self._bodies_bytes += size
            self.bodies[digest] = size
        self.bodies.move_to_end(digest)
        self.wanted.discard(digest)
        waiting, self._waiting = self._waiting, []
        for part in waiting:
            if self._missing(part):
                self._waiting.append(part)
            else:
                self._enqueue(part)
        return is_new

    def drop_unavailable(self, digests: Iterable[bytes]) -> list[tuple[Part, bytes]]:
        """Take out what needs a body that nobody has, with that body's digest."""
        gone = set(digests)
        self.wanted -= gone
        dropped: list[tuple[Part, bytes]] = []
        kept: list[Part] = []
        for part in self._waiting:
            lacking = next((digest for digest in self._missing(part) if digest in gone), None)
            if lacking is None:
                kept.append(part)
            else:
                dropped.append((part, lacking))
        self._waiting = kept
        return dropped

    def forget_bodies(self, used: set[bytes]) -> list[bytes]:
        """Drop the bodies that were not used for the longest time, if there are too many."""
        if self._bodies_bytes <= BODIES_BYTES:
            return []
        for part in self.parts():
            used.update((part.run.function, *part.run.shared))
        dropped: list[bytes] = []
        for digest in [digest for digest in self.bodies if digest not in used]:
            if self._bodies_bytes <= BODIES_BYTES:
                break
            self._bodies_bytes -= self.bodies.pop(digest)
            dropped.append(digest)
        return dropped

    def take_matching(self, wanted: list[TaskRefs], *, any_attempt: bool) -> list[Part]:
        """Take out tasks that are named."""
        matched: list[Part] = []

        def keep(parts: Iterable[Part]) -> Iterator[Part]:
            for part in parts:
                indices = named(part, wanted, any_attempt=any_attempt)
                if not indices:
                    yield part
                    continue
                matched.extend(part.without(set(part.indices) - indices))
                yield from part.without(indices)

        self.queue = deque(keep(self.queue))
        self.suspects = deque(keep(self.suspects))
        self._waiting = list(keep(self._waiting))
        if self.sized.lines:
            self.sized.filter(keep)
        return matched

    def take_last(self, count: int) -> list[Part]:
        """Take out up to so many tasks, the last first."""
        taken: list[Part] = []
        while self.queue and count > 0:
            part = self.queue[-1]
            if len(part) > count:
                part = part.take_last(count)
            else:
                self.queue.pop()
            count -= len(part)
            taken.append(part)
        return taken

    def take_all(self) -> list[Part]:
        """Take out everything."""
        parts = list(self.parts())
        self.queue.clear()
        self.suspects.clear()
        self._waiting.clear()
        self.sized.clear()
        self.wanted.clear()
        return parts

    def _missing(self, part: Part) -> list[bytes]:
        run = part.run
        return [digest for digest in (run.function, *run.shared) if digest not in self.bodies]

    def _enqueue(self, part: Part) -> None:
        if part.run.needs and not self.sized.is_ordinary(part.run.needs):
            self._enqueue_sized(part)
            return
        if not part.run.suspect:
            if part.run.needs or self._has_priorities:
                self._enqueue_by_priority(part)
            else:
                self.queue.append(part)
            return
        while part:
            self.suspects.append(part.take(1))

    def _enqueue_sized(self, part: Part) -> None:
        if not part.run.suspect:
            self.sized.add(part, self.ordinary())
        while part.run.suspect and part:
            self.sized.add(part.take(1), self.ordinary())

    def _enqueue_by_priority(self, part: Part) -> None:
        """Behind those that go before it, or have waited for longer."""
        priority = priority_of(part.run)
        behind: list[Part] = []
        while self.queue and priority_of(self.queue[-1].run) > priority:
            behind.append(self.queue.pop())
        self.queue.append(part)
        self.queue.extend(reversed(behind))
        self._has_priorities = any(one.run.needs for one in self.queue)


def named(part: Part, refs: list[TaskRefs], *, any_attempt: bool) -> set[int]:
    """Which tasks of a part are named."""
    found: set[int] = set()
    run, indices = part.run, part.indices
    for ref in refs:
        if ref.stream != run.stream:
            continue
        if not any_attempt and (ref.epoch, ref.attempt) != (run.epoch, run.attempt):
            continue
        for first, count in zip(ref.ranges[::2], ref.ranges[1::2], strict=True):
            begin = max(first, indices.start)
            found.update(range(begin, min(first + count, indices.stop)))
    return found
