"""What the interchange's parts share: its queue, its managers, and the actions that they want."""

from __future__ import annotations

from collections import deque

from fxhpc.interchange import events as ev
from fxhpc.interchange.held import Manager, refs, split_run
from fxhpc.interchange.outbox import Outbox
from fxhpc.protocol import messages as msg
from fxhpc.protocol.turns import Turns

#: Lines for the log that one event can cause.
NOTES = 100


class State:
    """An interchange's memory.

    Args:
        endpoint: the endpoint's UUID.
        epoch: raised at every start, so that no attempt of before is taken for one of now.
        name: the endpoint's, for people.
        notes: whether the log is wanted.
        remedy: what to do when what its blocks failed of is mended.
    """

    def __init__(
        self, endpoint: str, epoch: int, name: str = "", notes: bool = False, remedy: str = ""
    ) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self.name = name
        self.remedy = remedy or f"fxhpc endpoint restart {name or 'NAME'}"
        self.now = 0.0
        self.actions: list[ev.Action] = []
        self._notes = notes
        self._notes_left = 0
        self.stopping = False
        self.made_from = ""  # what blocks are made from now
        self.credit_changed = True  # of any manager, so that the window may have changed
        self.declared = False  # whether any task ever declared how long it takes
        self.managers: dict[bytes, Manager] = {}  # by connection
        self.by_name: dict[str, Manager] = {}
        self.queue: Turns[msg.TaskRun] = Turns(lambda run: len(run.payloads), split_run)
        self.suspects: deque[msg.TaskRun] = deque()  # single tasks, one per manager at a time
        # After a restart, tasks that a manager which may come back was sent; by its name.
        self.waiting: dict[str, dict[tuple[bytes, int], msg.TaskRun]] = {}
        self.outbox = Outbox(first=(epoch << 32) + 1)

    def begin(self, now: float) -> list[ev.Action]:
        """Begin with an event; where the actions that it causes are put."""
        self.now = now
        self.actions = []
        self._notes_left = NOTES
        return self.actions

    def note(self, text: str, level: str = "info") -> None:
        """Write a line to the log; of very many at once, the first."""
        if not self._notes:
            return
        self._notes_left -= 1
        if self._notes_left > 0:
            self.actions.append(ev.Note(level, text))
        elif self._notes_left == 0:
            self.actions.append(ev.Note(level, "... and more of this kind at the same time"))

    def drain(self, manager: Manager) -> None:
        """Have a manager finish what it runs, and leave."""
        manager.draining = True
        self.credit_changed = True
        self.to_manager(manager.peer, msg.Drain())

    def to_manager(self, peer: bytes, message: msg.ToManager) -> None:
        """Send a message to a manager."""
        self.actions.append(ev.ToManager(peer, message))

    def requeue(self, task: msg.TaskRun) -> None:
        """Queue a single task again, before all that waits."""
        if task.suspect:
            self.suspects.appendleft(task)
        else:
            self.queue.push_front(task.stream, task)

    def running(self) -> list[msg.TaskRefs]:
        """All tasks that are known to run."""
        tasks: dict[bytes, list[int]] = {}
        for manager in self.managers.values():
            for stream, index in manager.running:
                tasks.setdefault(stream, []).append(index)
        return refs(tasks)

    def held(self) -> list[msg.TaskRefs]:
        """All tasks that are here, or at a manager, or whose outcome lies in the spool."""
        tasks: dict[bytes, list[int]] = {}
        waiting = [run for kept in self.waiting.values() for run in kept.values()]
        for run in [*self.queue, *self.suspects, *waiting]:
            tasks.setdefault(run.stream, []).extend(range(run.first, run.first + len(run.payloads)))
        for manager in self.managers.values():
            for stream, held in manager.held.items():
                tasks.setdefault(stream, []).extend(held)
        return refs(tasks) + self.outbox.spooled_tasks()
