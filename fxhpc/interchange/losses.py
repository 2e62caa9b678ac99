"""What becomes of an attempt that ended without an outcome: another one, or the task's end."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fxhpc.ids import task_id
from fxhpc.interchange import events as ev
from fxhpc.interchange.blocks import walltimes
from fxhpc.interchange.blocks.bad_nodes import BadNodes
from fxhpc.interchange.held import Manager, in_block, manager_lost, single
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import needs_of
from fxhpc.protocol.outcome import (
    ERROR,
    VALUE,
    Loss,
    LossCause,
    Outcome,
    OutcomeKind,
    Output,
    is_charged,
    is_final,
    pack_loss,
)

#: What a call has printed that is given up goes along with its chunk: of each stream, so much.
CALL_OUTPUT_BYTES = 16 * 1024

#: A manager gets no tasks for so long whose container did not start there, if others can have it.
AVOID_S = 60.0

#: After these a chunk runs carefully: its worker died of it, or was ended, and the next one may be.
_CAREFUL_AFTER = frozenset(
    {
        LossCause.WORKER_KILLED,
        LossCause.WORKER_EXITED,
        LossCause.INTERRUPTED,
        LossCause.WALLTIME,
        LossCause.TASK_WALLTIME,
        LossCause.TASK_MEMORY,
    }
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

    def cancelled(self, stream: bytes, indices: Iterable[int]) -> None:
        """Nobody wants these tasks any more."""
        if not self.watching:
            return
        for index in indices:
            self.histories.forget((stream, index))
            self._bad_nodes.forget((stream, index))

    def lose(self, task: msg.TaskRun, loss: Loss, charges: int = 0) -> None:
        """An attempt has ended without an outcome: try again, or give the task up.

        Args:
            charges: how often that counts against it, if its cause alone does not say so.
        """
        output, loss.output = loss.output, b""
        kept, loss.kept = loss.kept, b""
        key = (task.stream, task.first)
        if self._state.unwanted and self._state.end_unwanted(task):
            self._bad_nodes.forget(key)
            return
        if (
            loss.call >= 0
            and task.retries
            and (is_charged(loss.cause) or is_final(loss.cause, 0, 1))
        ):
            self._lose_call(task, loss, output, kept)
            return
        self._keep_calls(task, loss, kept)
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

    def _keep_calls(self, task: msg.TaskRun, loss: Loss, kept: bytes) -> bool:
        """A chunk that runs again makes no call again that had ended, as far as that was kept.

        Returns: whether any was.
        """
        if not (task.calls and task.retries and (kept or loss.cause in _CAREFUL_AFTER)):
            return False
        key = (task.stream, task.first)
        kept = self.histories.kept.keep(key, kept)
        task.kept = kept + self.histories.suspect_calls(key)
        return bool(kept)

    def _lose_call(self, task: msg.TaskRun, loss: Loss, output: bytes, kept: bytes) -> None:
        """A call of a chunk has ended its worker: the chunk runs again, and in the end without it.

        It is charged for that alone, and as any task is; none of the other calls is.

        Args:
            output: what was printed, packed. Of a call that is given up it is told.
            kept: how other calls had ended.
        """
        name = task_id(task.stream, task.first, loss.call)
        host = "" if loss.cause != LossCause.WORKER_KILLED else loss.host
        charged = self.histories.add_call((task.stream, task.first), loss, host)
        rest = "what is left" if self._keep_calls(task, loss, kept) else "all"
        if is_final(loss.cause, charged, task.retries):
            self._state.note(f"task {name} is lost for good: {loss.text}", "warning")
            loss.attempts = self.histories.earlier_of_call((task.stream, task.first), loss.call)
            loss.counted, loss.retries = charged, task.retries
            final = msgspec.structs.replace(loss, output=_shortened(output))
            task.given_up = [*task.given_up, msg.GivenUp(loss.call, pack_loss(final))]
            then = "without that call"
        else:
            self._state.note(f"task {name} is tried again: {loss.text}", "warning")
            then = f"with {rest} of its chunk"
        told = msgspec.structs.replace(loss, then=then, attempts=[])
        lost = msg.LostTask(task.stream, task.first, task.epoch, task.attempt, told)
        self._state.actions.append(ev.ToForwarder(msg.Lost([lost])))
        self._state.requeue(task)

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
        elif loss.cause == LossCause.WORKER_UNSTARTABLE and _is_contained(task):
            # Its container may be to blame, and nothing is known of other workers there.
            if self._goes_elsewhere(manager, task.needs):
                loss.cause = LossCause.UNDELIVERED
        elif loss.cause == LossCause.WORKER_UNSTARTABLE and self._bad_nodes.cannot_start(
            manager, loss
        ):
            loss.cause = LossCause.UNDELIVERED  # it was not begun, and others can begin it
        self.lose(task, loss)

    def _goes_elsewhere(self, manager: Manager, packed: bytes) -> bool:
        """A container does not start there: whether others can try, which they then do alone."""
        managers = self._state.managers.values()
        others = [one for one in managers if one is not manager and not one.draining]
        if manager.ledger is None or not any(
            one.ledger is not None and one.ledger.wanted(packed).cells for one in others
        ):
            return False
        manager.ledger.avoid(packed, self._state.now + AVOID_S)
        return True

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

    def lose_with_node(self, gone: Manager, task: msg.TaskRun, loss: Loss) -> None:
        """A node is gone that a task had for itself, beside that of its lead."""
        if loss.cause != LossCause.MANAGER_LOST:
            self.lose(task, loss)
            return
        if task.suspect:
            self.histories.blame((task.stream, task.first), gone.name)
        self._lose_suspect(task, loss, alone=True)

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
                self.count_walltime(manager, manager.running.get(key), loss)
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

    def count_walltime(self, manager: Manager, since: float | None, loss: Loss) -> None:
        """Only what is known to have run was cut off by the end of a block."""
        if loss.cause != LossCause.WALLTIME:
            return
        if since is None:
            loss.cause = LossCause.INTERRUPTED
        else:
            loss.ran_s = max(0.0, min(self._state.now, manager.ends) - since)
            loss.block_s = manager.block_s


def _shortened(packed: bytes) -> bytes:
    """A packed `Output` that takes little room: the ends of it."""
    if len(packed) <= CALL_OUTPUT_BYTES:
        return packed
    try:
        output = msgspec.msgpack.decode(packed, type=Output)
    except msgspec.DecodeError:
        return b""  # of a version that packs it otherwise
    output.stdout = output.stdout[-CALL_OUTPUT_BYTES:]
    output.stderr = output.stderr[-CALL_OUTPUT_BYTES:]
    return msgspec.msgpack.encode(output)


def _is_contained(task: msg.TaskRun) -> bool:
    return bool(task.needs) and needs_of(task.needs).container is not None
