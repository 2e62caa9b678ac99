"""A node that is only simulated: the real core of a manager, and workers that follow a script.

The workers behave as `fxhpc.worker.loop` does, as far as a manager can see it: they begin tasks in
the order of their places unless their page says to skip them, keep outcomes back in the page, and
can be killed at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from fxhpc.manager import events as ev
from fxhpc.manager.core import Manager
from fxhpc.protocol import codec, messages, pool
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.testing.clock import HostClock
from fxhpc.testing.link import LossyLink

Task = tuple[bytes, int]
NodeLink = LossyLink[messages.FromManager, messages.ToManager]


class Worker:
    """One simulated worker.

    Attributes:
        task: what it runs at the moment.
        begun: its page's word: the place after the last one that it began.
        killed: it was told to die, or has been, and its manager does not know yet.
        undead: nor will it: its process stays, since it waits for a file system for example.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: Task | None = None
        self.begun = 0
        self.skip = (0, 0)
        self.killed: int | None = None  # the signal
        self.undead = False
        self.bodies: set[bytes] = set()
        self._work: deque[deque[tuple[int, Task, bytes, bytes]]] = deque()
        self._running: tuple[int, Task, bytes, bytes] | None = None
        self._held: list[Outcome] = []
        self._held_from = 0

    def give(self, work: pool.Work) -> None:
        """Take in a message of work."""
        place = work.place
        items: deque[tuple[int, Task, bytes, bytes]] = deque()
        for run in work.runs:
            assert run.function in self.bodies, "work came before the function that it needs"
            for position, payload in enumerate(run.payloads):
                items.append((place, (run.stream, run.first + position), payload, run.function))
                place += 1
        self._work.append(items)

    def begin(self) -> list[pool.Batch]:
        """Go on to the next task that is not to be skipped; what is sent on the way there."""
        sent: list[pool.Batch] = []
        while self.task is None and self._work:
            items = self._work[0]
            if not items:
                self._work.popleft()
                continue
            item = items.popleft()
            place = item[0]
            if self.skip[0] <= place < self.skip[1]:
                if self._held:
                    sent.append(self._flush(place))
                if not items:
                    self._work.popleft()
                    sent.append(self._flush(place + 1))
                continue
            self.begun = place + 1
            self._running = item
            self.task = item[1]
        return sent

    def finish(self, kind: int = OutcomeKind.VALUE, *, flush: bool = True) -> list[pool.Batch]:
        """End the task that runs; what is sent because of it. The value is the arguments."""
        assert self._running is not None
        place, (_, index), payload, _ = self._running
        if not self._held:
            self._held_from = place
        self._held.append(Outcome(index, kind, payload, 0.001))
        self._running = self.task = None
        assert self._work
        if not self._work[0]:
            self._work.popleft()
            return [self._flush(place + 1)]
        return [self._flush(place + 1)] if flush else []

    def held(self) -> pool.Batch:
        """What its manager can read in the page."""
        place = self._held_from if self._held else 0
        return pool.Batch(place, 0.0, list(self._held))

    def _flush(self, place: int) -> pool.Batch:
        held, self._held = self._held, []
        return pool.Batch(self._held_from if held else place, 0.0, held)


