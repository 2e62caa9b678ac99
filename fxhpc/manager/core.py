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
from fxhpc.manager.credit import GIVE_BACK_S, Credit
from fxhpc.manager.desk import Desk
from fxhpc.manager.held import Part, Slot, refs
from fxhpc.manager.leasing import Leasing
from fxhpc.manager.leaving import Leaving
from fxhpc.manager.lending import Lending
from fxhpc.manager.overdue import LOOKS
from fxhpc.manager.pace import LOOK_AHEAD_S, MESSAGE_S, MESSAGE_TASKS, Pace, kind_of
from fxhpc.manager.staff import SETTLE_S, Staff
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.units import format_duration
from fxhpc.version import __version__

#: While a worker has short tasks or more than one, its page is looked at so often.
LOOK_S = 0.01

#: While a task prints and its output is wanted, that is looked at so often.
OUTPUT_S = 0.1

#: Work that would keep a worker busy for less than this is not taken from it for an idle one.
WORTH_TAKING_S = 0.003

#: Bytes of arguments in one message to a worker, if it has more than one task.
WORK_BYTES = 1 << 20


class Manager:
    """One node's workers, and the tasks that were sent to them."""

    def __init__(self, host: ev.Host, now: float) -> None:
        self.heartbeat_s = 5.0
        self._desk = Desk(host, now)
        self._backlog = self._desk.backlog
        self._outbox = self._desk.outbox
        self._pace = Pace()
        self._staff = Staff(self._desk, self._pace)
        self._leasing = Leasing(self._desk, self._staff, self._pace, self._give_next)
        self._credit = Credit(self._desk, self._staff, self._pace, self._leasing)
        self._lending = Lending(self._desk, self._staff, self._leasing)
        self._leaving = Leaving(self._desk, self._staff)
        self._heard = now
        self._beaten = now
        self._for_good = False  # it drains, whatever an interchange says
        self._registered = False  # an interchange has let it in, once at least

    def start(self) -> list[ev.Action]:
        """The first actions: one worker for each slot."""
        self._staff.hiring.fill()
        return self._take_actions()

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Take note of an event; what is to be done about it, in this order.

        Work and results are sent at the event `Turn`, so that many make one message.
        """
        self._desk.now = now
        if self._desk.leaving:
            self._leaving.go_on(event)
        elif isinstance(event, ev.Turn):
            self._turn()
        elif isinstance(event, ev.WorkerSaid):
            self._staff.said(event)
        elif isinstance(event, ev.Said):
            self._heard = now
            self._said(event.message)
        elif isinstance(event, ev.Looked):
            self._staff.looked(event.begun, event.calls)
        elif isinstance(event, ev.MemoryExceeded):
            self._staff.over_memory(event.over)
        elif isinstance(event, ev.WorkerStarted):
            self._staff.started(event)
        elif isinstance(event, ev.WorkerGone):
            self._leaving.worker_gone(event)
        elif isinstance(event, ev.LinkOpened):
            self._desk.actions.append(ev.Greet(self._register()))
        elif isinstance(event, ev.LinkLost):
            self._desk.linked = False
        elif isinstance(event, ev.DrainAsked):
            self._for_good = True
            self._drain()
        else:
            self._leaving.end(event)
        return self._take_actions()

    @property
    def calling(self) -> set[int]:
        """The workers of which a look shall tell at which call they are."""
        return self._staff.calling

    def wait_s(self, now: float) -> float:
        """After how many seconds, at most, a look and a turn are wanted."""
        if self._desk.leaving:
            return GIVE_BACK_S
        wait = 1.0 if self._staff.hiring.hopeless or self._desk.draining else self.heartbeat_s / 2
        for slot in self._staff.slots.values():
            if slot.skip is not None and not slot.skip_settled:
                return SETTLE_S
            if slot.tasks > 1 or (slot.tasks and not slot.announced):
                wait = LOOK_S
            elif slot.tasks and slot.captures:
                wait = min(wait, OUTPUT_S)
            if slot.due:
                wait = min(wait, max(0.0, slot.due - now))
                if slot.call_limit_s:
                    wait = min(wait, max(LOOK_S, slot.call_limit_s / LOOKS))
        if self._leaving:
            wait = min(wait, GIVE_BACK_S)
        if self._leasing.active:
            wait = min(wait, self._leasing.wait_s(now))
        return min(wait, self._credit.wait_s(now))

    # --- the interchange ------------------------------------------------------------------------

    def _said(self, message: msg.ToManager) -> None:
        if isinstance(message, msg.Tasks):
            self._credit.received()
            runs = message.runs
            if any(run.needs for run in runs):
                runs = self._fitting(runs)
            if need := self._backlog.add(runs):
                self._desk.say(msg.NeedBody(need))
        elif isinstance(message, msg.ResultsStored):
            self._outbox.stored(message.numbers)
        elif isinstance(message, msg.Body):
            if self._backlog.add_body(message.digest, len(message.data)):
                self._desk.actions.append(ev.KeepBody(message.digest, message.data))
            self._forget_bodies()
        elif isinstance(message, msg.NoBody):
            for part, digest in self._backlog.drop_unavailable(message.digests):
                self._desk.give_up(part, losses.no_body(part, digest, self._desk.host))
        elif isinstance(message, msg.GiveBack):
            self._credit.ask(message.count)
        elif isinstance(message, msg.Cancel):
            self._cancel(message)
        elif isinstance(message, msg.Welcome):
            self._welcome(message)
        elif isinstance(message, msg.Drain):
            self._drain()
        elif isinstance(message, msg.Lend):
            self._lending.lend(message.partition)
        elif isinstance(message, msg.Unlend):
            self._lending.end(message.partition)
        elif isinstance(message, msg.Refuse):
            self._leaving.leave(message.reason, failed=True)
        elif isinstance(message, msg.Bye):
            self._leaving.leave(message.reason or "the interchange ended the link")
        elif isinstance(message, msg.Heartbeat):
            # All managers are sent theirs together: answered at once, these cost an interchange of
            # hundreds a few wake-ups, and not one each.
            self._beat(self.heartbeat_s / 2)

    def _fitting(self, runs: list[msg.TaskRun]) -> list[msg.TaskRun]:
        """What this node can run; the rest ends here, and is not held for ever."""
        fitting: list[msg.TaskRun] = []
        for run in runs:
            if why := self._backlog.sized.unfit(run):
                part = Part(run, 0, len(run.payloads))
                self._desk.give_up(part, losses.unfit(part, why, self._desk.host))
            else:
                fitting.append(run)
        return fitting

    def _register(self) -> msg.Register:
        self._outbox.close()
        queued, running = list(self._backlog.parts()), []
        for slot in self._staff.slots.values():
            waits, begun = slot.claimed()
            queued += waits
            running += begun
        host = self._desk.host
        remaining_s = max(0.001, host.ends - self._desk.now) if host.ends else 0.0
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
            running=refs(running) + self._desk.in_doubt(),
            unstored=list(self._outbox.unstored),
            remaining_s=remaining_s,
            job=host.job,
            accelerators=host.accelerators,
            walltime_s=host.walltime_s,
            size=host.room,
            labels=host.labels,
            lent=self._desk.lent,
        )

    def _welcome(self, message: msg.Welcome) -> None:
        self._desk.linked = self._registered = True
        self.heartbeat_s = message.heartbeat_s
        self._credit.forget()
        self._desk.draining = self._for_good
        if message.drop:
            self._backlog.take_matching(message.drop, any_attempt=False)
            self._staff.end_given(message.drop, any_attempt=False, interrupt=True, tell=False)
        for results in self._outbox.unstored.values():
            self._desk.say(results)
        self._desk.say_in_doubt()
        self._lending.greeted()
        if self._backlog.wanted:
            self._desk.say(msg.NeedBody(sorted(self._backlog.wanted)))

    def _cancel(self, message: msg.Cancel) -> None:
        for part in self._backlog.take_matching(message.tasks, any_attempt=True):
            if not message.forget:
                self._desk.cancelled(part)
        self._staff.end_given(
            message.tasks,
            any_attempt=True,
            interrupt=message.interrupt,
            tell=not message.forget,
        )

    def _drain(self) -> None:
        self._desk.draining = True
        self._desk.say_returned(self._backlog.take_all())
        for slot in self._staff.slots.values():
            if slot.tasks:
                self._staff.skip(slot, slot.begun)

    # --- a turn ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = self._desk.now
        self._staff.turn()
        self._leaving.turn()
        if self._desk.linked and not self._desk.draining:
            self._credit.give_back()
        self._send_results()
        self._dispatch()
        if not self._desk.linked:
            if now - self._heard > self._desk.host.alone_s:
                reason = f"there was no interchange for {format_duration(now - self._heard)}"
                self._leaving.leave(reason, failed=not self._registered, alone=True)
            elif self._for_good and self._is_done():
                self._leaving.leave("drained")
            return
        self._credit.tell()
        self._lending.turn()
        self._beat(1.5 * self.heartbeat_s)
        self._desk.settle_doubts()
        if self._desk.draining and self._is_done():
            self._leaving.leave("drained")

    def _beat(self, after_s: float) -> None:
        """Say that this manager lives, if it has not done so for so long."""
        if self._desk.now - self._beaten >= after_s:
            self._beaten = self._desk.now
            self._desk.say(msg.Heartbeat())

    def _is_done(self) -> bool:
        """Whether nothing is left of what it was given."""
        busy = any(slot.tasks for slot in self._staff.slots.values())
        lent = self._desk.lent is not None  # the others of its partition need it
        return not (busy or lent or self._backlog or self._outbox.unstored)

    def _dispatch(self) -> None:
        backlog = self._backlog
        room = self._credit.room_for_results()
        if self._leasing.active or backlog.sized.lines:
            room = self._leasing.turn(room)
        if room <= 0:
            return
        while backlog.suspects and self._staff.suspect is None and self._staff.idle:
            slot = next(iter(self._staff.idle.values()))
            self._staff.suspect = slot.worker
            part = backlog.suspects.popleft()
            self._give(slot, [part], LOOK_AHEAD_S, part.payload_bytes())
        while backlog.queue and (self._staff.idle or self._staff.short):
            slots = list(self._staff.idle.values()) or list(self._staff.short.values())
            waiting = sum(map(len, backlog.queue)) if len(backlog.queue) < 64 else MESSAGE_TASKS
            share = max(1, -(-waiting // (len(self._staff.idle) + len(self._staff.short))))
            for slot in slots:
                if not backlog.queue or room <= 0:
                    return
                room -= self._give_next(slot, min(share, MESSAGE_TASKS, room), backlog.queue)
        if self._leasing.active and (backlog.queue or backlog.suspects):
            self._squeeze_in(room)
        if self._staff.idle and not backlog.queue and not self._desk.draining:
            self._level()

    def _squeeze_in(self, room: int) -> None:
        """Ordinary tasks wait, while others have cells, or have these kept free for them."""
        for slot in self._leasing.let_in():
            if self._backlog.queue and room > 0:
                room -= self._give_next(slot, min(MESSAGE_TASKS, room), self._backlog.queue)
        if not self._staff.idle:
            self._leasing.make_room()

    def _give_next(self, slot: Slot, limit: int, queue: deque[Part]) -> int:
        """Give a worker what is next, about a millisecond of it; how many tasks."""
        kind = kind_of(queue[0].run)
        each_s = self._pace.expected(slot.needs + kind if slot.needs else kind)
        if each_s is None:
            if slot.tasks:
                self._staff.withhold(slot)  # who knows how long that would have to wait there
                return 0
            part = self._next_part(queue, 1)
            self._give(slot, [part], LOOK_AHEAD_S, part.payload_bytes())
            return 1
        parts: list[Part] = []
        count = min(limit, max(1, int(MESSAGE_S / each_s)))
        size = 0
        while count > 0 and queue and kind_of(queue[0].run) == kind and size < WORK_BYTES:
            part = self._next_part(queue, count, WORK_BYTES - size)
            size += part.payload_bytes()
            count -= len(part)
            parts.append(part)
        self._give(slot, parts, each_s, size)
        return sum(map(len, parts))

    def _next_part(self, queue: deque[Part], count: int, room: int = 1) -> Part:
        """Up to so many tasks from the front, in so many bytes if they are more than one."""
        part = queue[0]
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
        return queue.popleft()

    def _give(self, slot: Slot, parts: list[Part], each_s: float, size: int) -> None:
        runs: list[pool.WorkRun] = []
        place = slot.next_place
        for part in parts:
            run = part.run
            for digest in (run.function, *run.shared):
                self._backlog.bodies.move_to_end(digest)
                if digest not in slot.known:
                    slot.known.add(digest)
                    self._desk.actions.append(ev.ToWorker(slot.worker, pool.Bytes(digest)))
            runs.append(
                pool.WorkRun(
                    run.stream,
                    part.first,
                    run.function,
                    run.payloads[part.start : part.stop],
                    run.shared,
                    run.result_limit,
                    run.capture,
                    run.spill,
                    run.calls,
                    run.given_up,
                    run.kept,
                )
            )
            slot.captures = slot.captures or run.capture > 0
            slot.give(part, each_s)
        self._desk.actions.append(ev.ToWorker(slot.worker, pool.Work(place, runs), size))
        self._staff.offer(slot)

    def _level(self) -> None:
        """Nothing waits, and somebody is idle: take half of what the busiest has not begun."""
        most: Slot | None = None
        for slot in self._staff.slots.values():
            if (
                slot.skip is None
                and not slot.kill
                and not slot.apart
                and slot.tasks > 1
                and slot.load_s > WORTH_TAKING_S
                and (most is None or slot.load_s > most.load_s)
            ):
                most = slot
        if most is not None:
            self._staff.skip(most, most.next_place - most.tasks // 2)

    def _send_results(self) -> None:
        for results in self._outbox.close():
            if self._desk.linked:
                self._desk.say(results)

    def _forget_bodies(self) -> None:
        if forget := self._backlog.forget_bodies(
            {
                digest
                for slot in self._staff.slots.values()
                for part in slot.parts()
                for digest in (part.run.function, *part.run.shared)
            }
        ):
            self._desk.actions.append(ev.DropBodies(forget))
            for slot in self._staff.slots.values():
                if known := [digest for digest in forget if digest in slot.known]:
                    slot.known.difference_update(known)
                    self._desk.actions.append(ev.ToWorker(slot.worker, pool.Forget(known)))

    def _take_actions(self) -> list[ev.Action]:
        actions, self._desk.actions = self._desk.actions, []
        return actions
