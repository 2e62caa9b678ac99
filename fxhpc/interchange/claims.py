"""Who holds tasks that the forwarder has not sent to this interchange yet, as managers claim."""

from __future__ import annotations

from fxhpc.interchange.held import Claim, Task
from fxhpc.protocol.messages import TaskRefs


class Claims:
    """By task; and by manager, since thousands of them may come back at once."""

    def __init__(self) -> None:
        self._claims: dict[Task, Claim] = {}
        self._tasks_of: dict[str, list[Task]] = {}  # also some that it does not claim any more

    def __bool__(self) -> bool:
        return bool(self._claims)

    def __contains__(self, task: Task) -> bool:
        return task in self._claims

    def add(self, task: Task, claim: Claim) -> None:
        """A manager has it."""
        self._claims[task] = claim
        self._tasks_of.setdefault(claim.manager, []).append(task)

    def get(self, task: Task) -> Claim | None:
        """Who has it."""
        return self._claims.get(task)

    def pop(self, task: Task) -> Claim | None:
        """Forget who has it; who that was."""
        return self._claims.pop(task, None)

    def of(self, manager: str) -> set[Task]:
        """All that a manager claims."""
        return {
            task
            for task in self._tasks_of.get(manager, ())
            if (claim := self._claims.get(task)) is not None and claim.manager == manager
        }

    def take(self, manager: str) -> set[Task]:
        """Forget all that a manager claims."""
        tasks = self.of(manager)
        self._tasks_of.pop(manager, None)
        for task in tasks:
            del self._claims[task]
        return tasks

    def take_attempt(self, task: Task, manager: str, epoch: int, attempt: int) -> bool:
        """Forget that a manager has this attempt; whether it had."""
        if self._claims.get(task, ())[:3] != (manager, epoch, attempt):
            return False
        del self._claims[task]
        return True

    def began(self, task: Task) -> None:
        """It runs, if anybody claims it."""
        if claim := self._claims.get(task):
            self._claims[task] = claim._replace(running=True)

    def running(self) -> list[TaskRefs]:
        """Those that run."""
        return [
            TaskRefs(stream, [index, 1])
            for (stream, index), claim in self._claims.items()
            if claim.running
        ]
