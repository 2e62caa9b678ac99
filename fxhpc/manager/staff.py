"""Workers, as the core sees them: what they were given, have begun, and are to give back."""

from __future__ import annotations

from fxhpc.manager import events as ev
from fxhpc.manager import losses, overdue
from fxhpc.manager.backlog import named
from fxhpc.manager.blame import Blame
from fxhpc.manager.desk import Desk
from fxhpc.manager.held import Ending, Part, Slot
from fxhpc.manager.hiring import Hiring
from fxhpc.manager.pace import LOOK_AHEAD_S, Pace, kind_of
from fxhpc.manager.resources.nearing import Over
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import size_of

#: A task that has run for so long is said to have started.
STARTED_S = 0.05

#: A worker that is at one task for so long has its outcomes read, and its further work taken.
STUCK_S = 0.02

#: How long after a worker was told to skip places its page shows surely which it had begun before.
SETTLE_S = 0.002

#: A worker that was killed and has not died for so long is given up. A process that waits for a
#: file system that does not answer dies when that answers.
UNDEAD_S = 10.0


class Staff:
    """All workers of a manager.

    Attributes:
        slots: the workers that are not known to be dead.
        idle: those with nothing to do.
        short: those that have less work than the look-ahead.
        suspect: the one that runs a suspect task.
        hiring: starts them.
        calling: those that are looked at call by call, since each call has a walltime.
        sized: those that have a lease, for tasks of one class.
        apart: those with nothing to do that are not for any ordinary task: they have a lease, or
            their cells are others', or kept free.
        ahead: of those with a lease, the ones that have less work than the look-ahead.
        changed: any of these may do something else now.
    """

    def __init__(self, desk: Desk, pace: Pace) -> None:
        self.slots: dict[int, Slot] = {}
        self.idle: dict[int, Slot] = {}
        self.short: dict[int, Slot] = {}
        self.suspect: int | None = None
        self.calling: set[int] = set()
        self.hiring = Hiring(desk, self.slots)
        self.sized = self.hiring.sized
        self.apart: dict[int, Slot] = {}
        self.ahead: dict[int, Slot] = {}
        self.changed = False
        self._desk = desk
        self._pace = pace
        self._blame = Blame()

    def started(self, event: ev.WorkerStarted) -> None:
        """A worker's process exists."""
        if slot := self.slots.get(event.worker):
            slot.pid = event.pid

    def said(self, event: ev.WorkerSaid) -> None:
        """A worker has sent outcomes, or they were found in its page."""
        slot = self.slots.get(event.worker)
        if slot is None:
            return
        batch = event.batch
        if not slot.ready:
            slot.ready = True
            self.hiring.is_ready(slot)
        place, outcomes = batch.place, batch.outcomes
        if outcomes and slot.given and slot.given[0].place < place:
            return  # read in its page, and what it had sent before is still in the socket
        if outcomes and place < slot.done:  # read in its page before
            del outcomes[: slot.done - place]
            place = slot.done
        count = len(outcomes)
        at = 0
        while at < count and slot.given:
            given = slot.given[0]
            if place < given.place:  # taken back, and run all the same: it cannot be so
                at += given.place - place
                place = given.place
                continue
            number = min(len(given.part), count - at)
            ended = outcomes[at : at + number] if number < count else outcomes
            run = given.part.run
            cost_s = given.cost_s
            given.take(number)
            if not given.part:
                slot.given.popleft()
            slot.ended(number, cost_s)
            self._desk.ended(run, ended)
            whole = number == len(batch.outcomes) and batch.spent_s > 0
            spent_s = batch.spent_s if whole else sum(outcome.ran for outcome in ended)
            made = size_of(ended)
            if slot.needs:
                self._pace.note(slot.needs + kind_of(run), number, spent_s, made, apart=True)
            else:
                self._pace.note(kind_of(run), number, spent_s, made)
            at += number
            place += number
        if at < count:  # of tasks that are not its concern any more
            place += count - at
        slot.done = max(slot.done, min(place, slot.next_place))
        # What it has come past without an outcome, it was told to skip, and never will begin.
        self._desk.put_back(self._without_all_cancelled(slot, slot.passed(slot.done)))
        self._end_skip(slot)
        if slot.due and slot.running_place is None:
            slot.due = 0.0
        if slot.announced and slot.running_place is None:
            slot.announced = False  # the next one is looked for
        if self.suspect == slot.worker and not slot.tasks:
            self.suspect = None
        self.offer(slot)

    def offer(self, slot: Slot) -> None:
        """Note whether a worker can be given more."""
        self.withhold(slot)
        if not slot.ready or slot.skip is not None or slot.kill:
            return
        if slot.apart:
            self._offer_apart(slot)
        elif not slot.tasks:
            self.idle[slot.worker] = slot
        elif slot.load_s < (LOOK_AHEAD_S if slot.tasks > 1 else STUCK_S):
            # With one task, of which the measured duration varies, it is not to run dry.
            self.short[slot.worker] = slot

    def _offer_apart(self, slot: Slot) -> None:
        if slot.dismissed:
            return
        self.changed = True
        if not slot.tasks:
            self.apart[slot.worker] = slot
            slot.idle_since = self._desk.now
        elif slot.needs and slot.load_s < (LOOK_AHEAD_S if slot.tasks > 1 else STUCK_S):
            self.ahead[slot.worker] = slot

    def set_apart(self, slot: Slot, apart: bool) -> None:
        """Have an ordinary worker idle, and what it has not begun given to others; or not."""
        self.withhold(slot)
        slot.apart = apart
        if apart and slot.tasks:
            self.skip(slot, slot.begun)
        self.offer(slot)

    @property
    def stuck(self) -> int:
        """How many of the workers for all are at one task for long."""
        slots = self.slots.values()
        return sum(
            slot.announced and slot.running_place is not None and not slot.apart for slot in slots
        )

    def withhold(self, slot: Slot) -> None:
        """It cannot be given more."""
        self.idle.pop(slot.worker, None)
        self.short.pop(slot.worker, None)
        if slot.apart:
            self.apart.pop(slot.worker, None)
            self.ahead.pop(slot.worker, None)

    def looked(self, begun: dict[int, int], calls: dict[int, int]) -> None:
        """What stands in the pages: see who is at one task for long, and who skipped what."""
        now = self._desk.now
        for worker, word in begun.items():
            slot = self.slots.get(worker)
            if slot is None:
                continue
            if word != slot.begun:
                slot.begun, slot.begun_since, slot.announced = word, now, False
                if slot.limited and overdue.began(slot):
                    self.calling.add(worker)
                else:
                    self.calling.discard(worker)
            if slot.skip is not None and not slot.skip_settled:
                if now - slot.skip_since >= SETTLE_S:
                    self._settle(slot)
                continue
            place = slot.running_place
            if place is None:
                continue
            for_s = now - slot.begun_since
            if for_s >= STARTED_S and not slot.announced:
                slot.announced = True
                self._desk.say_started(slot.part_at(place))
            if for_s >= STUCK_S:
                if place > slot.done:
                    self._desk.actions.append(ev.ReadPage(worker))
                if not slot.kill:
                    self.skip(slot, word)
            if worker in calls and worker in self.calling:
                overdue.at_call(slot, calls[worker], now)
            if slot.due and now >= slot.due:
                slot.due = 0.0
                if not slot.kill:
                    self._end_running(slot, place, overdue.ending(slot, now), show_where=True)

    def skip(self, slot: Slot, place: int) -> None:
        """Begin to take back what a worker was given from this place on.

        It gets no more work until it has come past these places, so that they always reach to the
        end of what it was given, and more of it can be taken back later.
        """
        place = max(place, slot.done)
        if place >= slot.next_place:
            return
        if slot.skip is not None and (not slot.skip_settled or place >= slot.skip[0]):
            return  # the rest is done when that is settled, or is done already
        slot.skip = (place, slot.next_place)
        slot.skip_since, slot.skip_settled = self._desk.now, False
        self.withhold(slot)
        self._desk.actions.append(ev.Skip(slot.worker, *slot.skip))

    def _settle(self, slot: Slot) -> None:
        """It is known by now what a worker had begun when it was told to skip the rest."""
        assert slot.skip is not None
        slot.skip_settled = True
        back = self.cut(slot, max(slot.skip[0], slot.begun))
        self._desk.put_back(back)
        running = slot.running_place
        cancelled = slot.cancelled
        slot.cancelled = {place: how for place, how in cancelled.items() if place >= slot.begun}
        if running is not None and running in cancelled:
            self._cancel_running(slot, running, *cancelled[running])
        # What was asked for while this was in doubt, and reaches further.
        if slot.cancelled:
            self.skip(slot, min(slot.cancelled))
        elif self._desk.draining:
            self.skip(slot, slot.begun)
        self._end_skip(slot)
        self.offer(slot)

    def cut(self, slot: Slot, place: int) -> list[Part]:
        """Take from a worker what it has not begun; what of it is cancelled ends here."""
        back = self._without_all_cancelled(slot, slot.cut(place))
        if self.suspect == slot.worker and not slot.tasks:
            self.suspect = None  # it was taken back, or dropped: the next one may run
        return back

    def _end_skip(self, slot: Slot) -> None:
        """Let a worker go on once it is past the places that it was to skip."""
        if slot.skip is not None and slot.skip_settled and slot.done >= slot.skip[1]:
            slot.skip = None
            self._desk.actions.append(ev.Skip(slot.worker, 0, 0))

    def _without_all_cancelled(self, slot: Slot, parts: list[tuple[int, Part]]) -> list[Part]:
        return [one for begin, part in parts for one in self._without_cancelled(slot, part, begin)]

    def _without_cancelled(self, slot: Slot, part: Part, place: int) -> list[Part]:
        """What is left of a part that was taken back, when its cancelled tasks have ended."""
        if not slot.cancelled:
            return [part]
        indices: set[int] = set()
        for at in range(place, place + len(part)):
            if at in slot.cancelled:
                indices.add(part.first + at - place)
                _, tell = slot.cancelled.pop(at)
                if tell:
                    position = part.start + at - place
                    self._desk.cancelled(Part(part.run, position, position + 1))
        return part.without(indices)

    def gone(self, gone: ev.WorkerGone) -> None:
        """A worker is dead: tell what becomes of what it had, and start another."""
        slot = self.slots.pop(gone.worker, None)
        if slot is None:
            return
        self.withhold(slot)
        self.calling.discard(slot.worker)
        if self.suspect == slot.worker:
            self.suspect = None
        # Of a task that it began after the last look nobody knows when.
        ran_s = max(0.0, self._desk.now - slot.begun_since) if slot.begun >= gone.begun else 0.0
        slot.begun = max(slot.begun, gone.begun)
        lost: list[msg.LostTask] = []
        back = self.cut(slot, slot.begun)
        self._desk.put_back(back)
        running = slot.running_place
        silent = gone.silent()
        for given in slot.given:
            while given.part:
                place = given.place
                part = given.take(1)
                ending = slot.kill.get(place)
                dead = gone if place == running else silent
                over = gone.over if ending is None else ending.over
                if ending is not None and ending.ran_s:
                    loss = losses.out_of_time(part, slot, dead, self._desk.host, ending)
                elif over is not None and place == running:
                    if self._blame.is_shared(part, slot, over):
                        loss = losses.crowded_out(part, slot, dead, self._desk.host, over)
                    else:
                        loss = losses.out_of_memory(part, slot, dead, self._desk.host, over, ran_s)
                elif ending is not None and ending.why:
                    loss = losses.interrupted(part, slot, dead, self._desk.host, ending.why)
                elif ending is not None:
                    if ending.tell:
                        self._desk.cancelled(part, losses.printed(part, dead))
                    continue
                elif place != running:
                    loss = losses.outcome_missing(part, slot, dead, self._desk.host)
                elif slot.kill:
                    why = "the task before this one was to be ended, and ended meanwhile"
                    loss = losses.interrupted(part, slot, dead, self._desk.host, why)
                elif slot.dismissed:
                    why = "tasks before this one had left too much there"
                    loss = losses.interrupted(part, slot, dead, self._desk.host, why)
                else:
                    loss = losses.worker_died(part, slot, dead, self._desk.host, ran_s)
                lost.append(losses.lost(part, loss))
        self._desk.lose(lost)
        self.changed = True
        self.hiring.replace(slot, gone)

    def over_memory(self, over: Over) -> None:
        """A worker uses more memory than its lease has: the task that it is at is ended."""
        slot = self.slots.get(over.worker)
        if slot is None or slot.kill or slot.dismissed:
            return
        place = slot.running_place
        if place is not None:
            self._end_running(slot, place, Ending(over=over))
            return
        # Nothing of now is to blame: others have left that there.
        slot.dismissed, slot.killed_at = True, self._desk.now
        self.withhold(slot)
        self._desk.actions.append(ev.KillWorker(slot.worker))

    def end_given(
        self, tasks: list[msg.TaskRefs], *, any_attempt: bool, interrupt: bool, tell: bool
    ) -> None:
        """End tasks that workers were given, as far as they have not begun or `interrupt`."""
        for slot in self.slots.values():
            first: int | None = None
            for given in slot.given:
                for index in named(given.part, tasks, any_attempt=any_attempt):
                    place = given.place + index - given.part.first
                    if place >= slot.begun:
                        slot.cancelled[place] = (interrupt, tell)
                        first = place if first is None else min(first, place)
                    elif place == slot.running_place:
                        self._cancel_running(slot, place, interrupt, tell)
            if first is not None:
                self.skip(slot, first)

    def end_partition(self, partition: msg.Partition, why: str) -> None:
        """End an attempt at a task over several nodes, if it is here: it is lost, or goes back."""
        for slot in self.sized.values():
            for given in slot.given:
                if given.part.run.partition != partition:
                    continue
                if given.place == slot.running_place:
                    self._end_running(slot, given.place, Ending(tell=False, why=why))
                else:
                    self.skip(slot, given.place)

    def _cancel_running(self, slot: Slot, place: int, interrupt: bool, tell: bool) -> None:
        if interrupt:
            self._end_running(slot, place, Ending(tell))
        else:
            self._desk.say_started(slot.part_at(place))

    def _end_running(
        self, slot: Slot, place: int, ending: Ending, *, show_where: bool = False
    ) -> None:
        """Have a worker killed because of the task that it is at."""
        if not slot.kill:
            self.skip(slot, place + 1)
            self._desk.actions.append(ev.KillWorker(slot.worker, show_where))
            self.withhold(slot)
            slot.killed_at = self._desk.now
        slot.kill[place] = ending

    def turn(self) -> None:
        """Give up workers that do not die. If none can be started, say so of all tasks, but try one
        again now and then.
        """
        for slot in list(self.slots.values()):
            if slot.kill and self._desk.now - slot.killed_at >= UNDEAD_S:
                self.gone(ev.WorkerGone(slot.worker, slot.begun, undead=True))
        if self.hiring.turn():
            self.changed = True
