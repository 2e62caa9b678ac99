"""What is known after a restart: whom to wait for, who holds what, and what was lost meanwhile.

The journal names the managers of before and what they were sent; managers that come back say what
they hold; the forwarder sends again what is owed. These come in any order, and long after each
other where the window is small.
"""

from __future__ import annotations

from collections.abc import Callable

from fxhpc.interchange import awaited
from fxhpc.interchange import events as ev
from fxhpc.interchange.awaited import UNKNOWN
from fxhpc.interchange.claims import Claims
from fxhpc.interchange.held import (
    Claim,
    Manager,
    Task,
    each,
    manager_lost,
    one_ref,
    single,
    unclaimed,
    unreadable,
    without,
)
from fxhpc.interchange.losses import LOST, Losses
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause

#: How long managers of before may take to come back after a restart, in seconds.
RETURN_S = 30.0

#: The same when it was restarted again and again, and when it stops: each tries once in two, and
#: only one that stands still, or is cut off, takes longer.
SETTLED_S = 5.0


class Recovering:
    """Tasks that an earlier interchange sent, until it is known what became of them."""

    def __init__(self, state: State, losses: Losses, return_s: float) -> None:
        self._state = state
        self._losses = losses
        self._return_s = return_s
        self.expected: dict[str, float] = {}  # managers of before, and until when
        self._blocks: dict[str, str] = {}  # theirs, if they had any
        self._sent_to: dict[tuple[bytes, int], str] = {}
        # Of tasks that the forwarder has not sent again yet: who holds them, and what is known to
        # have become of them.
        self.claims = Claims()
        # The same by manager, as far as it is still so: thousands of them may come back at once.
        self._sent_of: dict[str, list[Task]] = {}
        self._fates: dict[tuple[bytes, int], Loss] = {}
        # Of an incomplete journal, which attempts it speaks of: later ones may be elsewhere.
        self._attempts: dict[Task, tuple[int, int]] = {}
        # Tasks that the forwarder has sent again: no other can be here and be claimed, too.
        self._sent_again: dict[bytes, set[int]] = {}
        self._incomplete = False  # the journal lacks some of what was sent
        #: Whether the forwarder has sent again all that an incomplete journal may lack: what it
        #: sends from now on, nobody was sent before.
        self.has_all = True
        # Of tasks that the forwarder has not sent again: those that it has cancelled, which is
        # answered when it is known who has them (see `Unsent`); and those that nobody wants.
        self.asked: dict[Task, None] = {}
        self.disowned: set[Task] = set()
        self._damaged = False  # of what was sent before, some may have ended, and nobody knows

    def __bool__(self) -> bool:
        """Whether anything of before is still to be settled."""
        return bool(self.expected or self._sent_to or self.claims or self._fates)

    def recover(self, event: ev.Recovered, now: float) -> None:
        """Take in the journal."""
        # However often the interchange is started again: all together are to wait so long, and each
        # as long as a manager takes that lives.
        self.expected = {
            manager: now + max(SETTLED_S, self._return_s - event.away.get(manager, 0.0))
            for manager in event.managers
        }
        self._blocks = dict(event.blocks)
        self._damaged = event.damaged
        self._incomplete = event.incomplete
        self.has_all = not (event.incomplete or event.damaged)
        if event.incomplete:
            self.expected[UNKNOWN] = now + self._return_s
            self._state.awaits_unknown = True
        for sent in event.sent:
            for ref, index in each(sent.tasks):
                self._sent_to[ref.stream, index] = sent.manager
                self._sent_of.setdefault(sent.manager, []).append((ref.stream, index))
                if event.incomplete:
                    self._attempts[ref.stream, index] = (ref.epoch, ref.attempt)

    def believe(self, name: str, there: list[tuple[msg.TaskRefs, int, bool]]) -> None:
        """A manager holds later attempts than an incomplete journal knows: they were sent to it."""
        if not self._attempts:
            return
        for ref, index, _ in there:
            task = (ref.stream, index)
            if (ref.epoch, ref.attempt) <= self._attempts.get(task, (ref.epoch, ref.attempt)):
                continue
            self._attempts[task] = (ref.epoch, ref.attempt)
            if task in self._sent_to:
                self._sent_to[task] = name
                self._sent_of.setdefault(name, []).append(task)
            for tasks in list(self._state.waiting.values()):
                if run := tasks.pop(task, None):
                    self._state.waiting.setdefault(name, {})[task] = run

    def accept(self, run: msg.TaskRun) -> None:
        """Queue tasks of the forwarder, but for those that are elsewhere already."""
        if run.sent_before:
            indices = range(run.first, run.first + len(run.payloads))
            self._sent_again.setdefault(run.stream, set()).update(indices)
        if not run.sent_before or not (self._is_doubtful() or self._state.unwanted):
            self._state.enqueue(run)
            return
        # Some of these may be at a manager that has come back, or may still come back.
        elsewhere = self._state.outbox.tasks_of(run.stream)
        for index in range(run.first, run.first + len(run.payloads)):
            task = (run.stream, index)
            name = self._sent_to.pop(task, None)
            self.asked.pop(task, None)
            if index in elsewhere:
                continue
            if claim := self.claims.pop(task):
                self.adopt(claim, single(run, index))
            elif loss := self._fates.pop(task, None):
                self._losses.lose(single(run, index), loss)
            elif name not in self.expected and UNKNOWN in self.expected:
                # Also if the journal names a manager that is gone: it lacks whom it was sent since.
                self._state.waiting.setdefault(UNKNOWN, {})[task] = single(run, index)
            elif name is not None and name in self.expected:
                self._state.waiting.setdefault(name, {})[task] = single(run, index)
            elif name and (manager := self._state.by_name.get(name)) and manager.unstored:
                manager.hold(single(run, index))
                manager.missing.append(task)
            elif name is not None and run.retries == 0:
                gone = Manager(b"", name or "of before", 0, "", 0.0)
                loss = manager_lost(gone, "it was gone before its interchange started", False)
                self._losses.lose(single(run, index), loss)
            elif self._damaged and run.retries == 0:
                self._losses.lose(single(run, index), unreadable())
            elif self._incomplete and run.retries == 0:  # nobody is waited for any more
                self._losses.lose(single(run, index), unclaimed())
            elif not (self._state.unwanted and self._state.end_unwanted(single(run, index))):
                continue
            elsewhere.add(index)
        for part in without(run, elsewhere):
            self._state.enqueue(part)

    def _is_doubtful(self) -> bool:
        """Whether anything is known of tasks that the forwarder has not sent to this process."""
        return bool(
            self._sent_to
            or self.claims
            or self._fates
            or self._state.outbox
            or self._damaged
            or self._incomplete
            or UNKNOWN in self.expected
        )

    @property
    def is_open(self) -> bool:
        """Whether managers of before may have tasks that the forwarder has not sent here."""
        return bool(self._sent_to or self.claims or UNKNOWN in self.expected)

    def may_have(self, task: Task) -> bool:
        """Whether that may be so of this task."""
        if task in self.claims or UNKNOWN in self.expected:
            return True
        name = self._sent_to.get(task)
        if name is None or name in self.expected:
            return name is not None
        manager = self._state.by_name.get(name)
        return manager is not None and bool(manager.unstored)

    def unreadable(self, tasks: list[msg.TaskRefs]) -> None:
        """The outcomes of these were in the spool, and are lost: the forwarder is to send them
        again, which it does when it greets again.
        """
        for ref, index in each(tasks):
            self._fates[ref.stream, index] = unreadable()
        self._state.actions.append(ev.ToForwarder(msg.Reset()))

    def adopt(self, claim: Claim, task: msg.TaskRun) -> None:
        """A manager holds this already: take note, and send it nothing."""
        manager = self._state.by_name[claim.manager]
        task.epoch, task.attempt = claim.epoch, claim.attempt
        manager.hold(task)
        if claim.running:
            manager.running[task.stream, task.first] = self._state.now
            started = msg.Started([msg.TaskRefs(task.stream, [task.first, 1])])
            self._state.actions.append(ev.ToForwarder(started))
        interrupt = self._state.unwanted.get((task.stream, task.first))
        if claim.running and not interrupt:
            self._state.unwanted.pop((task.stream, task.first), None)  # it had begun before
        elif interrupt is not None:
            manager.cancelled[task.stream, task.first] = interrupt  # told with the welcome

    def _sent(self, name: str) -> set[Task]:
        """What this manager was sent; it is asked for once."""
        return {task for task in self._sent_of.pop(name, ()) if self._sent_to.get(task) == name}

    def take_claims(self, manager: Manager) -> set[tuple[bytes, int]]:
        """Forget what a manager claimed when it greeted before; it claims anew."""
        claimed = self.claims.take(manager.name)
        for task in claimed:
            if task in self.asked:  # if it does not claim this any more, it is about to tell why
                self._sent_to[task] = manager.name
                self._sent_of.setdefault(manager.name, []).append(task)
        return claimed

    def claim(
        self, manager: Manager, tasks: list[tuple[msg.TaskRefs, int, bool]]
    ) -> list[msg.TaskRefs]:
        """A manager holds tasks of an earlier interchange that the forwarder has not sent here
        yet. Returns those that are not its business any more.
        """
        if not tasks:
            return []
        drop: list[msg.TaskRefs] = []
        known = self._known(tasks)
        runs: list[msg.TaskRefs] = []
        for ref, index, running in tasks:
            task = (ref.stream, index)
            if task in self.disowned:
                drop.append(one_ref(ref, index))
                continue
            if (claim := self.claims.get(task)) is not None:
                if claim.manager == manager.name:
                    continue
                if (claim.epoch, claim.attempt) < (ref.epoch, ref.attempt):
                    self._overtake(task, claim)
                else:
                    known.add(task)
            if task in known or self._sent_to.get(task, manager.name) != manager.name:
                drop.append(one_ref(ref, index))  # somebody else was given it since
                continue
            self._sent_to.pop(task, None)
            self._fates.pop(task, None)
            self.claims.add(task, Claim(manager.name, ref.epoch, ref.attempt, running))
            if running:
                runs.append(msg.TaskRefs(ref.stream, [index, 1]))
        if runs:
            # If it was cancelled meanwhile, the forwarder never sends it here: it says so to this.
            self._state.actions.append(ev.ToForwarder(msg.Started(runs)))
        return drop

    def was_sent_again(self, stream: bytes, index: int) -> bool:
        """Whether the forwarder has sent a task that had been sent before."""
        return index in self._sent_again.get(stream, ())

    def _known(self, tasks: list[tuple[msg.TaskRefs, int, bool]]) -> set[Task]:
        """What is here, as far as these tasks may be. All of it is only looked at if one of them
        was sent again: thousands of managers may come back at once.
        """
        again = self._sent_again
        if any(index in again.get(ref.stream, ()) for ref, index, _ in tasks):
            held = self._state.held()
        else:
            held = self._state.outbox.spooled_tasks()
        return {(ref.stream, index) for ref, index in each(held)}

    def _overtake(self, task: Task, claim: Claim) -> None:
        """An incomplete journal did not know of a later attempt: this one had been given up."""
        self.claims.pop(task)
        if before := self._state.by_name.get(claim.manager):
            refs = [msg.TaskRefs(task[0], [task[1], 1], claim.epoch, claim.attempt)]
            cancel = msg.Cancel(refs, interrupt=True, forget=True)
            self._state.actions.append(ev.ToManager(before.peer, cancel))

    def disown(self, task: tuple[bytes, int]) -> Manager | None:
        """The forwarder does not want a task any more that it has not sent here; who claims it."""
        claim = self.claims.pop(task)
        if claim is None and self.may_have(task):
            self.disowned.add(task)  # for whoever comes with it
        self._sent_to.pop(task, None)
        self._fates.pop(task, None)
        if task in self.asked:
            del self.asked[task]
            self._state.unwanted.pop(task, None)
        return self._state.by_name.get(claim.manager) if claim is not None else None

    def lost(self, manager: Manager, lost: msg.LostTask) -> None:
        """A manager has lost something that it does not hold: maybe something that it claimed."""
        task = (lost.stream, lost.index)
        if self.claims.take_attempt(task, manager.name, lost.epoch, lost.attempt):
            self._fates[task] = lost.loss
            # Whether it may run again says the forwarder, when it sends it: to the next process,
            # if this one is gone by then.
            ref = msg.TaskRefs(lost.stream, [lost.index, 1], lost.epoch, lost.attempt)
            self._state.actions.append(ev.Sent(LOST, [ref]))

    def returned(self, manager: Manager, ref: msg.TaskRefs, index: int) -> None:
        """A manager has not begun something that it does not hold: maybe something it claimed."""
        self.claims.take_attempt((ref.stream, index), manager.name, ref.epoch, ref.attempt)

    def ended(self, task: tuple[bytes, int]) -> bool:
        """A task has ended; whether it waited for a manager to come back."""
        for tasks in self._state.waiting.values():
            if tasks.pop(task, None):
                return True
        self.claims.pop(task)
        self._fates.pop(task, None)
        self._sent_to.pop(task, None)
        self.asked.pop(task, None)
        return False

    def told_all(self, name: str) -> None:
        """It has told all: what else it was sent has not arrived there."""
        for task in self._sent(name):
            del self._sent_to[task]

    def manager_gone(
        self, manager: Manager, why: str, cause: LossCause = LossCause.MANAGER_LOST
    ) -> None:
        """What a manager claimed, or may have, is lost with it."""
        if cause == LossCause.WALLTIME:
            cause = LossCause.INTERRUPTED  # how long these ran is not known here
        for key in self.claims.take(manager.name):
            self._fates[key] = manager_lost(manager, why, True, cause)
        self._give_up_sent(manager, why)

    def _give_up_sent(
        self, manager: Manager, why: str, cause: LossCause = LossCause.MANAGER_LOST
    ) -> None:
        """A manager is gone that was sent tasks which the forwarder has not sent here yet."""
        for task in self._sent(manager.name):
            del self._sent_to[task]
            self._fates[task] = manager_lost(manager, why, False, cause)

    def _settle(self, now: float) -> None:
        """All managers are back, and have told all: nobody holds what an incomplete journal left
        open. Not before each had its time to come back: one that stands still may hold it.
        """
        if (
            self.expected.keys() == {UNKNOWN}
            and now > self.expected[UNKNOWN]
            and not any(manager.unstored for manager in self._state.by_name.values())
        ):
            del self.expected[UNKNOWN]
            self._state.awaits_unknown = False
            self._state.note("nobody else is waited for who may have tasks of before")
            for task in reversed(list(self._state.waiting.pop(UNKNOWN, {}).values())):
                if task.retries:
                    self._state.requeue(task)
                else:  # who ran it may have died since
                    self._losses.lose(task, unclaimed())

    def may_come(self, name: str) -> bool:
        """Whether a manager of before may still come back."""
        return name in self.expected or UNKNOWN in self.expected

    @property
    def awaited(self) -> int:
        """How many managers of before may still come back."""
        return len(self.expected.keys() - {UNKNOWN})

    def may_return(self, block: str) -> bool:
        """Whether a manager of this block may still come back."""
        return any(self._blocks.get(name) == block for name in self.expected)

    def waits_for(self, without_tasks: bool = False) -> str:
        """Which tasks wait for managers to come back, and for which; empty: none do.

        Args:
            without_tasks: tell of managers that may come back although no task waits for them, as
                far as is known: the forwarder may not have sent these again yet.
        """
        waiting = {name: len(tasks) for name, tasks in self._state.waiting.items() if tasks}
        expected = list(self.expected) if without_tasks and self.awaited else []
        return awaited.words(waiting, expected, self._blocks, self._return_s)

    def tick(self, now: float, has_ended: Callable[[str], bool]) -> None:
        """Give up managers that do not come back, or cannot: their blocks have ended."""
        for name, until in list(self.expected.items()):
            if name == UNKNOWN:
                continue
            block = self._blocks.get(name, "")
            if now > until:
                why = f"it did not come back within {self._return_s:.0f} s"
                self._give_up(name, block, why, LossCause.MANAGER_LOST, now)
            elif has_ended(block):
                why = "its block ended while the endpoint was away"
                self._give_up(name, block, why, LossCause.INTERRUPTED, now)
        self._settle(now)
        if self.disowned and not self.expected:
            self.disowned.clear()

    def replaced(self, by: str, now: float) -> None:
        """A manager has registered that is started when the one before has ended."""
        if by not in self._state.by_name:
            return  # it was refused
        for name in [name for name in self.expected if name != UNKNOWN]:
            why = "its process ended while nobody watched, and another was started"
            self._give_up(name, self._blocks.get(name, ""), why, LossCause.MANAGER_LOST, now)
        if UNKNOWN in self.expected:
            self.expected[UNKNOWN] = now  # there is no other

    def _give_up(self, name: str, block: str, why: str, cause: LossCause, now: float) -> None:
        del self.expected[name]
        self._state.actions.append(ev.ManagerKnown(name, False))
        self._state.note(f"manager {name} is not waited for any more: {why}")
        gone = Manager(b"", name, 0, "", now)
        gone.block = block
        self._give_up_sent(gone, why, cause)
        loss = manager_lost(gone, why, False, cause)
        for task in reversed(list(self._state.waiting.pop(name, {}).values())):
            # If it is known what has ended the manager, none of its tasks is to blame.
            task.suspect = task.suspect or cause == LossCause.MANAGER_LOST
            self._losses.lose(task, loss)
