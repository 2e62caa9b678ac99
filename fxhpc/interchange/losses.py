"""What becomes of an attempt that ended without an outcome: another one, or the task's end."""

from __future__ import annotations

from fxhpc.ids import task_id
from fxhpc.interchange import events as ev
from fxhpc.interchange import walltimes
from fxhpc.interchange.bad_nodes import BadNodes
from fxhpc.interchange.held import Manager, in_block, manager_lost, single
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import (
    ERROR,
    VALUE,
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

    def __init__(self, state: State, bad_nodes: BadNodes) -> None:
        self._state = state
        self._bad_nodes = bad_nodes
        self.histories = state.histories

    @property
    def watching(self) -> bool:
        """Whether anybody wants to know of tasks that end."""
        return bool(self.histories or self._bad_nodes)

    def ended(self, host: str, stream: bytes, outcome: Outcome) -> None:
        """A task has ended with an outcome, on this host as far as it is known."""
        task = (stream, outcome.index)
        if outcome.kind in (VALUE, ERROR):
            self._bad_nodes.ended_well(host, task, self.histories.charged_on(task))
        else:
            self._bad_nodes.forget(task)
        self.histories.forget(task)

    def lose(self, task: msg.TaskRun, loss: Loss, charges: int = 0) -> None:
        """An attempt has ended without an outcome: try again, or give the task up.

        Args:
            charges: how often that counts against it, if its cause alone does not say so.
        """
        output, loss.output = loss.output, b""
        key = (task.stream, task.first)
        if self._state.unwanted and self._state.end_unwanted(task):
            self._bad_nodes.forget(key)
            return
        charged = self.histories.add(key, loss, charges or is_charged(loss.cause))
        final = is_final(loss.cause, charged, task.retries)
        if loss.cause == LossCause.WALLTIME:
            cut_offs, longest_s = self.histories.cut_off(key, loss.ran_s)
            if needs := walltimes.needs_more(loss, cut_offs, longest_s, self._state.name):
                loss.text = f"{loss.text.rstrip('. ')}. {needs}"
                final = True
        name = task_id(task.stream, task.first)
        if not final:
            self._state.note(f"task {name} is tried again: {loss.text}", "warning")
            loss.then = self._next(task)
            told = msg.LostTask(task.stream, task.first, task.epoch, task.attempt, loss)
            self._state.actions.append(ev.ToForwarder(msg.Lost([told])))
            self._state.requeue(task)
            return
        self._state.note(f"task {name} is lost for good: {loss.text}", "warning")
        self._state.again.pop(key, None)
        loss.attempts = self.histories.earlier(key)
        loss.counted, loss.retries = charged, task.retries
        _, loss.alone = self.histories.managers_lost(key)
        self.histories.forget(key)
        self._bad_nodes.forget(key)
        if task.retries == 0:
            # It must not run again, even if this outcome is lost with this process.
            ref = msg.TaskRefs(task.stream, [task.first, 1], task.epoch, task.attempt)
            self._state.actions.append(ev.Sent(LOST, [ref]))
        outcome = Outcome(task.first, OutcomeKind.LOST, pack_loss(loss), output=output)
        run = msg.ResultRun(task.stream, task.epoch, task.attempt, [outcome], host=loss.host)
        self._state.outbox.add(b"", 0, [run], self._state.actions)

    def _next(self, task: msg.TaskRun) -> str:
        """Where a task runs next, and why there, if that is not as for any other."""
        if not task.suspect:
            return ""
        key = (task.stream, task.first)
        managers, _ = self.histories.managers_lost(key)
        why = f"the last {managers} managers" if managers > 1 else "the last manager"
        why += f" that had it {'were' if managers > 1 else 'was'} lost"
        if self.histories.must_be_alone(key):
            return f"alone, on a manager that has nothing else, because {why}"
        return f"as the only suspect on its manager, because {why}"

    def told(self, manager: Manager, task: msg.TaskRun, loss: Loss) -> None:
        """A manager tells that it has lost a task. What it left out of where that was is added."""
        where = [] if not manager.host or manager.host in loss.text else [f"on {manager.host}"]
        if manager.block and f"block {manager.block}" not in loss.text:
            where.append(in_block(manager).strip())
            loss.text = f"{loss.text.rstrip('. ')} ({', '.join(where)})"
        loss.host = loss.host or manager.host
        if loss.cause == LossCause.MANAGER_LOST:
            # The manager lives, but all its workers have ended with the one that starts them.
            alone = self.histories.must_be_alone((task.stream, task.first))
            self._lose_suspect(task, loss, alone)
            return
        if loss.cause == LossCause.WORKER_KILLED and self._bad_nodes.is_aside(loss.host):
            loss.cause = LossCause.INTERRUPTED  # it is known to be the host's fault
        elif loss.cause == LossCause.WORKER_KILLED:
            self._bad_nodes.worker_died(manager, (task.stream, task.first), loss)
        elif loss.cause == LossCause.WORKER_UNSTARTABLE and self._bad_nodes.cannot_start(
            manager, loss
        ):
            loss.cause = LossCause.UNDELIVERED  # it was not begun, and others can begin it
        self.lose(task, loss)

    def _lose_suspect(self, task: msg.TaskRun, loss: Loss, alone: bool) -> None:
        """A task ran when its manager was lost, and nobody knows why that was.

        Args:
            alone: no other task ran there.
        """
        key = (task.stream, task.first)
        self.histories.lost_manager(key, alone)
        if not task.suspect:
            task.suspect = True
            self.lose(task, loss)
        elif alone:
            self.lose(task, loss, self.histories.convict(key))
        else:
            self.histories.lost_among_others(key)
            self.lose(task, loss)

    def lose_tasks(
        self, manager: Manager, why: str, cause: LossCause = LossCause.MANAGER_LOST
    ) -> None:
        """A manager is gone.

        What ran there is suspect, and runs again one per manager; unless it is known who ended the
        manager (`cause`), so that no task is to blame. Who loses a second manager so runs alone
        from then on, and is charged for what it loses then.
        """
        unexplained = cause == LossCause.MANAGER_LOST
        # One that was drained has given back whatever it had not begun.
        first = manager.held_tasks if manager.draining else 2 * manager.slots
        began = manager.running.keys() | manager.oldest(first)
        if manager.suspect is not None:
            began.add(manager.suspect)
        began.difference_update(manager.missing)
        for stream, index, run in reversed(list(manager.tasks())):
            task = single(run, index)
            key = (stream, index)
            if key in began:
                loss = manager_lost(manager, why, key in manager.running, cause)
                self._count_walltime(manager, key, loss)
                if unexplained:
                    if task.suspect:
                        self.histories.blame(key, manager.name)
                    self._lose_suspect(task, loss, len(began) == 1)
                else:
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