class Node:
    """A manager's process and its workers.

    Args:
        name: the manager's id.
        endpoint: whose work it wants.
        slots: how many workers it has.
        new_link: makes a link to the interchange, for each connection.
        clock: the time.
        on_begin: called with a task whenever a worker begins it.
        on_kill: called with the task that a worker ran when it was killed, and with all that
            it ever began when it leaves.
        lasts_s: how long its job lasts; 0: for ever.
        on_keep: takes the results that it leaves in a file; None: it can write nowhere.

    Attributes:
        suspended: nothing happens in it.
        stillborn: so many of its next workers die before they are ready.
        undead: workers that it kills do not die.
    """

    def __init__(
        self,
        name: str,
        endpoint: bytes,
        slots: int,
        new_link: Callable[[], NodeLink],
        clock: HostClock,
        on_begin: Callable[[Node, Task], None],
        on_kill: Callable[[Node, Task], None],
        lasts_s: float = 0.0,
        on_keep: Callable[[Node, list[messages.Results]], None] | None = None,
    ) -> None:
        self.name = name
        self.slots = slots
        self.suspended = False
        self.stillborn = 0
        self.undead = False
        self.ends = clock() + lasts_s if lasts_s else 0.0
        self.endpoint = endpoint
        self.alive = True
        self.left = ""  # why it has ended by its own decision
        self._told_to_end = False
        self.workers: dict[int, Worker] = {}
        self.began: set[Task] = set()  # all that it ever began
        self._lent_to: set[Task] = set()
        self.link = new_link()
        self._new_link = new_link
        self.clock = clock
        self._on_begin = on_begin
        self._on_kill = on_kill
        self._on_keep = on_keep
        self.connected = False
        self._turned_at = -1.0  # when it did so last, if nothing has happened since
        self.heard = self.clock()
        host = ev.Host(
            name,
            endpoint,
            slots,
            host=name,
            walltime_s=lasts_s,
            ends=self.ends,
            keeps=on_keep is not None,
        )
        self.core = Manager(host, clock())
        self._do(self.core.start())

    # --- the process ----------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        """Let the core know of something, and do what it wants."""
        if self.alive:
            actions = self.core.handle(event, self.clock())
            if actions or not isinstance(event, ev.Looked | ev.Turn):
                self._turned_at = -1.0
            self._do(actions)

    def turn(self) -> None:
        """What the shell does each time round its loop."""
        if not self.alive or self.suspended:
            return
        now = self.clock()
        if now == self._turned_at and self.connected and not self.link.broken:
            return  # nothing has happened since
        if self.ends and now >= self.ends:
            self.end("its job is over", signalled=True)
        if self.connected and self.clock() - self.heard > 3 * self.core.heartbeat_s:
            self.connected = False
            self.link.cut()
            self.tell(ev.LinkLost())
        if not self.connected:
            self.connect()
        elif self.link.broken:
            self.tell(ev.LinkLost())
            self._look()
            self.tell(ev.LinkOpened())
        self._bury()
        self._look()
        self._turned_at = now
        self.tell(ev.Turn())

    def connect(self) -> None:
        """Open a connection, under which the interchange does not know it yet."""
        self.link = self._new_link()
        self.connected = True
        self.heard = self.clock()
        self._look()
        self.tell(ev.LinkOpened())

    def hear(self) -> bool:
        """Handle the next message of the interchange; whether there was one on the way."""
        if not (self.alive and self.link.down) or self.suspended:
            return False
        message = self.link.deliver_down()
        if message is not None:
            self.heard = self.clock()
            self._look()
            self.tell(ev.Said(message))
        return True

    def die(self) -> None:
        """End as by SIGKILL; workers end with it."""
        self.alive = False
        self.workers.clear()
        self.link.up.clear()

    def end(self, reason: str = "the node is going away", *, signalled: bool = False) -> None:
        """End as by SIGTERM; `signalled` if the batch system sends it."""
        self._look()
        self._told_to_end = True
        self.tell(ev.Ended(reason, signalled))

    def drain(self) -> None:
        """Finish what runs, return the rest, and leave, as by SIGUSR1."""
        self._look()
        self.tell(ev.DrainAsked())

    # --- the workers ----------------------------------------------------------------------------

    def begin(self, number: int) -> None:
        """Let a worker go on to its next task."""
        worker = self.workers.get(number)
        if worker is None or worker.task is not None or worker.killed is not None:
            return
        self._turned_at = -1.0
        for batch in worker.begin():
            self.tell(ev.WorkerSaid(number, batch))
        if worker.task is not None:
            self.began.add(worker.task)
            self._on_begin(self, worker.task)

    def finish(self, number: int, kind: int = OutcomeKind.VALUE, *, flush: bool = True) -> None:
        """Let a worker end its task."""
        worker = self.workers.get(number)
        if worker is None or worker.task is None or worker.killed is not None:
            return
        for batch in worker.finish(kind, flush=flush):
            self.tell(ev.WorkerSaid(number, batch))

    def kill(self, number: int, signal: int = 9) -> Task | None:
        """Kill a worker; the manager learns of it in its next turn. What it was running."""
        worker = self.workers.get(number)
        if worker is None or worker.killed is not None:
            return None
        worker.killed = signal
        self._turned_at = -1.0
        if worker.task is not None:
            self._on_kill(self, worker.task)
        return worker.task

    @property
    def lent_to(self) -> set[Task]:
        """The tasks over several nodes that it ever was lent to."""
        lent = self.core._desk.lent
        if lent is not None:
            self._lent_to.add((lent.stream, lent.index))
        return self._lent_to

    def running(self) -> list[Task]:
        """What its workers run at the moment."""
        return [
            worker.task
            for worker in self.workers.values()
            if worker.task is not None and worker.killed is None
        ]

    def _bury(self) -> None:
        for worker in list(self.workers.values()):
            if worker.killed is None or worker.undead:
                continue
            if self.workers.pop(worker.number, None) is None:
                continue  # the manager has given it up, or has ended, since
            held = worker.held()
            if held.outcomes:
                self.tell(ev.WorkerSaid(worker.number, held))
            self.tell(ev.WorkerGone(worker.number, worker.begun, signal=worker.killed or 9))

    def _look(self) -> None:
        self.tell(ev.Looked({number: worker.begun for number, worker in self.workers.items()}))

    # --- what the core wants --------------------------------------------------------------------

    def _do(self, actions: list[ev.Action]) -> None:
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: Any) -> None:
        if isinstance(action, ev.Greet):
            self.link.greet(action.message)
        elif isinstance(action, ev.Say):
            if self.connected and not self.link.broken:
                self.link.say(action.message)
        elif isinstance(action, ev.StartWorker):
            self._start(Worker(action.worker))
        elif isinstance(action, ev.Keep):
            if self._on_keep is not None:
                self._on_keep(self, action.batch)
        elif isinstance(action, ev.Leave):
            self.left = action.reason
            self.alive = False
            for task in {*self.began, *self.lent_to}:  # what was not stored by now is lost with it
                self._on_kill(self, task)
            self.workers.clear()
        elif isinstance(action, ev.KeepBody | ev.DropBodies | ev.EndMarked):
            pass  # workers here have no bytes, only their names
        elif worker := self.workers.get(action.worker):
            if isinstance(action, ev.ToWorker):
                if isinstance(action.message, pool.Work):
                    worker.give(action.message)
                elif isinstance(action.message, pool.Bytes):
                    worker.bodies.add(action.message.digest)
                elif isinstance(action.message, pool.Forget):
                    worker.bodies.difference_update(action.message.digests)
            elif isinstance(action, ev.Skip):
                worker.skip = (action.begin, action.end)
            elif isinstance(action, ev.ReadPage):
                self.tell(ev.WorkerSaid(worker.number, worker.held()))
            elif isinstance(action, ev.KillWorker):
                # Its own decision is no reason why what it ran may run again, its end is one.
                if self._told_to_end and worker.task is not None and worker.killed is None:
                    self._on_kill(self, worker.task)
                worker.killed = 9
                worker.undead = self.undead
                self._turned_at = -1.0

    def _start(self, worker: Worker) -> None:
        given_up = self.workers.keys() - self.core._staff.slots.keys()
        for number in given_up:
            if self.workers[number].undead:  # this one is in its place
                del self.workers[number]
        self.workers[worker.number] = worker
        self.tell(ev.WorkerStarted(worker.number, 1000 + worker.number))
        if self.stillborn:
            self.stillborn -= 1
            worker.killed = 9
            self._turned_at = -1.0
        else:
            self.tell(ev.WorkerSaid(worker.number, pool.Batch(0, 0.0, [])))


def new_node_link(new_session: Callable[[], int]) -> NodeLink:
    """A link between a manager and an interchange."""
    return LossyLink(codec.FROM_MANAGER, codec.TO_MANAGER, messages.Register, new_session)
