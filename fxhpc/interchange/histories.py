"""What happened to tasks that were lost at least once, and whom it counts against."""

from __future__ import annotations

from fxhpc.interchange.held import Task
from fxhpc.interchange.kept_calls import KeptCalls
from fxhpc.protocol import kept
from fxhpc.protocol.outcome import Loss

#: So many lost managers are remembered, in case that they come back.
MOST_BLAMED = 1_000


class Histories:
    """What happened to tasks that were lost at least once. Empty in good times."""

    def __init__(self) -> None:
        self._stories: dict[Task, list[str]] = {}
        self._charges: dict[Task, list[str]] = {}  # the host of each death that counts
        # How often the end of a block cut it off, and how long it ran at most.
        self._cut_offs: dict[Task, tuple[int, float]] = {}
        # Of chunks, by call: the stories of its deaths, and the host of each that counts.
        self._calls: dict[Task, dict[int, tuple[list[str], list[str]]]] = {}
        self.kept = KeptCalls()
        # Suspects that lost a manager where others ran too: how many managers.
        self._lost_among: dict[Task, int] = {}
        # How many managers were lost with it, and how many of these it had for itself.
        self._managers: dict[Task, tuple[int, int]] = {}
        # Suspects that lost a manager, by its name: should it come back, they did not.
        self._blamed: dict[str, list[Task]] = {}

    def __bool__(self) -> bool:
        return bool(self._stories or self._calls)

    def add(self, task: Task, loss: Loss, charges: int) -> int:
        """Note a loss that counts so often; how many now count against the task."""
        self._stories.setdefault(task, []).append(loss.text)
        if charges:
            self._charges.setdefault(task, []).extend([loss.host] * charges)
        return self.charged(task)

    def add_call(self, task: Task, loss: Loss, host: str) -> int:
        """Note the death of a worker at a call of a chunk; how many now count against the call.

        Args:
            host: where, if it counts.
        """
        stories, hosts = self._calls.setdefault(task, {}).setdefault(loss.call, ([], []))
        stories.append(loss.text)
        if host:
            hosts.append(host)
        return len(hosts)

    def earlier_of_call(self, task: Task, call: int) -> list[str]:
        """The stories of all losses of a call but the last."""
        return self._calls[task][call][0][:-1]

    def suspect_calls(self, task: Task) -> bytes:
        """The calls of a chunk that workers have died at, as records: see `fxhpc.protocol.kept`."""
        return b"".join(kept.record(call, kept.SUSPECT, b"") for call in self._calls.get(task, ()))

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
        for _, hosts in self._calls.get(task, {}).values():
            hosts[:] = [each for each in hosts if each != host]

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
            self._calls,
        ):
            known.pop(task, None)
        self.kept.forget(task)
