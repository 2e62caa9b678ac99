"""Whose turn it is: a queue that many share in turn, so that nobody waits behind a million.

`Turns` are used by the interchange, where a lane is a stream. The forwarder has `UrgentTurns`: what
is most urgent first, of that submitters in turn (`SharedTurns`), and the streams of each in turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Iterator, KeysView
from typing import Generic, TypeVar

T = TypeVar("T")

#: Tasks that a lane may have taken before it is the next one's turn, where several wait.
QUANTUM = 32


def _share(limit: int, lanes: int) -> int:
    """How many of so many tasks are one lane's. Who wants few has long ones: there each counts."""
    if lanes == 1:
        return limit
    return QUANTUM if limit >= QUANTUM else max(1, limit // lanes)


class Turns(Generic[T]):
    """Lanes of items; an item stands for many tasks, and can be split.

    Args:
        size: how many tasks an item stands for.
        split: an item and a number n to the item of its first n tasks and that of the rest.
    """

    def __init__(self, size: Callable[[T], int], split: Callable[[T, int], tuple[T, T]]) -> None:
        self._size = size
        self._split = split
        self._lanes: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._tasks = 0

    def __len__(self) -> int:
        """Tasks in all lanes."""
        return self._tasks

    def __iter__(self) -> Iterator[T]:
        for lane in self._lanes.values():
            yield from lane

    def push(self, lane: Hashable, item: T) -> None:
        """Append to the lane's end."""
        self._tasks += self._size(item)
        self._lanes.setdefault(lane, deque()).append(item)

    def push_front(self, lane: Hashable, item: T) -> None:
        """Put before all that waits: for what was lost or given back."""
        self._tasks += self._size(item)
        self._lanes.setdefault(lane, deque()).appendleft(item)
        self._lanes.move_to_end(lane, last=False)

    def put_back(self, lane: Hashable, item: T) -> None:
        """Put before all that waits in its lane: for what nobody has begun. The lane keeps its
        turn, if it has one, so that who is given much back does not come before the others again.
        """
        if lane not in self._lanes:
            self.push_front(lane, item)
        else:
            self._tasks += self._size(item)
            self._lanes[lane].appendleft(item)

    def take(self, limit: int, room: Callable[[T], int] | None = None) -> list[T]:
        """Up to `limit` tasks, the lanes in turn.

        Args:
            room: how many tasks of an item may be taken, where not any may. A lane whose first
                item may not is passed over, and keeps its turn.
        """
        taken: list[T] = []
        passed: list[tuple[Hashable, deque[T]]] = []
        while limit > 0 and self._lanes:
            lane, items = next(iter(self._lanes.items()))
            share = _share(limit, len(self._lanes))
            blocked = False
            while items and share > 0:
                item = items[0]
                size = self._size(item)
                allowed = share if room is None else min(share, room(item))
                if allowed <= 0:
                    blocked = True
                    break
                if size > allowed:
                    item, items[0] = self._split(item, allowed)
                    size = allowed
                    blocked = allowed < share
                else:
                    items.popleft()
                taken.append(item)
                share -= size
                limit -= size
                if blocked:
                    break
            if not items:
                del self._lanes[lane]
            elif blocked:
                passed.append((lane, self._lanes.pop(lane)))
            else:
                self._lanes.move_to_end(lane)
        for lane, items in reversed(passed):
            self._lanes[lane] = items
            self._lanes.move_to_end(lane, last=False)
        self._tasks -= sum(map(self._size, taken))
        return taken

    def take_lane(self, lane: Hashable, limit: int) -> list[T]:
        """Up to `limit` tasks of one lane, whose turn it need not be."""
        items = self._lanes.get(lane, deque())
        taken: list[T] = []
        while items and limit > 0:
            item = items.popleft()
            if self._size(item) > limit:
                item, rest = self._split(item, limit)
                items.appendleft(rest)
            taken.append(item)
            limit -= self._size(item)
        if not items:
            self._lanes.pop(lane, None)
        self._tasks -= sum(map(self._size, taken))
        return taken

    def peek_lane(self, lane: Hashable) -> list[T]:
        """What waits in a lane, in order."""
        return list(self._lanes.get(lane, ()))

    def has(self, lane: Hashable) -> bool:
        """Whether anything waits in a lane."""
        return lane in self._lanes

    def replace_lane(self, lane: Hashable, items: list[T]) -> None:
        """Put these in the place of what waits in a lane: for cancelling."""
        self._tasks -= sum(map(self._size, self._lanes.get(lane, ())))
        self._tasks += sum(map(self._size, items))
        if items:
            self._lanes[lane] = deque(items)
        else:
            self._lanes.pop(lane, None)


class SharedTurns(Generic[T]):
    """Owners of lanes take turns, and the lanes of each: who has many lanes gets no more for it.

    Args:
        size, split: as `Turns` has them.
    """

    def __init__(self, size: Callable[[T], int], split: Callable[[T, int], tuple[T, T]]) -> None:
        self._size = size
        self._split = split
        self._owners: OrderedDict[Hashable, Turns[T]] = OrderedDict()
        self._tasks = 0

    def __len__(self) -> int:
        """Tasks in all lanes."""
        return self._tasks

    def __iter__(self) -> Iterator[T]:
        for turns in self._owners.values():
            yield from turns

    def push(self, owner: Hashable, lane: Hashable, item: T) -> None:
        """Append to the end of an owner's lane."""
        self._of(owner).push(lane, item)
        self._tasks += self._size(item)

    def push_front(self, owner: Hashable, lane: Hashable, item: T) -> None:
        """Put before all that waits."""
        self._of(owner).push_front(lane, item)
        self._owners.move_to_end(owner, last=False)
        self._tasks += self._size(item)

    def take(self, limit: int) -> list[T]:
        """Up to `limit` tasks, the owners in turn."""
        taken: list[T] = []
        while limit > 0 and self._owners:
            owner, turns = next(iter(self._owners.items()))
            before = len(turns)
            taken += turns.take(_share(limit, len(self._owners)))
            limit -= before - len(turns)
            self._tasks -= before - len(turns)
            if turns:
                self._owners.move_to_end(owner)
            else:
                del self._owners[owner]
        return taken

    def take_from(self, owner: Hashable, limit: int, lane: Hashable = None) -> list[T]:
        """Up to `limit` tasks of one owner, or of one lane of it, whose turn it need not be."""
        turns = self._owners.get(owner)
        if turns is None:
            return []
        before = len(turns)
        taken = turns.take(limit) if lane is None else turns.take_lane(lane, limit)
        self._tasks -= before - len(turns)
        if not turns:
            del self._owners[owner]
        return taken

    def has(self, owner: Hashable, lane: Hashable) -> bool:
        """Whether anything waits in a lane."""
        turns = self._owners.get(owner)
        return turns is not None and turns.has(lane)

    @property
    def owners(self) -> KeysView[Hashable]:
        """The owners of what waits."""
        return self._owners.keys()

    def _of(self, owner: Hashable) -> Turns[T]:
        turns = self._owners.get(owner)
        if turns is None:
            turns = self._owners[owner] = Turns(self._size, self._split)
        return turns


class UrgentTurns(Generic[T]):
    """Levels of `SharedTurns`: as long as anything waits at one, nothing of the next is taken.

    Args:
        size, split: as `Turns` has them.
        level: of an item; less goes first. All items of a lane have the same.
    """

    def __init__(
        self,
        size: Callable[[T], int],
        split: Callable[[T, int], tuple[T, T]],
        level: Callable[[T], int],
    ) -> None:
        self._size = size
        self._split = split
        self._level = level
        self._levels: dict[int, SharedTurns[T]] = {}  # the most urgent first

    def __len__(self) -> int:
        """Tasks at all levels."""
        return sum(map(len, self._levels.values()))

    def __iter__(self) -> Iterator[T]:
        for turns in self._levels.values():
            yield from turns

    def push(self, owner: Hashable, lane: Hashable, item: T) -> None:
        """Append to the end of an owner's lane."""
        self._of(item).push(owner, lane, item)

    def push_front(self, owner: Hashable, lane: Hashable, item: T) -> None:
        """Put before all that waits at its level."""
        self._of(item).push_front(owner, lane, item)

    def take(self, limit: int) -> list[T]:
        """Up to `limit` tasks, the owners in turn."""
        return self._take(limit, lambda turns, count: turns.take(count))

    def take_from(self, owner: Hashable, limit: int, lane: Hashable = None) -> list[T]:
        """Up to `limit` tasks of one owner, or of one lane of it, whose turn it need not be."""
        return self._take(limit, lambda turns, count: turns.take_from(owner, count, lane))

    def has(self, owner: Hashable, lane: Hashable) -> bool:
        """Whether anything waits in a lane."""
        return any(turns.has(owner, lane) for turns in self._levels.values())

    @property
    def owners(self) -> Collection[Hashable]:
        """The owners of what waits."""
        if len(self._levels) == 1:
            return next(iter(self._levels.values())).owners
        return {owner: None for turns in self._levels.values() for owner in turns.owners}.keys()

    def _take(self, limit: int, take: Callable[[SharedTurns[T], int], list[T]]) -> list[T]:
        if len(self._levels) == 1:
            return take(next(iter(self._levels.values())), limit)
        taken: list[T] = []
        for level, turns in list(self._levels.items()):
            before = len(turns)
            taken += take(turns, limit)
            limit -= before - len(turns)
            if not turns:
                del self._levels[level]
            if limit <= 0:
                break
        return taken

    def _of(self, item: T) -> SharedTurns[T]:
        level = self._level(item)
        turns = self._levels.get(level)
        if turns is None:
            self._levels[level] = turns = SharedTurns(self._size, self._split)
            for less_urgent in sorted(self._levels):
                self._levels[less_urgent] = self._levels.pop(less_urgent)
        return turns
