"""What becomes of an attempt that ended without an outcome: another one, or the task's end."""

from __future__ import annotations

from fxhpc.ids import task_id
from fxhpc.interchange import events as ev
from fxhpc.interchange import walltimes
from fxhpc.interchange.held import Histories, Manager, in_block, manager_lost, single
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import (
    Loss,
    LossCause,
    Outcome,
    OutcomeKind,
    is_charged,
    is_final,
    pack_loss,
)

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
        final = is_final(loss.cause, charged, task.retries)
        if loss.cause == LossCause.WALLTIME:
            cut_offs, longest_s = self.histories.cut_off(key, loss.ran_s)
            if needs := walltimes.needs_more(loss, cut_offs, longest_s, self._state.name):
                loss.text = f"{loss.text.rstrip('. ')}. {needs}"
                final = True
        name = task_id(task.stream, task.first)
        if not final:
            self._state.note(f"task {name} is tried again: {loss.text}", "warning")
            self._state.requeue(task)
            return
        self._state.note(f"task {name} is lost for good: {loss.text}", "warning")
        loss.attempts = self.histories.earlier(key)
        self.histories.forget(key)
        if task.retries == 0:
            # It must not run again, even if this outcome is lost with this process.
            ref = msg.TaskRefs(task.stream, [task.first, 1], task.epoch, task.attempt)
            self._state.actions.append(ev.Sent(LOST, [ref]))
        outcome = Outcome(task.first, OutcomeKind.LOST, pack_loss(loss))
        run = msg.ResultRun(task.stream, task.epoch, task.attempt, [outcome], host=loss.host)
        self._state.outbox.add(b"", 0, [run], self._state.actions)

    def told(self, manager: Manager, task: msg.TaskRun, loss: Loss) -> None:
        """A manager tells that it has lost a task. What it left out of where that was is added."""
        where = [] if not manager.host or manager.host in loss.text else [f"on {manager.host}"]
        if manager.block and f"block {manager.block}" not in loss.text:
            where.append(in_block(manager).strip())
            loss.text = f"{loss.text.rstrip('. ')} ({', '.join(where)})"
        loss.host = loss.host or manager.host
        self.lose(task, loss)

    def lose_tasks(
        self, manager: Manager, why: str, cause: LossCause = LossCause.MANAGER_LOST
    ) -> None:
        """A manager is gone.

        What ran there is suspect, and runs again one per manager; unless it is known who ended the
        manager (`cause`), so that no task is to blame.
        """
        unexplained = cause == LossCause.MANAGER_LOST
        suspect = manager.suspect
        # One that was drained has given back whatever it had not begun.
        first = manager.held_tasks if manager.draining else 2 * manager.slots
        began = manager.running.keys() | manager.oldest(first)
        for stream, index, run in reversed(list(manager.tasks())):
            task = single(run, index)
            if (stream, index) == suspect and unexplained:
                # It ran alone among its kind when a second manager was lost: it is charged.
                loss = manager_lost(manager, why, True)
                self.lose(task, loss, charge=True)
            elif (stream, index) in began and (stream, index) not in manager.missing:
                loss = manager_lost(manager, why, (stream, index) in manager.running, cause)
                self._count_walltime(manager, (stream, index), loss)
                task.suspect = task.suspect or (unexplained and suspect is None)
                self.lose(task, loss)
            elif run.retries == 0:
                self.lose(task, manager_lost(manager, why, False))
            else:
                self._state.requeue(task)

    def _count_walltime(self, manager: Manager, task: tuple[bytes, int], loss: Loss) -> None:
        """Only what is known to have run was cut off by the end of a block."""
        if loss.cause != LossCause.WALLTIME:
            return
        since = manager.running.get(task)
        if since is None:
            loss.cause = LossCause.INTERRUPTED
        else:
            loss.ran_s = max(0.0, min(self._state.now, manager.ends) - since)
            loss.block_s = manager.block_s
