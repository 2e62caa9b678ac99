"""A manager's decisions: which worker runs what, what is taken back, what is said of it.

No I/O: events in, actions out. Tasks wait in the backlog until a worker has less work than the
look-ahead; a worker gets about a millisecond of measured work at a time, so that none waits long
behind another's, and what a worker has not begun can be taken back from it. Outcomes are kept
until the interchange says that they are stored.
"""

from __future__ import annotations

from collections import deque

from fxhpc.manager import events as ev
from fxhpc.manager import losses
from fxhpc.manager.backlog import Backlog, named
from fxhpc.manager.held import Part, Slot, refs
from fxhpc.manager.outbox import Outbox
from fxhpc.manager.pace import LOOK_AHEAD_S, MESSAGE_S, MESSAGE_TASKS, Pace
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.outcome import Loss, Outcome, OutcomeKind, pack_loss
from fxhpc.version import __version__

#: A task that has run for so long is said to have started.
STARTED_S = 0.05

#: A worker that is at one task for so long has its outcomes read, and its further work taken.
STUCK_S = 0.02

#: How long after a worker was told to skip places its page shows surely which it had begun before.
SETTLE_S = 0.002

#: While a worker has short tasks or more than one, its page is looked at so often.
LOOK_S = 0.01

#: Work that would keep a worker busy for less than this is not taken from it for an idle one.
WORTH_TAKING_S = 0.003

#: Workers that die in a row before they are ready, until that is said to be hopeless; and how long
#: it takes until the next one is tried.
HOPELESS = 3
RETRY_S = 5.0

#: Bytes of tasks that are held, and of results that nobody has stored before work stops.
HELD_BYTES = 64 * 2**20
UNSTORED_BYTES = 128 * 2**20

#: Bytes of arguments in one message to a worker, if it has more than one task.
WORK_BYTES = 1 << 20

#: How long a request to give back waits for something to give back.
GIVE_BACK_S = 0.1

#: Messages that nobody acknowledges are sent again after a broken link if they are this young.
IN_DOUBT_S = 20.0


