"""What becomes of an attempt that ended without an outcome: another one, or the task's end."""

from __future__ import annotations

from fxhpc.interchange import events as ev
from fxhpc.interchange.held import Histories, Manager, manager_lost, single
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, Outcome, OutcomeKind, is_charged, is_final, pack_loss

#: In the journal, in the place of a manager's name: these were lost, and must not run again.
LOST = ""


class Losses:
    """Counts what counts against a task, and gives it up when that is too much."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.histories = Histories()

    def lose(self, task: msg.TaskRun, loss: Loss, charge: bool = False) -> None:
        """An attempt has ended without an outcome: try again, or give the task up."""
        key = (task.stream, task.first)
        charged = self.histories.add(key, loss, charge or is_charged(loss.cause))
        if not is_final(loss.cause, charged, task.retries):
            self._state.requeue(task)
            return
        loss.attempts = self.histories.earlier(key)
        self.histories.forget(key)
        if task.retries == 0:
            # It must not run again, even if this outcome is lost with this process.
            ref = msg.TaskRefs(task.stream, [task.first, 1], task.epoch, task.attempt)
            self._state.actions.append(ev.Sent(LOST, [ref]))
        outcome = Outcome(task.first, OutcomeKind.LOST, pack_loss(loss))
        run = msg.ResultRun(task.stream, task.epoch, task.attempt, [outcome], host=loss.host)
        self._state.outbox.add(b"", 0, [run], self._state.actions)

    def lose_tasks(self, manager: Manager, why: str) -> None:
        """A manager is gone: what ran there is suspect, and runs again one per manager."""
        suspect = manager.suspect
        began = manager.running | manager.oldest(2 * manager.slots)
        for stream, index, run in reversed(list(manager.tasks())):
            task = single(run, index)
            if (stream, index) == suspect:
                # It ran alone among its kind when a second manager was lost: it is charged.
                loss = manager_lost(manager, why, True)
                self.lose(task, loss, charge=True)
            elif (stream, index) in began and (stream, index) not in manager.missing:
                loss = manager_lost(manager, why, (stream, index) in manager.running)
                task.suspect = suspect is None
                self.lose(task, loss)
            elif run.retries == 0:
                self.lose(task, manager_lost(manager, why, False))
            else:
                self._state.requeue(task)
