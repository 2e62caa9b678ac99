"""Tasks that not every manager may have: suspects, and those that shall go to another host.

Single tasks that were lost before. They come before all that waits in the queue:

* a *suspect* ran on a manager that was lost: each manager gets one of these at a time;
* one that lost a second manager is to be *alone*: a manager has nothing beside it, so that, if that
  manager is lost too, it is known who has done it, and nobody else is blamed;
* one whose worker died goes *elsewhere* if it can: if the host was to blame, it ends well there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeAlias

from fxhpc.protocol.messages import TaskRun

Fits = Callable[[TaskRun], int]

#: Single tasks in their order, by stream and index: when a manager is lost that many of them ran
#: on, and is only cut off, its outcomes take them out one by one.
Line: TypeAlias = "OrderedDict[tuple[bytes, int], TaskRun]"


class Apart:
    """These tasks; as a collection, all of them."""

    def __init__(self) -> None:
        self.suspects: Line = OrderedDict()
        self.alone: Line = OrderedDict()
        self.elsewhere: dict[frozenset[str], Line] = {}  # by the hosts to be avoided

    def __len__(self) -> int:
        return len(self.suspects) + len(self.alone) + sum(map(len, self.elsewhere.values()))

    def __bool__(self) -> bool:
        return bool(self.suspects or self.alone or self.elsewhere)

    def __iter__(self) -> Iterator[TaskRun]:
        for line in self._lines():
            yield from line.values()

    def avoid(self, hosts: frozenset[str], task: TaskRun) -> None:
        """Add one that is not to go to these hosts, before the others."""
        put_first(self.elsewhere.setdefault(hosts, OrderedDict()), task)

    def remove(self, stream: bytes, index: int) -> bool:
        """Take a task out, if it is one of these; whether it was."""
        for line in self._lines():
            if line.pop((stream, index), None) is not None:
                self.forget_empty()
                return True
        return False

    def forget_empty(self) -> None:
        """Drop the hosts that nobody avoids any more."""
        for hosts in [hosts for hosts, tasks in self.elsewhere.items() if not tasks]:
            del self.elsewhere[hosts]

    def _lines(self) -> list[Line]:
        return [self.alone, self.suspects, *self.elsewhere.values()]


def put_first(line: Line, task: TaskRun) -> None:
    """Put a single task before all others."""
    key = (task.stream, task.first)
    line[key] = task
    line.move_to_end(key, last=False)


def take_fitting(line: Line, fits: Fits | None) -> TaskRun | None:
    """Take out the first that can end in time."""
    for key, task in line.items():
        if fits is None or fits(task):
            del line[key]
            return task
    return None