class Manager:
    """One node's workers, and the tasks that were sent to them."""

    def __init__(self, host: ev.Host, now: float) -> None:
        self.host = host
        self.slots: dict[int, Slot] = {}
        self.backlog = Backlog()
        self.outbox = Outbox(host.host)
        self.pace = Pace()
        self.linked = False
        self.heartbeat_s = 5.0
        self.leaving = False
        self._heard = now
        self._beaten = now
        self._next_worker = 1
        self._idle: dict[int, Slot] = {}  # workers with nothing to do
        self._short: dict[int, Slot] = {}  # workers that have less work than the look-ahead
        self._suspect: int | None = None  # the worker that runs a suspect task
        self._failures = 0
        self._hopeless: ev.WorkerGone | None = None
        self._retry_at = 0.0
        self._draining = False
        self._give_back = 0
        self._give_back_since = 0.0
        self._in_doubt: deque[tuple[float, msg.Lost]] = deque()
        self._capacity = (-1, -1, -1)
        self._actions: list[ev.Action] = []
        self._now = now

    def start(self) -> list[ev.Action]:
        """The first actions: one worker for each slot."""
        for _ in range(self.host.slots):
            self._start_worker()
        return self._take_actions()

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Take note of an event; what is to be done about it, in this order.

        Work and results are sent at the event `Turn`, so that many make one message.
        """
        self._now = now
        if isinstance(event, ev.Turn):
            self._turn()
        elif isinstance(event, ev.WorkerSaid):
            self._worker_said(event)
        elif isinstance(event, ev.Said):
            self._heard = now
            self._said(event.message)
        elif isinstance(event, ev.Looked):
            self._looked(event.begun)
        elif isinstance(event, ev.WorkerStarted):
            if slot := self.slots.get(event.worker):
                slot.pid = event.pid
        elif isinstance(event, ev.WorkerGone):
            self._worker_gone(event)
        elif isinstance(event, ev.LinkOpened):
            self._actions.append(ev.Greet(self._register()))
        elif isinstance(event, ev.LinkLost):
            self.linked = False
        else:
            self._end(event.reason)
        return self._take_actions()

    def wait_s(self, now: float) -> float:
        """After how many seconds, at most, a look and a turn are wanted."""
        wait = 1.0 if self._hopeless or self._draining else self.heartbeat_s / 2
        for slot in self.slots.values():
            if slot.skip is not None and not slot.skip_settled:
                return SETTLE_S
            if slot.tasks > 1 or (slot.tasks and not slot.announced):
                wait = LOOK_S
        if self._give_back:
            wait = min(wait, GIVE_BACK_S)
        return wait

    # --- the interchange ------------------------------------------------------------------------

    def _said(self, message: msg.ToManager) -> None:
        if isinstance(message, msg.Tasks):
            if need := self.backlog.add(message.runs):
                self._say(msg.NeedBody(need))
        elif isinstance(message, msg.ResultsStored):
            self.outbox.stored(message.numbers)
        elif isinstance(message, msg.Body):
            self.backlog.add_body(message.digest, message.data)
        elif isinstance(message, msg.NoBody):
            for part, digest in self.backlog.drop_unavailable(message.digests):
                self._give_up(part, losses.no_body(part, digest, self.host))
        elif isinstance(message, msg.GiveBack):
            self._give_back, self._give_back_since = message.count, self._now
        elif isinstance(message, msg.Cancel):
            self._cancel(message)
        elif isinstance(message, msg.Welcome):
            self._welcome(message)
        elif isinstance(message, msg.Drain):
            self._drain()
        elif isinstance(message, msg.Refuse):
            self._leave(message.reason, failed=True)
        elif isinstance(message, msg.Bye):
            self._leave(message.reason or "the interchange ended the link")

    def _register(self) -> msg.Register:
        self.outbox.close()
        queued, running = list(self.backlog.parts()), []
        for slot in self.slots.values():
            for given in slot.given:
                split = min(max(slot.begun, given.place), given.end) - given.place
                whole = given.part
                middle = whole.start + split
                if split:
                    running.append(Part(whole.run, whole.start, middle))
                if middle < whole.stop:
                    queued.append(Part(whole.run, middle, whole.stop))
        # Whether the interchange knows of these losses is not known. It hears of them again, as
        # soon as it has answered, and then takes them for what they are.
        running_refs = refs(running)
        running_refs += [
            msg.TaskRefs(task.stream, [task.index, 1], task.epoch, task.attempt)
            for _, lost in self._in_doubt
            for task in lost.tasks
        ]
        host = self.host
        return msg.Register(
            manager=host.manager,
            endpoint=host.endpoint,
            slots=host.slots,
            version=__version__,
            python=host.python,
            host=host.host,
            pid=host.pid,
            cores=host.cores,
            memory=host.memory,
            block=host.block,
            queued=refs(queued),
            running=running_refs,
            unstored=list(self.outbox.unstored),
        )

    def _welcome(self, message: msg.Welcome) -> None:
        self.linked = True
        self.heartbeat_s = message.heartbeat_s
        self._capacity = (-1, -1, -1)
        self._draining = False
        if message.drop:
            self.backlog.take_matching(message.drop, any_attempt=False)
            self._end_given(message.drop, any_attempt=False, interrupt=True, tell=False)
        for results in self.outbox.unstored.values():
            self._say(results)
        for _, lost in self._in_doubt:
            self._say(lost)
        if self.backlog.wanted:
            self._say(msg.NeedBody(sorted(self.backlog.wanted)))

    def _cancel(self, message: msg.Cancel) -> None:
        for part in self.backlog.take_matching(message.tasks, any_attempt=True):
            self._cancelled(part)
        self._end_given(message.tasks, any_attempt=True, interrupt=message.interrupt, tell=True)

    def _end_given(
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
                        self._end_running(slot, place, interrupt, tell)
            if first is not None:
                self._skip(slot, first)

    def _end_running(self, slot: Slot, place: int, interrupt: bool, tell: bool) -> None:
        if not interrupt:
            if part := slot.part_at(place):
                self._say(msg.Started(refs([part])))
            return
        if not slot.kill:
            self._skip(slot, place + 1)
            self._actions.append(ev.KillWorker(slot.worker))
            self._unlist(slot)
        slot.kill[place] = tell

    def _drain(self) -> None:
        self._draining = True
        self._say(msg.Returned(refs(self.backlog.take_all())))
        for slot in self.slots.values():
            if slot.tasks:
                self._skip(slot, slot.begun)

    def _end(self, reason: str) -> None:
        """The process is to end now: say what becomes of what it holds."""
        self._send_results()
        self._say(msg.Returned(refs(self.backlog.take_all())))
        for slot in self.slots.values():
            self._say(msg.Returned(refs(self._cut(slot, slot.begun))))
            interrupted = [
                losses.lost(part, losses.interrupted(part, slot, None, self.host, reason))
                for part in slot.singles()
            ]
            if interrupted:
                self._say(msg.Lost(interrupted))
        self._leave(reason)

    def _leave(self, reason: str, *, failed: bool = False) -> None:
        if not self.leaving:
            self.leaving = True
            self._say(msg.Bye(reason))
            self._actions.append(ev.Leave(reason, failed))

    # --- the workers ----------------------------------------------------------------------------

    def _start_worker(self) -> None:
        slot = Slot(self._next_worker)
        self._next_worker += 1
        self.slots[slot.worker] = slot
        self._actions.append(ev.StartWorker(slot.worker))

    def _worker_said(self, event: ev.WorkerSaid) -> None:
        slot = self.slots.get(event.worker)
        if slot is None:
            return
        batch = event.batch
        if not slot.ready:
            slot.ready = True
            self._worker_ready()
        place, outcomes = batch.place, batch.outcomes
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
            self.outbox.add(run, ended, self._now + self.host.wall_offset_s)
            whole = number == len(batch.outcomes) and batch.spent_s > 0
            spent_s = batch.spent_s if whole else sum(outcome.ran for outcome in ended)
            self.pace.note(run.function, number, spent_s)
            at += number
            place += number
        slot.done = max(slot.done, min(place, slot.next_place))
        self._end_skip(slot)
        if self._suspect == slot.worker and not slot.tasks:
            self._suspect = None
        self._list(slot)

    def _worker_ready(self) -> None:
        self._failures = 0
        if self._hopeless is not None:
            self._hopeless = None
            while len(self.slots) < self.host.slots:
                self._start_worker()

    def _list(self, slot: Slot) -> None:
        """Note whether a worker can be given more."""
        self._unlist(slot)
        if not slot.ready or slot.skip is not None or slot.kill:
            return
        if not slot.tasks:
            self._idle[slot.worker] = slot
        elif slot.load_s < LOOK_AHEAD_S:
            self._short[slot.worker] = slot

    def _unlist(self, slot: Slot) -> None:
        self._idle.pop(slot.worker, None)
        self._short.pop(slot.worker, None)

    def _looked(self, begun: dict[int, int]) -> None:
        now = self._now
        for worker, word in begun.items():
            slot = self.slots.get(worker)
            if slot is None:
                continue
            if word != slot.begun:
                slot.begun, slot.begun_since, slot.announced = word, now, False
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
                if part := slot.part_at(place):
                    self._say(msg.Started(refs([part])))
            if for_s >= STUCK_S:
                if place > slot.done:
                    self._actions.append(ev.ReadPage(worker))
                if not slot.kill:
                    self._skip(slot, word)

    def _skip(self, slot: Slot, place: int) -> None:
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
        slot.skip_since, slot.skip_settled = self._now, False
        self._unlist(slot)
        self._actions.append(ev.Skip(slot.worker, *slot.skip))

    def _settle(self, slot: Slot) -> None:
        """It is known by now what a worker had begun when it was told to skip the rest."""
        assert slot.skip is not None
        slot.skip_settled = True
        back = self._cut(slot, max(slot.skip[0], slot.begun))
        if back and self._draining:
            self._say(msg.Returned(refs(back)))
        else:
            self.backlog.put_front(back)
        running = slot.running_place
        cancelled = slot.cancelled
        slot.cancelled = {place: how for place, how in cancelled.items() if place >= slot.begun}
        if running is not None and running in cancelled:
            self._end_running(slot, running, *cancelled[running])
        # What was asked for while this was in doubt, and reaches further.
        if slot.cancelled:
            self._skip(slot, min(slot.cancelled))
        elif self._draining:
            self._skip(slot, slot.begun)
        self._end_skip(slot)
        self._list(slot)

    def _cut(self, slot: Slot, place: int) -> list[Part]:
        """Take from a worker what it has not begun; what of it is cancelled ends here."""
        back: list[Part] = []
        for begin, part in slot.cut(place):
            back += self._without_cancelled(slot, part, begin)
        return back

    def _end_skip(self, slot: Slot) -> None:
        """Let a worker go on once it is past the places that it was to skip."""
        if slot.skip is not None and slot.skip_settled and slot.done >= slot.skip[1]:
            slot.skip = None
            self._actions.append(ev.Skip(slot.worker, 0, 0))

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
                    self._cancelled(Part(part.run, position, position + 1))
        return part.without(indices)

    def _worker_gone(self, gone: ev.WorkerGone) -> None:
        slot = self.slots.pop(gone.worker, None)
        if slot is None:
            return
        self._unlist(slot)
        if self._suspect == slot.worker:
            self._suspect = None
        slot.begun = max(slot.begun, gone.begun)
        lost: list[msg.LostTask] = []
        back = self._cut(slot, slot.begun)
        self.backlog.put_front(back)
        running = slot.running_place
        for given in slot.given:
            while given.part:
                place = given.place
                part = given.take(1)
                if place in slot.kill:
                    if slot.kill[place]:
                        self._cancelled(part)
                    continue
                if place != running:
                    loss = losses.outcome_missing(part, slot, gone, self.host)
                elif slot.kill:
                    why = "it was to end the task before, which was cancelled"
                    loss = losses.interrupted(part, slot, gone, self.host, why)
                else:
                    loss = losses.worker_died(part, slot, gone, self.host)
                lost.append(losses.lost(part, loss))
        self._lose(lost)
        self._replace(slot, gone)

    def _replace(self, slot: Slot, gone: ev.WorkerGone) -> None:
        """Start another worker in the place of one that died."""
        if self.leaving:
            return
        if not slot.ready and not gone.seed_lost:
            self._failures += 1
            if self._failures >= HOPELESS:
                self._hopeless, self._retry_at = gone, self._now + RETRY_S
                return
        if self._hopeless is None or not self.slots:
            self._start_worker()

    def _lose(self, lost: list[msg.LostTask]) -> None:
        if lost:
            message = msg.Lost(lost)
            self._in_doubt.append((self._now, message))
            self._say(message)

    # --- a turn ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = self._now
        if self._hopeless is not None:
            self._give_up_all(self._hopeless)
        if self.linked and not self._draining:
            self._return_some()
        self._dispatch()
        self._send_results()
        if not self.linked:
            if now - self._heard > self.host.alone_s:
                self._leave("there was no interchange for too long")
            return
        self._send_capacity()
        if now - self._beaten >= self.heartbeat_s:
            self._beaten = now
            self._say(msg.Heartbeat())
        while self._in_doubt and now - self._in_doubt[0][0] > IN_DOUBT_S:
            self._in_doubt.popleft()
        if self._draining and not self.outbox.unstored:
            busy = any(slot.tasks for slot in self.slots.values())
            if not busy:
                self._leave("drained")

    def _give_up_all(self, gone: ev.WorkerGone) -> None:
        """No worker can be started: say so of all tasks, but try one again now and then."""
        if self.slots:
            return  # one is being tried
        if self._now >= self._retry_at:
            if self.backlog:
                self._failures = HOPELESS - 1
                self._start_worker()
            return
        self._lose(
            [
                losses.lost(one, losses.unstartable(one, gone, self.host))
                for part in self.backlog.take_all()
                for one in (part.take(1) for _ in range(len(part)))
            ]
        )

    def _return_some(self) -> None:
        if not self._give_back:
            return
        parts = self.backlog.take_last(self._give_back)
        if parts or self._now - self._give_back_since >= GIVE_BACK_S:
            self._give_back = 0
            self._say(msg.Returned(refs(parts)))

    def _dispatch(self) -> None:
        backlog = self.backlog
        if self.outbox.bytes > UNSTORED_BYTES or self.leaving:
            return
        while backlog.suspects and self._suspect is None and self._idle:
            slot = next(iter(self._idle.values()))
            self._suspect = slot.worker
            self._give(slot, [backlog.suspects.popleft()], LOOK_AHEAD_S)
        while backlog.queue and (self._idle or self._short):
            slots = list(self._idle.values()) or list(self._short.values())
            waiting = sum(map(len, backlog.queue)) if len(backlog.queue) < 64 else MESSAGE_TASKS
            share = max(1, -(-waiting // (len(self._idle) + len(self._short))))
            for slot in slots:
                if not backlog.queue:
                    return
                self._give_next(slot, min(share, MESSAGE_TASKS))
        if self._idle and not backlog.queue and not self._draining:
            self._level()

    def _give_next(self, slot: Slot, limit: int) -> None:
        """Give a worker what is next, about a millisecond of it."""
        queue, expected = self.backlog.queue, self.pace.expected
        function = queue[0].run.function
        each_s = expected(function)
        if each_s is None:
            if slot.tasks:
                self._unlist(slot)  # who knows how long that would have to wait there
                return
            self._give(slot, [self._next_part(1)], LOOK_AHEAD_S)
            return
        parts: list[Part] = []
        count = min(limit, max(1, int(MESSAGE_S / each_s)))
        size = 0
        while count > 0 and queue and queue[0].run.function == function and size < WORK_BYTES:
            part = self._next_part(count, WORK_BYTES - size)
            size += part.payload_bytes()
            count -= len(part)
            parts.append(part)
        self._give(slot, parts, each_s)

    def _next_part(self, count: int, room: int = 1) -> Part:
        """Up to so many tasks from the front, in so many bytes if they are more than one."""
        part = self.backlog.queue[0]
        if count > 1:
            payloads = part.run.payloads
            end = min(part.stop, part.start + count)
            size = sum(map(len, payloads[part.start : end]))
            while size > room and end > part.start + 1:
                end -= 1
                size -= len(payloads[end])
            count = end - part.start
        if count < len(part):
            return part.take(count)
        return self.backlog.queue.popleft()

    def _give(self, slot: Slot, parts: list[Part], each_s: float) -> None:
        runs: list[pool.WorkRun] = []
        place = slot.next_place
        for part in parts:
            run = part.run
            for digest in (run.function, *run.shared):
                if digest not in slot.known:
                    slot.known.add(digest)
                    data = self.backlog.bodies[digest]
                    self._actions.append(ev.ToWorker(slot.worker, pool.Bytes(digest, data)))
            runs.append(
                pool.WorkRun(
                    run.stream,
                    part.first,
                    run.function,
                    run.payloads[part.start : part.stop],
                    run.shared,
                    run.result_limit,
                )
            )
            slot.give(part, each_s)
        self._actions.append(ev.ToWorker(slot.worker, pool.Work(place, runs)))
        self._list(slot)

    def _level(self) -> None:
        """Nothing waits, and somebody is idle: take half of what the busiest has not begun."""
        most: Slot | None = None
        for slot in self.slots.values():
            if (
                slot.skip is None
                and not slot.kill
                and slot.tasks > 1
                and slot.load_s > WORTH_TAKING_S
                and (most is None or slot.load_s > most.load_s)
            ):
                most = slot
        if most is not None:
            self._skip(most, most.next_place - most.tasks // 2)

    def _send_results(self) -> None:
        for results in self.outbox.close():
            if self.linked:
                self._say(results)

    def _send_capacity(self) -> None:
        slots = 0 if self._draining else self.host.slots
        room = max(0, min(HELD_BYTES, UNSTORED_BYTES - self.outbox.bytes))
        tasks = self.pace.hold(slots) if slots and room else 0
        before_tasks, before_bytes, before_slots = self._capacity
        if (
            slots == before_slots
            and abs(tasks - before_tasks) * 4 <= before_tasks
            and abs(room - before_bytes) * 4 <= before_bytes
        ):
            return
        self._capacity = (tasks, room, slots)
        self._say(msg.Capacity(tasks, room, slots))
        if forget := self.backlog.forget_bodies(
            {
                digest
                for slot in self.slots.values()
                for part in slot.parts()
                for digest in (part.run.function, *part.run.shared)
            }
        ):
            for slot in self.slots.values():
                if known := [digest for digest in forget if digest in slot.known]:
                    slot.known.difference_update(known)
                    self._actions.append(ev.ToWorker(slot.worker, pool.Forget(known)))

    # --- small things ---------------------------------------------------------------------------

    def _cancelled(self, part: Part) -> None:
        outcomes = [Outcome(index, OutcomeKind.CANCELLED) for index in part.indices]
        self.outbox.add(part.run, outcomes, self._now + self.host.wall_offset_s)

    def _give_up(self, part: Part, loss: Loss) -> None:
        """End tasks that were not begun and never can be."""
        data = pack_loss(loss)
        outcomes = [Outcome(index, OutcomeKind.LOST, data) for index in part.indices]
        self.outbox.add(part.run, outcomes, self._now + self.host.wall_offset_s)

    def _say(self, message: msg.FromManager) -> None:
        """Send, if anybody listens: whatever is not sent now is told at the next greeting."""
        if self.linked:
            self._actions.append(ev.Say(message))

    def _take_actions(self) -> list[ev.Action]:
        actions, self._actions = self._actions, []
        return actions
