"""The interchange's decisions: which manager gets which tasks, and what becomes of lost ones.

No I/O: events in, actions out. The forwarder sends as much as the window allows; managers get as
much as their credit allows, the streams in turn; what a manager loses goes to the front of the
queue or ends as lost. Everything here can be rebuilt: from the forwarder, which sends again what is
owed; from the managers, which say what they hold; from the journal, which says what to wait for.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

from fxhpc.ids import to_ranges
from fxhpc.interchange import events as ev
from fxhpc.interchange.held import (
    Claim,
    Histories,
    Manager,
    each,
    manager_lost,
    refs,
    single,
    split_run,
    without,
)
from fxhpc.interchange.outbox import Outbox
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import (
    Loss,
    Outcome,
    OutcomeKind,
    is_charged,
    is_final,
    pack_loss,
)
from fxhpc.protocol.turns import Turns
from fxhpc.version import __version__

#: Seconds between heartbeats, and how many may be missed before a manager counts as lost.
HEARTBEAT_S = 5.0
MISSED_HEARTBEATS = 3

#: How long a manager that the journal knows may take to come back after a restart, in seconds.
RETURN_S = 30.0

#: What the interchange asks for beside the managers' credit: so that a scale-out sees a backlog.
BASE_WINDOW_TASKS = 64
BASE_WINDOW_BYTES = 16 * 2**20

#: In the journal, in the place of a manager's name: these were lost, and must not run again.
LOST = ""

#: Bytes of functions and shared arguments that are kept for managers yet to come.
BODY_CACHE_BYTES = 256 * 2**20


class Interchange:
    """One endpoint's queue, its managers and their tasks.

    Args:
        endpoint: the endpoint's UUID.
        epoch: raised at every start, so that no attempt of before is taken for one of now.
    """

    def __init__(
        self,
        endpoint: str,
        epoch: int,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        return_s: float = RETURN_S,
    ) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self._heartbeat_s = heartbeat_s
        self._return_s = return_s
        self._managers: dict[bytes, Manager] = {}
        self._by_name: dict[str, Manager] = {}
        self._queue: Turns[msg.TaskRun] = Turns(lambda run: len(run.payloads), split_run)
        self._suspects: deque[msg.TaskRun] = deque()  # single tasks, one per manager at a time
        self._histories = Histories()
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        self._bodies_bytes = 0
        self._body_wanted: dict[bytes, set[bytes]] = {}
        self._outbox = Outbox(first=(epoch << 32) + 1)
        # After a restart: managers of before, until when they may come back, and what they hold.
        self._expected: dict[str, float] = {}
        self._sent_to: dict[tuple[bytes, int], str] = {}
        self._waiting: dict[str, dict[tuple[bytes, int], msg.TaskRun]] = {}
        # And of tasks that the forwarder has not sent again yet: who holds them, and what is known
        # to have become of them.
        self._claimed: dict[tuple[bytes, int], Claim] = {}
        self._fates: dict[tuple[bytes, int], Loss] = {}
        self._window = (0, 0)
        self._status: msg.Status | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is outstanding, so that the journal is of no use any more."""
        return not (
            self._expected
            or self._sent_to
            or self._claimed
            or self._fates
            or self._queue
            or self._suspects
            or self._outbox
            or self._waiting
            or any(manager.held_tasks for manager in self._managers.values())
        )

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Take note of an event; what is to be done about it, in this order."""
        actions: list[ev.Action] = []
        if isinstance(event, ev.ManagerSaid):
            self._manager_said(event.peer, event.message, now, actions)
        elif isinstance(event, ev.ForwarderSaid):
            self._forwarder_said(event.message, now, actions)
        elif isinstance(event, ev.ManagerGone):
            if manager := self._managers.get(event.peer):
                self._lose_manager(manager, event.why, actions)
        elif isinstance(event, ev.ForwarderGone):
            self._outbox.forwarder_gone(actions)
        elif isinstance(event, ev.Spooled):
            self._outbox.spooled(event, actions)
        elif isinstance(event, ev.Unspooled):
            self._outbox.unspooled(event.batch, actions)
        elif isinstance(event, ev.Recovered):
            self._outbox.recover(event.spooled)
            self._expected = dict.fromkeys(event.managers, now + self._return_s)
            for sent in event.sent:
                for ref, index in each(sent.tasks):
                    self._sent_to[ref.stream, index] = sent.manager
        else:
            self._tick(now, actions)
        self._dispatch(actions)
        self._report(actions, isinstance(event, ev.Tick))
        return actions

    # --- the forwarder's messages ---------------------------------------------------------------

    def _forwarder_said(
        self, message: msg.ToInterchange, now: float, actions: list[ev.Action]
    ) -> None:
        if isinstance(message, msg.Tasks):
            for run in message.runs:
                self._accept(run, actions)
        elif isinstance(message, msg.ResultsStored):
            self._outbox.stored(message.numbers, actions)
        elif isinstance(message, msg.Body):
            self._keep_body(message.digest, message.data)
            for peer in self._body_wanted.pop(message.digest, set()):
                if manager := self._managers.get(peer):
                    self._send_body(manager, message.digest, actions)
        elif isinstance(message, msg.NoBody):
            for digest in message.digests:
                actions.extend(
                    ev.ToManager(peer, msg.NoBody([digest]))
                    for peer in self._body_wanted.pop(digest, set())
                    if peer in self._managers
                )
        elif isinstance(message, msg.Cancel):
            self._cancel(message, actions)
        elif isinstance(message, msg.Hello):
            self._window, self._status = (0, 0), None
            # Results first: what they end is then not missed in the list of what is held.
            self._outbox.greeted(actions)
            actions.append(
                ev.ToForwarder(
                    msg.Present(self.endpoint, self.epoch, __version__, held=self._held())
                )
            )

    def _accept(self, run: msg.TaskRun, actions: list[ev.Action]) -> None:
        if not run.sent_before or not self._is_doubtful():
            self._queue.push(run.stream, run)
            return
        # Some of these may be at a manager that has come back, or may still come back.
        elsewhere = self._outbox.tasks_of(run.stream)
        for index in range(run.first, run.first + len(run.payloads)):
            task = (run.stream, index)
            name = self._sent_to.pop(task, None)
            if index in elsewhere:
                continue
            if claim := self._claimed.pop(task, None):
                self._adopt(claim, single(run, index))
            elif loss := self._fates.pop(task, None):
                self._lose(single(run, index), loss, False, actions)
            elif name is not None and name in self._expected:
                self._waiting.setdefault(name, {})[task] = single(run, index)
            elif name and (manager := self._by_name.get(name)) and manager.unstored:
                manager.hold(single(run, index))
                manager.missing.append(task)
            elif name is not None and run.retries == 0:
                gone = Manager(b"", name, 0, "", 0.0)
                loss = manager_lost(gone, "it has gone since", False)
                self._lose(single(run, index), loss, False, actions)
            else:
                continue
            elsewhere.add(index)
        for part in without(run, elsewhere):
            self._queue.push(run.stream, part)

    def _is_doubtful(self) -> bool:
        """Whether anything is known of tasks that the forwarder has not sent to this process."""
        return bool(self._sent_to or self._claimed or self._fates or self._outbox)

    def _adopt(self, claim: Claim, task: msg.TaskRun) -> None:
        """A manager holds this already: take note, and send it nothing."""
        manager = self._by_name[claim.manager]
        task.epoch, task.attempt = claim.epoch, claim.attempt
        manager.hold(task)
        if claim.running:
            manager.running.add((task.stream, task.first))

    def _cancel(self, message: msg.Cancel, actions: list[ev.Action]) -> None:
        ended: dict[bytes, list[int]] = {}
        for ref in message.tasks:
            wanted = {index for _, index in each([ref])}
            left: list[msg.TaskRun] = []
            for run in self._queue.peek_lane(ref.stream):
                indices = wanted & set(range(run.first, run.first + len(run.payloads)))
                ended.setdefault(ref.stream, []).extend(indices)
                left += without(run, indices) if indices else [run]
            self._queue.replace_lane(ref.stream, left)
            for suspect in [run for run in self._suspects if run.stream == ref.stream]:
                if suspect.first in wanted:
                    self._suspects.remove(suspect)
                    ended.setdefault(ref.stream, []).append(suspect.first)
            for tasks in self._waiting.values():
                for index in wanted:
                    if tasks.pop((ref.stream, index), None):
                        ended.setdefault(ref.stream, []).append(index)
            for manager in self._managers.values():
                there = wanted & manager.held.get(ref.stream, {}).keys()
                if there:
                    for index in there:
                        manager.cancelled[ref.stream, index] = message.interrupt
                    cancel = msg.Cancel(
                        [msg.TaskRefs(ref.stream, to_ranges(there))], message.interrupt
                    )
                    actions.append(ev.ToManager(manager.peer, cancel))
        runs = [
            msg.ResultRun(
                stream, self.epoch, 0, [Outcome(index, OutcomeKind.CANCELLED) for index in indices]
            )
            for stream, indices in ended.items()
            if indices
        ]
        if runs:
            self._outbox.add(b"", 0, runs, actions)

    # --- the managers' messages -----------------------------------------------------------------

    def _manager_said(
        self, peer: bytes, message: msg.FromManager, now: float, actions: list[ev.Action]
    ) -> None:
        if isinstance(message, msg.Register):
            self._register(peer, message, now, actions)
            return
        manager = self._managers.get(peer)
        if manager is None:
            actions.append(ev.ToManager(peer, msg.Reset()))
            return
        manager.heard = now
        if isinstance(message, msg.Results):
            self._results(manager, message, actions)
        elif isinstance(message, msg.Capacity):
            manager.credit_tasks, manager.credit_bytes = message.tasks, message.bytes
            manager.slots = message.slots
        elif isinstance(message, msg.Started):
            for ref, index in each(message.tasks):
                if index in manager.held.get(ref.stream, {}):
                    manager.running.add((ref.stream, index))
            actions.append(ev.ToForwarder(message))
        elif isinstance(message, msg.Lost):
            for lost in message.tasks:
                task = (lost.stream, lost.index)
                run = manager.held.get(lost.stream, {}).get(lost.index)
                if run and (run.epoch, run.attempt) == (lost.epoch, lost.attempt):
                    manager.release(*task)
                    self._lose(single(run, lost.index), lost.loss, False, actions)
                elif self._unclaim(manager, task, lost.epoch, lost.attempt):
                    self._fates[task] = lost.loss
        elif isinstance(message, msg.Returned):
            manager.asked_back = False
            self._take_back(manager, message.tasks)
        elif isinstance(message, msg.NeedBody):
            self._need_body(manager, message.digests, actions)
        elif isinstance(message, msg.Bye):
            self._lose_manager(manager, message.reason or "it said goodbye", actions)

    def _register(
        self, peer: bytes, message: msg.Register, now: float, actions: list[ev.Action]
    ) -> None:
        if message.oldest_protocol > msg.PROTOCOL or message.protocol < msg.OLDEST_PROTOCOL:
            reason = (
                f"manager {message.manager} on {message.host} is fxhpc {message.version} "
                f"(protocol {message.protocol}), this interchange is fxhpc {__version__} "
                f"(protocol {msg.PROTOCOL}): install the same version on both"
            )
            actions.append(ev.ToManager(peer, msg.Refuse(reason)))
            return
        manager = Manager(peer, message.manager, message.slots, message.host, now)
        manager.unstored = set(message.unstored)
        before = self._by_name.pop(message.manager, None)
        if before is not None:
            self._managers.pop(before.peer, None)
            manager.cancelled = dict(before.cancelled)
            if before.peer != peer:
                actions.append(ev.CloseManager(before.peer))
        self._managers[peer] = self._by_name[message.manager] = manager
        waiting = self._waiting.pop(message.manager, {})
        self._expected.pop(message.manager, None)
        claimed = {task for task, claim in self._claimed.items() if claim.manager == manager.name}
        for task in claimed:
            del self._claimed[task]
        drop: list[msg.TaskRefs] = []
        doubtful: list[tuple[msg.TaskRefs, int, bool]] = []
        there = [(ref, index, False) for ref, index in each(message.queued)]
        there += [(ref, index, True) for ref, index in each(message.running)]
        # The latest attempt first: of earlier ones it says that they were lost, if it names them.
        there.sort(key=lambda held: (held[0].epoch, held[0].attempt), reverse=True)
        for ref, index, running in there:
            task = (ref.stream, index)
            run = before.release(*task) if before is not None else None
            if run is not None and (run.epoch, run.attempt) == (ref.epoch, ref.attempt):
                manager.hold(single(run, index))
                if running:
                    manager.running.add(task)
            elif run is not None:
                # It was given another attempt of this since; that one is missing now.
                manager.missing.append(task)
                manager.hold(single(run, index))
                drop.append(_ref(ref, index))
            elif task in waiting:
                self._adopt(_claim(manager, ref, running), waiting.pop(task))
            elif ref.epoch < self.epoch and (before is None or task in claimed):
                doubtful.append((ref, index, running))
            else:
                drop.append(_ref(ref, index))
        drop += self._claim(manager, doubtful)
        # What it should hold, and does not: ended in Results that come again, or never arrived.
        leftovers = [] if before is None else list(before.tasks())
        leftovers += [(stream, index, run) for (stream, index), run in waiting.items()]
        for stream, index, run in leftovers:
            manager.hold(single(run, index))
            manager.missing.append((stream, index))
        actions += (
            ev.ManagerKnown(message.manager, True),
            ev.ToManager(
                peer,
                msg.Welcome(self.epoch, __version__, drop=drop, heartbeat_s=self._heartbeat_s),
            ),
        )
        # That these were cancelled may have been lost on the way.
        for (stream, index), interrupt in list(manager.cancelled.items()):
            if index in manager.held.get(stream, {}):
                again = msg.Cancel([msg.TaskRefs(stream, [index, 1])], interrupt)
                actions.append(ev.ToManager(peer, again))
            else:
                del manager.cancelled[stream, index]
        self._requeue_missing(manager)

    def _claim(
        self, manager: Manager, tasks: list[tuple[msg.TaskRefs, int, bool]]
    ) -> list[msg.TaskRefs]:
        """A manager holds tasks of an earlier interchange that the forwarder has not sent here
        yet. Returns those that are not its business any more.
        """
        if not tasks:
            return []
        drop: list[msg.TaskRefs] = []
        known = {(ref.stream, index) for ref, index in each(self._held())}
        for ref, index, running in tasks:
            task = (ref.stream, index)
            if (claim := self._claimed.get(task)) is not None:
                known.add(task)
                if claim.manager == manager.name:
                    continue
            if task in known or self._sent_to.get(task, manager.name) != manager.name:
                drop.append(_ref(ref, index))  # somebody else was given it since
                continue
            self._sent_to.pop(task, None)
            self._fates.pop(task, None)
            self._claimed[task] = _claim(manager, ref, running)
        return drop

    def _unclaim(self, manager: Manager, task: tuple[bytes, int], epoch: int, attempt: int) -> bool:
        """Whether this manager held a task that the forwarder has not sent here yet; not now."""
        if self._claimed.get(task, ())[:3] != (manager.name, epoch, attempt):
            return False
        del self._claimed[task]
        return True

    def _requeue_missing(self, manager: Manager) -> None:
        if manager.unstored:
            return
        self._forget_sent_to(manager.name)
        for stream, index in reversed(manager.missing):
            if run := manager.release(stream, index):
                self._requeue(single(run, index))
        manager.missing.clear()

    def _results(self, manager: Manager, message: msg.Results, actions: list[ev.Action]) -> None:
        for run in message.runs:
            stream = run.stream
            for outcome in run.outcomes:
                held = manager.release(stream, outcome.index)
                if held is None:
                    self._late(stream, outcome.index, actions)
                elif (held.epoch, held.attempt) != (run.epoch, run.attempt):
                    # An earlier attempt has ended after all, so that this one need not.
                    refs = [msg.TaskRefs(stream, [outcome.index, 1], held.epoch, held.attempt)]
                    actions.append(ev.ToManager(manager.peer, msg.Cancel(refs, interrupt=True)))
                if self._histories:
                    self._histories.forget((stream, outcome.index))
        self._outbox.add(manager.peer, message.number, message.runs, actions)
        if manager.unstored:
            manager.unstored.discard(message.number)
            self._requeue_missing(manager)

    def _late(self, stream: bytes, index: int, actions: list[ev.Action]) -> None:
        """An outcome of an attempt that was given up: it counts; any other attempt is ended."""
        cancel = msg.Cancel([msg.TaskRefs(stream, [index, 1])], interrupt=True)
        for run in self._queue.peek_lane(stream):
            if run.first <= index < run.first + len(run.payloads):
                lane = self._queue.peek_lane(stream)
                at = lane.index(run)
                self._queue.replace_lane(
                    stream, [*lane[:at], *without(run, {index}), *lane[at + 1 :]]
                )
                return
        for suspect in self._suspects:
            if (suspect.stream, suspect.first) == (stream, index):
                self._suspects.remove(suspect)
                return
        for tasks in self._waiting.values():
            if tasks.pop((stream, index), None):
                return
        self._claimed.pop((stream, index), None)
        self._fates.pop((stream, index), None)
        self._sent_to.pop((stream, index), None)
        actions.extend(
            ev.ToManager(other.peer, cancel)
            for other in self._managers.values()
            if other.release(stream, index)
        )

    def _take_back(self, manager: Manager, returned: list[msg.TaskRefs]) -> None:
        for ref, index in reversed(list(each(returned))):
            run = manager.held.get(ref.stream, {}).get(index)
            if run and (run.epoch, run.attempt) == (ref.epoch, ref.attempt):
                manager.release(ref.stream, index)
                self._requeue(single(run, index))
            else:
                self._unclaim(manager, (ref.stream, index), ref.epoch, ref.attempt)

    # --- losses ---------------------------------------------------------------------------------

    def _lose_manager(self, manager: Manager, why: str, actions: list[ev.Action]) -> None:
        self._managers.pop(manager.peer, None)
        if self._by_name.get(manager.name) is manager:
            del self._by_name[manager.name]
        actions += (ev.CloseManager(manager.peer), ev.ManagerKnown(manager.name, False))
        for key in [key for key, claim in self._claimed.items() if claim.manager == manager.name]:
            del self._claimed[key]
            self._fates[key] = manager_lost(manager, why, True)
        self._give_up_sent(manager, why)
        suspect = manager.suspect
        began = manager.running | manager.oldest(2 * manager.slots)
        for stream, index, run in reversed(list(manager.tasks())):
            task = single(run, index)
            if (stream, index) == suspect:
                # It ran alone among its kind when a second manager was lost: it is charged.
                loss = manager_lost(manager, why, True)
                self._lose(task, loss, True, actions)
            elif (stream, index) in began and (stream, index) not in manager.missing:
                loss = manager_lost(manager, why, (stream, index) in manager.running)
                task.suspect = suspect is None
                self._lose(task, loss, False, actions)
            elif run.retries == 0:
                self._lose(task, manager_lost(manager, why, False), False, actions)
            else:
                self._requeue(task)

    def _lose(self, task: msg.TaskRun, loss: Loss, charge: bool, actions: list[ev.Action]) -> None:
        """An attempt has ended without an outcome: try again, or give the task up."""
        key = (task.stream, task.first)
        charged = self._histories.add(key, loss, charge or is_charged(loss.cause))
        if not is_final(loss.cause, charged, task.retries):
            self._requeue(task)
            return
        loss.attempts = self._histories.earlier(key)
        self._histories.forget(key)
        if task.retries == 0:
            # It must not run again, even if this outcome is lost with this process.
            ref = msg.TaskRefs(task.stream, [task.first, 1], task.epoch, task.attempt)
            actions.append(ev.Sent(LOST, [ref]))
        outcome = Outcome(task.first, OutcomeKind.LOST, pack_loss(loss))
        run = msg.ResultRun(task.stream, task.epoch, task.attempt, [outcome], host=loss.host)
        self._outbox.add(b"", 0, [run], actions)

    def _requeue(self, task: msg.TaskRun) -> None:
        if task.suspect:
            self._suspects.appendleft(task)
        else:
            self._queue.push_front(task.stream, task)

    def _forget_sent_to(self, name: str) -> None:
        """It has told all: what else it was sent has not arrived there."""
        for task in [task for task, manager in self._sent_to.items() if manager == name]:
            del self._sent_to[task]

    def _give_up_sent(self, manager: Manager, why: str) -> None:
        """A manager is gone that was sent tasks which the forwarder has not sent here yet."""
        for task in [task for task, name in self._sent_to.items() if name == manager.name]:
            del self._sent_to[task]
            self._fates[task] = manager_lost(manager, why, False)

    def _tick(self, now: float, actions: list[ev.Action]) -> None:
        for manager in list(self._managers.values()):
            silent = now - manager.heard
            if silent > self._heartbeat_s * MISSED_HEARTBEATS:
                why = f"nothing was heard of it for {silent:.0f} s"
                self._lose_manager(manager, why, actions)
            elif now - manager.greeted >= self._heartbeat_s:
                manager.greeted = now
                actions.append(ev.ToManager(manager.peer, msg.Heartbeat()))
        for name in [name for name, until in self._expected.items() if now > until]:
            del self._expected[name]
            actions.append(ev.ManagerKnown(name, False))
            gone = Manager(b"", name, 0, "", now)
            why = f"it did not come back within {self._return_s:.0f} s"
            self._give_up_sent(gone, why)
            loss = manager_lost(gone, why, False)
            for task in reversed(list(self._waiting.pop(name, {}).values())):
                task.suspect = True
                self._lose(task, loss, False, actions)

    # --- sending --------------------------------------------------------------------------------

    def _dispatch(self, actions: list[ev.Action]) -> None:
        if not (self._queue or self._suspects):
            self._balance(actions)
            return
        batches: dict[bytes, list[msg.TaskRun]] = {}
        for manager in self._managers.values():
            if self._suspects and manager.suspect is None and manager.free:
                self._assign(manager, self._suspects.popleft(), batches)
        while self._queue:
            ready = sorted(
                (manager for manager in self._managers.values() if manager.free),
                key=lambda manager: manager.held_tasks / max(1, manager.slots),
            )
            if not ready:
                break
            idle = [manager for manager in ready if manager.held_tasks < manager.slots]
            share = math.ceil(len(self._queue) / len(idle or ready))
            for manager in idle or ready:
                limit = min(manager.free, share)
                if idle:  # a worker that has nothing to do comes before look-ahead elsewhere
                    limit = min(limit, manager.slots - manager.held_tasks)
                for run in self._queue.take(limit):
                    for part in self._within_bytes(manager, run):
                        self._assign(manager, part, batches)
        for peer, runs in batches.items():
            self._send(self._managers[peer], runs, actions)

    def _within_bytes(self, manager: Manager, run: msg.TaskRun) -> list[msg.TaskRun]:
        """As much of a run as the manager has bytes for; the rest goes back to the queue."""
        room = manager.credit_bytes - manager.held_bytes
        if manager.held_tasks and room <= 0:
            self._queue.push_front(run.stream, run)
            return []
        size = 0
        for position, payload in enumerate(run.payloads):
            size += len(payload)
            if size > room and position:
                head, rest = split_run(run, position)
                self._queue.push_front(run.stream, rest)
                return [head]
        return [run]

    def _assign(
        self, manager: Manager, run: msg.TaskRun, batches: dict[bytes, list[msg.TaskRun]]
    ) -> None:
        run.epoch = self.epoch
        run.attempt += 1
        run.sent_before = False
        manager.hold(run)
        batches.setdefault(manager.peer, []).append(run)

    def _send(self, manager: Manager, runs: list[msg.TaskRun], actions: list[ev.Action]) -> None:
        for run in runs:
            for digest in (run.function, *run.shared):
                if digest not in manager.bodies and digest in self._bodies:
                    self._send_body(manager, digest, actions)
        sent = [
            msg.TaskRefs(run.stream, [run.first, len(run.payloads)], run.epoch, run.attempt)
            for run in runs
        ]
        actions.append(ev.Sent(manager.name, sent))
        actions.append(ev.ToManager(manager.peer, msg.Tasks(runs)))

    def _balance(self, actions: list[ev.Action]) -> None:
        """Nothing waits here: let idle managers have what others hold and have not begun."""
        if len(self._managers) < 2:
            return
        idle = sum(
            max(0, manager.slots - manager.held_tasks)
            for manager in self._managers.values()
            if not manager.draining and manager.credit_tasks
        )
        if not idle:
            return
        busiest = max(self._managers.values(), key=lambda manager: manager.held_tasks)
        spare = busiest.held_tasks - busiest.slots
        if spare > 0 and not busiest.asked_back:
            busiest.asked_back = True
            count = min(spare, max(idle, spare // 2))
            actions.append(ev.ToManager(busiest.peer, msg.GiveBack(count)))

    def _report(self, actions: list[ev.Action], everything: bool) -> None:
        """Tell the forwarder of a window or a status that has changed."""
        if not self._outbox.connected:
            return
        managers = [manager for manager in self._managers.values() if not manager.draining]
        tasks = BASE_WINDOW_TASKS + 2 * sum(manager.credit_tasks for manager in managers)
        size = BASE_WINDOW_BYTES + 2 * sum(manager.credit_bytes for manager in managers)
        if (tasks, size) != self._window:
            self._window = (tasks, size)
            actions.append(ev.ToForwarder(msg.Window(tasks, size)))
        workers = sum(manager.slots for manager in self._managers.values())
        before = self._status
        changed = before is None or (before.managers, before.workers) != (
            len(self._managers),
            workers,
        )
        if not (changed or everything):
            return
        running = sum(min(manager.slots, manager.held_tasks) for manager in self._managers.values())
        held = sum(manager.held_tasks for manager in self._managers.values())
        status = msg.Status(
            managers=len(self._managers),
            workers=workers,
            idle_workers=workers - running,
            queued=len(self._queue) + len(self._suspects) + held - running,
            running=running,
            reason="" if workers else "no manager has registered yet",
        )
        if status != before:
            self._status = status
            actions.append(ev.ToForwarder(status))

    # --- functions and shared arguments ---------------------------------------------------------

    def _need_body(self, manager: Manager, digests: list[bytes], actions: list[ev.Action]) -> None:
        unknown: list[bytes] = []
        for digest in digests:
            if digest in self._bodies:
                self._send_body(manager, digest, actions)
                continue
            if digest not in self._body_wanted:
                unknown.append(digest)
            self._body_wanted.setdefault(digest, set()).add(manager.peer)
        if unknown:
            actions.append(ev.ToForwarder(msg.NeedBody(unknown)))

    def _send_body(self, manager: Manager, digest: bytes, actions: list[ev.Action]) -> None:
        self._bodies.move_to_end(digest)
        manager.bodies.add(digest)
        actions.append(ev.ToManager(manager.peer, msg.Body(digest, self._bodies[digest])))

    def _keep_body(self, digest: bytes, data: bytes) -> None:
        if digest in self._bodies:
            return
        self._bodies[digest] = data
        self._bodies_bytes += len(data)
        while self._bodies_bytes > BODY_CACHE_BYTES and len(self._bodies) > 1:
            _, dropped = self._bodies.popitem(last=False)
            self._bodies_bytes -= len(dropped)

    # --- what is here ---------------------------------------------------------------------------

    def _held(self) -> list[msg.TaskRefs]:
        tasks: dict[bytes, list[int]] = {}
        waiting = [run for kept in self._waiting.values() for run in kept.values()]
        for run in [*self._queue, *self._suspects, *waiting]:
            tasks.setdefault(run.stream, []).extend(range(run.first, run.first + len(run.payloads)))
        for manager in self._managers.values():
            for stream, held in manager.held.items():
                tasks.setdefault(stream, []).extend(held)
        return refs(tasks) + self._outbox.spooled_tasks()


def _claim(manager: Manager, ref: msg.TaskRefs, running: bool) -> Claim:
    return Claim(manager.name, ref.epoch, ref.attempt, running)


def _ref(ref: msg.TaskRefs, index: int) -> msg.TaskRefs:
    return msg.TaskRefs(ref.stream, [index, 1], ref.epoch, ref.attempt)
