"""Tasks that not every manager may have: suspects, and those that shall go to another host.

Single tasks that were lost before. They come before all that waits in the queue:

* a *suspect* ran on a manager that was lost: each manager gets one of these at a time;
* one that lost a second manager is to be *alone*: a manager has nothing beside it, so that, if that
  manager is lost too, it is known who has done it, and nobody else is blamed;
* one whose worker died goes *elsewhere* if it can: if the host was to blame, it ends well there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from fxhpc.protocol.messages import TaskRun

Fits = Callable[[TaskRun], int]


class Apart:
    """These tasks; as a collection, all of them."""

    def __init__(self) -> None:
        self.suspects: deque[TaskRun] = deque()
        self.alone: deque[TaskRun] = deque()
        self.elsewhere: dict[frozenset[str], deque[TaskRun]] = {}  # by the hosts to be avoided

    def __len__(self) -> int:
        return len(self.suspects) + len(self.alone) + sum(map(len, self.elsewhere.values()))

    def __bool__(self) -> bool:
        return bool(self.suspects or self.alone or self.elsewhere)

    def __iter__(self) -> Iterator[TaskRun]:
        yield from self.alone
        yield from self.suspects
        for tasks in self.elsewhere.values():
            yield from tasks

    def avoid(self, hosts: frozenset[str], task: TaskRun) -> None:
        """Add one that is not to go to these hosts, before the others."""
        self.elsewhere.setdefault(hosts, deque()).appendleft(task)

    def remove(self, task: TaskRun) -> None:
        """Take one of these out."""
        for tasks in (self.suspects, self.alone, *self.elsewhere.values()):
            for position, found in enumerate(tasks):
                if found is task:
                    del tasks[position]
                    self.forget_empty()
                    return

    def forget_empty(self) -> None:
        """Drop the hosts that nobody avoids any more."""
        for hosts in [hosts for hosts, tasks in self.elsewhere.items() if not tasks]:
            del self.elsewhere[hosts]


def take_fitting(tasks: deque[TaskRun], fits: Fits | None) -> TaskRun | None:
    """Take out the first that can end in time."""
    for position, task in enumerate(tasks):
        if fits is None or fits(task):
            del tasks[position]
            return task
    return None
