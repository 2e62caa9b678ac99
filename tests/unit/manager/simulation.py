"""A node in one object: the manager's core, workers that cost no process, and a clock."""

from __future__ import annotations

from collections import Counter, deque

from fxhpc.manager import events as ev
from fxhpc.manager.core import Manager
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.outcome import Outcome, OutcomeKind, Output

FLUSH_S = 0.005
OVERHEAD_S = 3e-6

Task = tuple[bytes, int]


class SimulatedWorker:
    """Runs tasks whose arguments say how many seconds they take, as a real worker would."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.made = ev.StartWorker(number)  # what it was made for
        self.work: deque[tuple[int, pool.WorkRun, int, bool]] = deque()  # last: ends a message
        self.begun = 0
        self.call = -1  # of its chunk; a test sets it
        self.skip = (0, 0)
        self.current: tuple[int, pool.WorkRun, int, bool] | None = None
        self.since = now
        self.until = now
        self.held: list[Outcome] = []
        self.held_from = 0
        self.sent: deque[pool.Batch] = deque([pool.Batch(0, 0.0, [])])

    def receive(self, work: pool.Work, now: float) -> None:
        place = work.place
        if self.current is None and not self.work:
            self.until = now
        for run in work.runs:
            for position in range(len(run.payloads)):
                self.work.append((place, run, position, False))
                place += 1
        last = self.work.pop()
        self.work.append((*last[:3], True))

    def advance(self, now: float, node: Node) -> None:
        """Do what a worker does up to this time."""
        while self.until <= now:
            if self.current is not None:
                place, run, position, last = self.current
                self.current = None
                ran = float(run.payloads[position])
                if not self.held:
                    self.held_from = place
                self.held.append(Outcome(run.first + position, OutcomeKind.VALUE, node.result, ran))
                if last or self.until - self.since >= FLUSH_S:
                    self.flush(place + 1)
            if not self.work:
                return
            place, run, position, last = self.work.popleft()
            if self.skip[0] <= place < self.skip[1]:
                if self.held or last:
                    self.flush(place + 1 if last and not self.held else place)
                    if last and self.sent[-1].outcomes:
                        self.flush(place + 1)
                continue
            if not self.held:
                self.since = self.until
            self.begun = place + 1
            self.current = (place, run, position, last)
            node.ran[run.stream, run.first + position] += 1
            self.until += float(run.payloads[position]) + OVERHEAD_S

    def flush(self, place: int) -> None:
        if self.held:
            spent = self.until - self.since
            self.sent.append(pool.Batch(self.held_from, spent, self.held))
            self.held = []
        else:
            self.sent.append(pool.Batch(place, 0.0, []))


class Node:
    """The manager and all around it."""

    def __init__(self, slots: int = 2, *, linked: bool = True, **host: object) -> None:
        self.now = 100.0
        fields = {"manager": "m", "endpoint": b"e", "slots": slots, "host": "node1"} | host
        self.core = Manager(ev.Host(**fields), self.now)  # type: ignore[arg-type]
        self.workers: dict[int, SimulatedWorker] = {}
        self.work: list[tuple[int, pool.Work]] = []
        self.bodies: list[tuple[int, bytes]] = []  # what each worker was given
        self.there: dict[bytes, bytes] = {}
        self.said: list[msg.FromManager] = []
        self.greetings: list[msg.Register] = []
        self.left: ev.Leave | None = None
        self.kept: list[msg.Results] = []
        self.startable = True
        self.undead = False  # workers do not die
        self.died = False  # a worker has died since the last step
        self.ran: Counter[Task] = Counter()
        self.ended: dict[Task, list[str]] = {}
        self.store = True
        self.result = b""
        self.do(self.core.start())
        if linked:
            self.link()

    # --- what the shell does --------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        self.do(self.core.handle(event, self.now))

    def do(self, actions: list[ev.Action]) -> None:
        for action in actions:
            if isinstance(action, ev.StartWorker):
                if self.startable:
                    worker = self.workers[action.worker] = SimulatedWorker(action.worker, self.now)
                    worker.made = action
                    self.tell(ev.WorkerStarted(action.worker, 1000 + action.worker))
                else:
                    self.tell(
                        ev.WorkerGone(action.worker, 0, exit_code=1, stderr="no such directory")
                    )
            elif isinstance(action, ev.ToWorker):
                if action.worker not in self.workers:
                    continue  # it is dead, and the manager waits to see why
                worker = self.workers[action.worker]
                if isinstance(action.message, pool.Work):
                    self.work.append((action.worker, action.message))
                    worker.receive(action.message, self.now)
                elif isinstance(action.message, pool.Bytes):
                    self.bodies.append((action.worker, action.message.digest))
            elif isinstance(action, ev.Skip):
                if action.worker in self.workers:
                    self.workers[action.worker].skip = (action.begin, action.end)
            elif isinstance(action, ev.ReadPage):
                worker = self.workers[action.worker]
                self.tell(
                    ev.WorkerSaid(
                        action.worker, pool.Batch(worker.held_from, 0.0, list(worker.held))
                    )
                )
            elif isinstance(action, ev.KillWorker):
                if action.worker in self.workers and not self.undead:
                    self.kill(action.worker, 9)
            elif isinstance(action, ev.Say):
                self.hear(action.message)
            elif isinstance(action, ev.Greet):
                self.greetings.append(action.message)
            elif isinstance(action, ev.Keep):
                self.kept += action.batch
            elif isinstance(action, ev.KeepBody):
                self.there[action.digest] = action.data
            elif isinstance(action, ev.DropBodies):
                for digest in action.digests:
                    del self.there[digest]
            else:
                self.left = action

    def hear(self, message: msg.FromManager) -> None:
        self.said.append(message)
        if isinstance(message, msg.Results):
            for run in message.runs:
                for outcome in run.outcomes:
                    self.note((run.stream, outcome.index), OutcomeKind(outcome.kind).name)
            if self.store:
                self.tell(ev.Said(msg.ResultsStored([message.number])))
        elif isinstance(message, msg.Lost):
            for lost in message.tasks:
                self.note((lost.stream, lost.index), "lost")
        elif isinstance(message, msg.Returned):
            for refs in message.tasks:
                for first, count in zip(refs.ranges[::2], refs.ranges[1::2], strict=True):
                    for index in range(first, first + count):
                        self.note((refs.stream, index), "returned")

    def note(self, task: Task, how: str) -> None:
        self.ended.setdefault(task, []).append(how)

    def link(self, drop: list[msg.TaskRefs] | None = None) -> msg.Register:
        self.look()
        self.tell(ev.LinkOpened())
        self.tell(ev.Said(msg.Welcome(1, "0", drop=drop or [])))
        self.turn()
        return self.greetings[-1]

    def look(self) -> None:
        begun = {number: worker.begun for number, worker in self.workers.items()}
        calls = {number: self.workers[number].call for number in self.core.calling & begun.keys()}
        self.tell(ev.Looked(begun, calls))

    def turn(self) -> None:
        for worker in list(self.workers.values()):
            worker.advance(self.now, self)
            while worker.sent:
                self.tell(ev.WorkerSaid(worker.number, worker.sent.popleft()))
        self.tell(ev.Turn())
        for worker in self.workers.values():
            worker.advance(self.now, self)

    def step(self, most_s: float = 1.0) -> None:
        """To the next moment at which something happens."""
        ends = [worker.until for worker in self.workers.values() if worker.current is not None]
        if self.died or any(worker.sent for worker in self.workers.values()):
            most_s, self.died = 0.0, False
        wait = min([self.core.wait_s(self.now), most_s, *[end - self.now for end in ends]])
        self.now += max(wait, 1e-6)
        for worker in self.workers.values():
            worker.advance(self.now, self)
        self.look()
        self.turn()

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.step(end - self.now)

    # --- what happens to it ---------------------------------------------------------------------

    def send(self, stream: bytes, payloads: list[bytes], *, first: int = 0, **run: object) -> None:
        fields = {"epoch": 1, "attempt": 1, "function": b"f"} | run
        self.look()
        self.tell(
            ev.Said(msg.Tasks([msg.TaskRun(stream, first, payloads=payloads, **fields)]))  # type: ignore[arg-type]
        )
        self.turn()

    def say(self, message: msg.ToManager) -> None:
        self.look()
        self.tell(ev.Said(message))
        self.turn()

    def kill(
        self,
        number: int,
        signal: int = 9,
        exit_code: int = -1,
        printed: Output | None = None,
        kept: bytes = b"",
    ) -> None:
        worker, self.died = self.workers.pop(number), True
        worker.advance(self.now, self)
        while worker.sent:
            self.tell(ev.WorkerSaid(number, worker.sent.popleft()))
        if worker.held:
            self.tell(ev.WorkerSaid(number, pool.Batch(worker.held_from, 0.0, worker.held)))
        gone = ev.WorkerGone(number, worker.begun, signal, exit_code, printed=printed, kept=kept)
        self.tell(gone)

    def of(self, kind: type) -> list[msg.FromManager]:
        return [message for message in self.said if isinstance(message, kind)]
