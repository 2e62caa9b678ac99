"""What became of the tasks of a simulated cluster: how often each was begun, and may have been."""

from __future__ import annotations

from collections import Counter

from fxhpc.testing.nodes import Node, Task


class Tally:
    """Counts that nobody in the cluster knows; the promises are checked against them.

    Attributes:
        executions: how often each task was begun by a worker.
        excuses: how often each task was cut off by a fault that allows it to run again.
        deaths: how often a worker was killed while it ran a task and its manager could tell of
            it, since the interchange started: what counts against the task.
        killed: how often a worker was killed while it ran a task.
        given_up: how often a manager was given up, whatever had become of it.
    """

    def __init__(self) -> None:
        self.executions: Counter[Task] = Counter()
        self.excuses: Counter[Task] = Counter()
        self.deaths: Counter[Task] = Counter()
        self.killed: Counter[Task] = Counter()
        self.given_up = 0
        self._doubtful: set[str] = set()  # managers that were given up while they lived

    def is_doubtful(self, node: Node) -> bool:
        """Whether this manager was given up once although it lived."""
        return node.name in self._doubtful

    def begun(self, node: Node, task: Task) -> None:
        """A worker has begun a task."""
        self.executions[task] += 1
        if self.is_doubtful(node):
            self.excuses[task] += 1

    def excused(self, node: Node, task: Task) -> None:
        """A task may run again."""
        self.excuses[task] += 1
        self._excuse_lent(node)

    def _excuse_lent(self, node: Node) -> None:
        """The task over several nodes that this one is lent to may run again."""
        for task in node.lent_to:
            self.excuses[task] += 1

    def node_killed(self, node: Node) -> None:
        """A manager is killed, with its workers."""
        for task in node.began:
            self.excuses[task] += 1
            del self.deaths[task]  # of the last one, nobody may have heard
        self._excuse_lent(node)

    def worker_killed(self, node: Node, task: Task) -> None:
        """A worker was killed while it ran a task."""
        self.killed[task] += 1
        if not self.is_doubtful(node):
            self.deaths[task] += 1

    def interchange_killed(self) -> None:
        """What counted against tasks is forgotten."""
        self.deaths.clear()

    def node_given_up(self, node: Node) -> None:
        """An interchange takes a manager for lost."""
        self.given_up += 1
        self._excuse_lent(node)
        if node.alive and not self.is_doubtful(node):
            self._doubtful.add(node.name)
            for task in node.began:
                self.excuses[task] += 1
