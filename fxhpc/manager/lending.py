"""A node that is lent to a task over several nodes: it is emptied, waits, and is itself again.

On the first node of a partition the task's function runs, as any with needs of its own; what it
starts runs on all of them. On the others nothing else does, until the interchange says that the
task is over. What the task has left on a node is ended then.
"""

from __future__ import annotations

from fxhpc.ids import task_id
from fxhpc.manager import events as ev
from fxhpc.manager.desk import Desk
from fxhpc.manager.leasing import Leasing
from fxhpc.manager.staff import Staff
from fxhpc.protocol import messages as msg


class Lending:
    """Sees that the node is empty, and says so."""

    def __init__(self, desk: Desk, staff: Staff, leasing: Leasing) -> None:
        self._desk = desk
        self._staff = staff
        self._leasing = leasing
        self._told = False

    def lend(self, partition: msg.Partition) -> None:
        """What has not begun goes back; nothing but this task begins."""
        desk = self._desk
        if desk.lent is not None and desk.lent != partition:
            self.end(desk.lent)
        self._told = False
        if desk.lent == partition:
            return
        desk.lent = partition
        desk.say_returned(desk.backlog.take_all())
        for slot in self._staff.slots.values():
            if slot.tasks:
                self._staff.skip(slot, slot.begun)

    def end(self, partition: msg.Partition) -> None:
        """The task is over, or does not need this node after all."""
        desk = self._desk
        if partition != desk.lent:
            return  # of an attempt before
        desk.lent = None
        ref = msg.TaskRefs(
            partition.stream, [partition.index, 1], partition.epoch, partition.attempt
        )
        desk.say_returned(desk.backlog.take_matching([ref], any_attempt=False))
        self._staff.end_partition(partition, "one of the nodes that the task had was lost")
        desk.actions.append(ev.EndMarked(task_id(partition.stream, partition.index)))
        self._leasing.end_several()

    def greeted(self) -> None:
        """Another interchange may listen."""
        self._told = False

    def turn(self) -> None:
        """Say when the node is empty."""
        desk = self._desk
        if desk.lent is None or self._told or not desk.linked:
            return
        if not desk.backlog and not any(slot.tasks for slot in self._staff.slots.values()):
            self._told = True
            desk.say(msg.Lent(desk.lent))
