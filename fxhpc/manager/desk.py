"""What all parts of a manager's core share: what is to be done, and what has ended."""

from __future__ import annotations

from collections import deque

import msgspec

from fxhpc.manager import events as ev
from fxhpc.manager.backlog import Backlog
from fxhpc.manager.held import Part, refs
from fxhpc.manager.outbox import Outbox
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, Outcome, OutcomeKind, pack_loss

#: Messages that nobody acknowledges are sent again after a broken link if they are this young.
IN_DOUBT_S = 20.0


class Desk:
    """Where tasks come in and outcomes go out.

    Attributes:
        now: the time of the event that is being handled.
        linked: the interchange listens.
        draining: what has not begun is to go back.
        lent: the task over several nodes that has this one for itself, or shall have it.
        leaving: the process ends.
    """

    def __init__(self, host: ev.Host, now: float) -> None:
        self.host = host
        self.now = now
        self.linked = False
        self.draining = False
        self.lent: msg.Partition | None = None
        self.leaving = False
        self.backlog = Backlog(host.room)
        self.outbox = Outbox(host.host)
        self.actions: list[ev.Action] = []
        self._in_doubt: deque[tuple[float, msg.Lost]] = deque()

    def say(self, message: msg.FromManager) -> None:
        """Send, if anybody listens: whatever is not sent now is told at the next greeting."""
        if self.linked:
            self.actions.append(ev.Say(message))

    def say_started(self, part: Part | None) -> None:
        """These run now."""
        if part is not None:
            self.say(msg.Started(refs([part])))

    def say_returned(self, parts: list[Part]) -> None:
        """These were not begun, and never will be here."""
        if parts:
            self.say(msg.Returned(refs(parts)))

    def put_back(self, parts: list[Part]) -> None:
        """Workers had these and have not begun them."""
        if self.draining:
            self.say_returned(parts)
            return
        # Also what is over, of a task with several nodes.
        back = [part for part in parts if part.run.partition != self.lent]
        self.say_returned(back)
        self.backlog.put_front([part for part in parts if part not in back] if back else parts)

    def ended(self, part_of: msg.TaskRun, outcomes: list[Outcome]) -> None:
        """Tasks of a run have ended so."""
        self.outbox.add(part_of, outcomes, self.now + self.host.wall_offset_s)

    def cancelled(self, part: Part, output: bytes = b"") -> None:
        """These were cancelled; `output`: what the one that ran has printed, packed."""
        kind = OutcomeKind.CANCELLED
        self.ended(part.run, [Outcome(index, kind, output=output) for index in part.indices])

    def give_up(self, part: Part, loss: Loss) -> None:
        """End tasks that were not begun and never can be."""
        data = pack_loss(loss)
        self.ended(part.run, [Outcome(index, OutcomeKind.LOST, data) for index in part.indices])

    def lose(self, lost: list[msg.LostTask]) -> None:
        """These attempts ended without an outcome."""
        if lost:
            self.say(msg.Lost(lost))
            self._in_doubt.append((self.now, msg.Lost([_small(one) for one in lost])))

    # Nobody acknowledges a Lost, so whether the interchange knows of one that was said shortly
    # before the link broke is not known. The next greeting names its tasks as running, and once it
    # is answered the Lost is said again and takes them back.

    def in_doubt(self) -> list[msg.TaskRefs]:
        """The tasks of these losses."""
        return [
            msg.TaskRefs(task.stream, [task.index, 1], task.epoch, task.attempt)
            for _, lost in self._in_doubt
            for task in lost.tasks
        ]

    def say_in_doubt(self) -> None:
        """Say these losses again."""
        again = [lost for _, lost in self._in_doubt]
        self._in_doubt = deque((self.now, lost) for lost in again)
        for lost in again:
            self.say(lost)

    def settle_doubts(self) -> None:
        """A message that was lost on the way is noticed within a heartbeat; forget those older."""
        while self.linked and self._in_doubt and self.now - self._in_doubt[0][0] > IN_DOUBT_S:
            self._in_doubt.popleft()


def _small(lost: msg.LostTask) -> msg.LostTask:
    """A loss as it is remembered: what was kept with it may take megabytes."""
    if not lost.loss.kept:
        return lost
    loss = msgspec.structs.replace(lost.loss, kept=b"")
    return msgspec.structs.replace(lost, loss=loss)
