"""What the interchange's parts share: its queue, its managers, and the actions that they want."""

from __future__ import annotations

from collections import deque

from fxhpc.interchange import events as ev
from fxhpc.interchange.held import Manager, refs, split_run
from fxhpc.interchange.outbox import Outbox
from fxhpc.protocol import messages as msg
from fxhpc.protocol.turns import Turns


class State:
    """An interchange's memory.

    Args:
        endpoint: the endpoint's UUID.
        epoch: raised at every start, so that no attempt of before is taken for one of now.
    """

    def __init__(self, endpoint: str, epoch: int) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self.actions: list[ev.Action] = []
        self.managers: dict[bytes, Manager] = {}  # by connection
        self.by_name: dict[str, Manager] = {}
        self.queue: Turns[msg.TaskRun] = Turns(lambda run: len(run.payloads), split_run)
        self.suspects: deque[msg.TaskRun] = deque()  # single tasks, one per manager at a time
        # After a restart, tasks that a manager which may come back was sent; by its name.
        self.waiting: dict[str, dict[tuple[bytes, int], msg.TaskRun]] = {}
        self.outbox = Outbox(first=(epoch << 32) + 1)

    def to_manager(self, peer: bytes, message: msg.ToManager) -> None:
        """Send a message to a manager."""
        self.actions.append(ev.ToManager(peer, message))

    def requeue(self, task: msg.TaskRun) -> None:
        """Queue a single task again, before all that waits."""
        if task.suspect:
            self.suspects.appendleft(task)
        else:
            self.queue.push_front(task.stream, task)

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
