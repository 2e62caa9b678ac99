"""Whose turn it is: a queue that many share in turn, so that nobody waits behind a million.

`Turns` are used by the interchange, where a lane is a stream. The forwarder has `SharedTurns`:
submitters in turn, and the streams of each in turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Tasks that a lane may have taken before it is the next one's turn, where several wait.
QUANTUM = 32


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
            share = min(limit, QUANTUM) if len(self._lanes) > 1 else limit
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

    def peek_lane(self, lane: Hashable) -> list[T]:
        """What waits in a lane, in order."""
        return list(self._lanes.get(lane, ()))

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
            taken += turns.take(min(limit, QUANTUM) if len(self._owners) > 1 else limit)
            limit -= before - len(turns)
            self._tasks -= before - len(turns)
            if turns:
                self._owners.move_to_end(owner)
            else:
                del self._owners[owner]
        return taken

    def _of(self, owner: Hashable) -> Turns[T]:
        turns = self._owners.get(owner)
        if turns is None:
            turns = self._owners[owner] = Turns(self._size, self._split)
        return turns
