"""How a manager ends: drained, refused, alone, or by a signal with its whole batch job."""

from __future__ import annotations

import signal

from fxhpc.ids import task_id
from fxhpc.manager import events as ev
from fxhpc.manager import losses
from fxhpc.manager.desk import Desk
from fxhpc.manager.staff import Staff
from fxhpc.protocol import messages as msg

#: Batch systems send SIGTERM to all processes of a job that they end. A worker that died of it is
#: believed to have been meant alone after so many seconds without one for the manager.
TERM_S = 0.5

#: What the interchange is told last has so many seconds to be stored. Batch systems kill after two.
LAST_WORDS_S = 1.0

#: A job that is ended within so many seconds of its walltime's end is ended because of it.
NEAR_END_S = 60.0


class Leaving:
    """Decides what is said of tasks when the process has to end."""

    def __init__(self, desk: Desk, staff: Staff) -> None:
        self._desk = desk
        self._staff = staff
        self._termed: dict[int, tuple[float, ev.WorkerGone]] = {}  # died of SIGTERM, and when
        self._last: ev.Leave | None = None  # to be done when results are stored, or time is up
        self._until = 0.0

    def __bool__(self) -> bool:
        """Whether it is still to be seen why workers died, or whether results are stored."""
        return bool(self._termed or self._last)

    def leave(self, reason: str, *, failed: bool = False, alone: bool = False) -> None:
        """End the process, as soon as results are stored, or left for the next interchange."""
        desk = self._desk
        if desk.leaving:
            return
        desk.leaving = True
        for results in desk.outbox.close():
            desk.say(results)
        if desk.lent is not None:
            desk.actions.append(ev.EndMarked(task_id(desk.lent.stream, desk.lent.index)))
        self._last, self._until = ev.Leave(reason, failed, alone), desk.now + LAST_WORDS_S
        self._finish()
        if self._last is not None:
            # What they had not begun was given back, and may run elsewhere by now.
            desk.actions.extend(ev.KillWorker(worker) for worker in self._staff.slots)

    def go_on(self, event: ev.Event) -> None:
        """The process is about to end: all that matters is whether its results are stored."""
        if isinstance(event, ev.Said) and isinstance(event.message, msg.ResultsStored):
            self._desk.outbox.stored(event.message.numbers)
        elif isinstance(event, ev.LinkLost):
            self._desk.linked = False
        self._finish()

    def _finish(self) -> None:
        desk = self._desk
        unstored = desk.outbox.unstored
        if self._last is None or (
            unstored and desk.linked and desk.host.keeps and desk.now < self._until
        ):
            return
        if unstored:
            desk.actions.append(ev.Keep(list(unstored.values())))
        desk.say(msg.Bye(self._last.reason))
        desk.actions.append(self._last)
        self._last = None

    def end(self, ended: ev.Ended) -> None:
        """The process is to end now: say what becomes of what it holds."""
        host, now = self._desk.host, self._desk.now
        for results in self._desk.outbox.close():
            self._desk.say(results)
        at_walltime = ended.signalled and host.ends > 0 and now >= host.ends - NEAR_END_S
        self._desk.say(msg.Capacity(0, 0, 0))  # or what is returned and lost here comes back here
        self._desk.say_returned(self._desk.backlog.take_all())
        for slot in self._staff.slots.values():
            _, gone = self._termed.get(slot.worker, (0.0, None))
            if gone is not None and gone.begun > slot.begun:
                slot.begun, slot.begun_since = gone.begun, now
            gone = gone or ended.left.get(slot.worker)
            self._desk.say_returned(self._staff.cut(slot, slot.begun))
            interrupted: list[msg.LostTask] = []
            for part in slot.singles():
                of_it = gone
                if gone is not None and not (slot.is_at(part) and gone.begun == slot.begun):
                    of_it = gone.silent()
                loss = (
                    losses.walltime(part, slot, of_it, host, now)
                    if at_walltime
                    else losses.interrupted(part, slot, of_it, host, ended.reason)
                )
                interrupted.append(losses.lost(part, loss))
            if interrupted:
                self._desk.say(msg.Lost(interrupted))
        self.leave("its job came to the end of its walltime" if at_walltime else ended.reason)

    def worker_gone(self, gone: ev.WorkerGone) -> None:
        """A worker is dead: of what may kill the manager too, or of something of its own."""
        slot = self._staff.slots.get(gone.worker)
        if slot is not None and gone.signal == signal.SIGTERM and not self._desk.leaving:
            self._termed[gone.worker] = (self._desk.now, gone)
            slot.due = 0.0  # it has ended, whatever of
            self._staff.withhold(slot)
        else:
            self._staff.gone(gone)

    def turn(self) -> None:
        """Workers that died of a SIGTERM which the manager did not get were meant alone."""
        for worker, (since, gone) in list(self._termed.items()):
            if self._desk.now - since >= TERM_S:
                del self._termed[worker]
                self._staff.gone(gone)
