"""An endpoint larger than this machine: the interchange's decisions with thousands of managers.

The interchange's core is the real one. Forwarder, managers, workers and time are simulated in the
same thread, so nothing is measured but what the decisions cost: CPU time of `handle`, per task.
Codec, sockets, CURVE and the journal come on top; `benchmarks.connections` measures these.

    python -m benchmarks.simulation --quick
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import math
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from fxhpc.ids import to_ranges
from fxhpc.interchange import events as ev
from fxhpc.interchange.core import Interchange
from fxhpc.protocol import messages as msg
from fxhpc.protocol import provision as prov
from fxhpc.protocol.outcome import Outcome, OutcomeKind

#: Workers of each manager.
SLOTS = 64

#: Tasks in a row that the forwarder sends, and how many streams share the endpoint.
RUN_TASKS, STREAMS = 1000, 4

#: A manager tells outcomes that come so shortly after each other in one message, in seconds; the
#: forwarder stores so long before it says so.
FLUSH_S, COMMIT_S = 0.002, 0.005

#: As managers do it: work for so many seconds is held beside what runs, and at most so many tasks.
HOLD_S, HOLD_TASKS = 0.04, 4000

TICK_S, HEARTBEAT_S = 0.5, 5.0

_BYTES = 1 << 27
_DIGEST = b"f" * 32
_VALUE = b"v" * 12


class Workload(NamedTuple):
    """How long tasks take: all the same, or as chance has it, with this mean in seconds."""

    name: str
    mean_s: float
    mixed: bool

    def durations(self, chance: random.Random) -> Callable[[], float]:
        """Tells how long the next task takes."""
        if not self.mixed:
            return lambda: self.mean_s
        rate = 1.0 / self.mean_s
        return lambda: chance.expovariate(rate)


WORKLOADS = (
    Workload("equal, 1 s", 1.0, False),
    Workload("mixed, 1 s on average", 1.0, True),
    Workload("mixed, 10 ms on average", 0.01, True),
)


class SimulatedManager:
    """A node: its credit, what it holds, and when each of its workers is done."""

    __slots__ = ("ends", "name", "numbers", "peer", "queue")

    def __init__(self, number: int) -> None:
        self.name = f"manager-{number}"
        self.peer = b"peer-%d" % number
        self.numbers = 0
        self.queue: deque[tuple[bytes, int, int, int]] = deque()  # not begun
        self.ends: list[tuple[float, tuple[bytes, int, int, int]]] = []

    def register(self, **held: Any) -> msg.Register:
        """Its greeting."""
        return msg.Register(self.name, b"", SLOTS, "1", host=f"node-{self.name}", **held)


class Simulation:
    """One endpoint, its forwarder and its managers, in simulated time.

    Attributes:
        spent_s: CPU seconds in the core, by kind of event.
        events: how many events there were of each kind.
        ended: tasks whose outcomes the forwarder has.
    """

    def __init__(
        self, workload: Workload, seed: int = 1, scaling: prov.ScalingPolicy | None = None
    ) -> None:
        self.now = 1000.0
        self.core = Interchange("endpoint", 2, scaling=scaling)
        self.managers: dict[bytes, SimulatedManager] = {}
        self.spent_s: dict[str, float] = {}
        self.events: dict[str, int] = {}
        self.ended = 0
        self.messages_down = 0
        self.asked: list[prov.ToProvisioner] = []
        self._workload = workload
        self._duration = workload.durations(random.Random(seed))
        self._window = 0
        self._out = 0
        self._left = 0
        self._next_first = dict.fromkeys((b"stream-%05d" % n for n in range(STREAMS)), 0)
        self._due: list[tuple[float, int, SimulatedManager | None]] = []
        self._order = 0
        self._unstored: list[int] = []
        self._ticks_at = self.now
        self._beats_at = self.now + HEARTBEAT_S
        self.tell(ev.ForwarderSaid(msg.Hello(1, "1")), "greeting")

    @property
    def credit(self) -> int:
        """Tasks that a manager wants to hold."""
        each = min(HOLD_TASKS, max(1.0, HOLD_S / self._workload.mean_s))
        return max(SLOTS, int(SLOTS * each))

    @property
    def outstanding(self) -> int:
        """Tasks that have not ended."""
        return self._left + self._out

    # --- what happens ---------------------------------------------------------------------------

    def tell(self, event: ev.Event, kind: str) -> list[ev.Action]:
        """Let the core handle an event, and do what it wants."""
        begin = time.thread_time()
        actions = self.core.handle(event, self.now)
        self.spent_s[kind] = self.spent_s.get(kind, 0.0) + time.thread_time() - begin
        self.events[kind] = self.events.get(kind, 0) + 1
        for action in actions:
            self._carry_out(action)
        return actions

    def _carry_out(self, action: ev.Action) -> None:
        if isinstance(action, ev.ToManager):
            self.messages_down += 1
            if isinstance(action.message, msg.Tasks) and action.peer in self.managers:
                self._deliver(self.managers[action.peer], action.message)
        elif isinstance(action, ev.ToForwarder):
            message = action.message
            if isinstance(message, msg.Window):
                self._window = message.tasks
            elif isinstance(message, msg.Results):
                count = sum(len(run.outcomes) for run in message.runs)
                self.ended += count
                self._out -= count
                if not self._unstored:
                    self._wake(self.now + COMMIT_S, None)
                self._unstored.append(message.number)
        elif isinstance(action, ev.ToProvisioner):
            self.asked.append(action.message)

    def add_managers(self, count: int, kind: str = "registration") -> None:
        """So many managers greet and tell their credit, one after the other."""
        for _ in range(count):
            manager = SimulatedManager(len(self.managers))
            self.managers[manager.peer] = manager
            self.tell(ev.ManagerSaid(manager.peer, manager.register()), kind)
            capacity = msg.Capacity(self.credit, _BYTES, SLOTS)
            self.tell(ev.ManagerSaid(manager.peer, capacity), kind)

    def submit(self, count: int) -> None:
        """So many tasks wait at the forwarder from now on."""
        self._left += count
        self._feed()

    def _feed(self) -> None:
        """The forwarder sends what the window allows, in runs."""
        while self._left and self._out < self._window:
            runs: list[msg.TaskRun] = []
            for stream in self._next_first:
                count = min(RUN_TASKS, self._left, self._window - self._out)
                if count > 0:
                    runs.append(self.run_of(stream, count))
                    self._left -= count
                    self._out += count
            self.tell(ev.ForwarderSaid(msg.Tasks(runs)), "tasks")

    def run_of(self, stream: bytes, count: int, **more: Any) -> msg.TaskRun:
        """The next tasks of a stream, with arguments of about forty bytes each."""
        first = self._next_first[stream]
        self._next_first[stream] += count
        payloads = [b"%040d" % index for index in range(first, first + count)]
        return msg.TaskRun(stream, first, _DIGEST, payloads, **more)

    # --- managers -------------------------------------------------------------------------------

    def _deliver(self, manager: SimulatedManager, tasks: msg.Tasks) -> None:
        for run in tasks.runs:
            manager.queue.extend(
                (run.stream, index, run.epoch, run.attempt)
                for index in range(run.first, run.first + len(run.payloads))
            )
        self._begin(manager)

    def _begin(self, manager: SimulatedManager) -> None:
        before = manager.ends[0][0] if manager.ends else math.inf
        while manager.queue and len(manager.ends) < SLOTS:
            heapq.heappush(manager.ends, (self.now + self._duration(), manager.queue.popleft()))
        if manager.ends and manager.ends[0][0] < before:
            self._wake(manager.ends[0][0] + FLUSH_S, manager)

    def _wake(self, at: float, manager: SimulatedManager | None) -> None:
        self._order += 1
        heapq.heappush(self._due, (at, self._order, manager))

    def _tell_results(self, manager: SimulatedManager) -> None:
        runs: dict[tuple[bytes, int, int], list[Outcome]] = {}
        while manager.ends and manager.ends[0][0] <= self.now:
            _, (stream, index, epoch, attempt) = heapq.heappop(manager.ends)
            outcomes = runs.setdefault((stream, epoch, attempt), [])
            outcomes.append(Outcome(index, OutcomeKind.VALUE, _VALUE))
        if runs:
            manager.numbers += 1
            results = msg.Results(
                manager.numbers,
                [msg.ResultRun(*key, outcomes) for key, outcomes in runs.items()],
            )
            self._begin(manager)
            self.tell(ev.ManagerSaid(manager.peer, results), "results")
        if manager.ends:
            self._wake(manager.ends[0][0] + FLUSH_S, manager)

    # --- time -----------------------------------------------------------------------------------

    def go_on(self, until: Callable[[], bool]) -> None:
        """Let time pass until something is so, or nothing happens any more."""
        while self._due and not until():
            self.now = max(self.now, self._due[0][0])
            _, _, manager = heapq.heappop(self._due)
            self._pass_time()
            if manager is None:
                numbers, self._unstored = self._unstored, []
                self.tell(ev.ForwarderSaid(msg.ResultsStored(numbers)), "stored")
                self._feed()
            elif manager.peer in self.managers:
                self._tell_results(manager)

    def _pass_time(self) -> None:
        if self.now >= self._beats_at:
            self._beats_at = self.now + HEARTBEAT_S
            self.beat()
        if self.now >= self._ticks_at:
            self._ticks_at = self.now + TICK_S
            self.tell(ev.Tick(), "tick")

    def beat(self) -> None:
        """All managers send their heartbeats."""
        for manager in self.managers.values():
            self.tell(ev.ManagerSaid(manager.peer, msg.Heartbeat()), "heartbeat")

    def per_event_us(self, kind: str) -> float:
        """CPU microseconds in the core for each event of a kind."""
        return 1e6 * self.spent_s.get(kind, 0.0) / max(1, self.events.get(kind, 0))


# --- what is measured -----------------------------------------------------------------------------

Row = dict[str, Any]


def dispatching(workload: Workload, managers: int, tasks: int) -> Row:
    """Tasks through so many managers: what each costs."""
    simulation = Simulation(workload)
    simulation.add_managers(managers)
    first = managers * simulation.credit  # they fill up
    tasks = max(tasks, managers * SLOTS)
    simulation.submit(first + tasks)
    simulation.go_on(lambda: simulation.ended >= first)
    filling = sum(simulation.spent_s.values())
    simulation.spent_s.clear()
    simulation.events.clear()
    tasks += first - simulation.ended
    simulation.go_on(lambda: not simulation.outstanding)
    way = ("tasks", "results", "stored")
    spent = sum(simulation.spent_s.get(kind, 0.0) for kind in way)
    events = sum(simulation.events.get(kind, 0) for kind in way)
    return {
        "tasks": workload.name,
        "managers": managers,
        "us per task": round(1e6 * spent / tasks, 2),
        "tasks per Results": round(tasks / simulation.events["results"], 1),
        "us per event": round(1e6 * spent / events, 1),
        "tick, ms": round(simulation.per_event_us("tick") / 1000, 2),
        "filling, us per task": round(1e6 * filling / first, 2),
    }


def memory(managers: int, tasks: int) -> Row:
    """Memory of the core: of managers, of their tasks, of tasks that wait."""
    simulation = Simulation(WORKLOADS[0])
    simulation._deliver = lambda manager, tasks: None  # type: ignore[method-assign]
    rss = _rss()
    simulation.add_managers(managers)
    of_managers = _rss() - rss
    rss = _rss()
    sent = waiting = 0
    stream = next(iter(simulation._next_first))
    slots = managers * SLOTS
    while sent < min(tasks, slots):
        count = min(RUN_TASKS, tasks, slots - sent)
        simulation.tell(ev.ForwarderSaid(msg.Tasks([simulation.run_of(stream, count)])), "tasks")
        sent += count
    of_sent = _rss() - rss
    rss = _rss()
    while sent + waiting < tasks:
        count = min(RUN_TASKS, tasks - sent - waiting)
        simulation.tell(ev.ForwarderSaid(msg.Tasks([simulation.run_of(stream, count)])), "tasks")
        waiting += count
    of_waiting = _rss() - rss
    return {
        "managers": managers,
        "tasks": tasks,
        "KB per manager": round(of_managers / managers / 1000, 1),
        "bytes per task at a manager": round(of_sent / max(1, sent)),
        "bytes per task that waits": round(of_waiting / max(1, waiting)),
        "MB in all": round(_rss() / 1e6),
    }


def ticks(managers: int) -> Row:
    """Ticks and heartbeats while all managers are busy, and while all are idle."""
    row: Row = {"managers": managers}
    for name, tasks in (("idle", 0), ("busy", managers * SLOTS)):
        simulation = Simulation(WORKLOADS[0])
        simulation.add_managers(managers)
        simulation.submit(tasks)
        simulation.spent_s.clear()
        simulation.events.clear()
        worst = 0.0
        for _ in range(40):  # 20 seconds
            simulation.now += TICK_S
            before = simulation.spent_s.get("tick", 0.0)
            simulation.tell(ev.Tick(), "tick")
            worst = max(worst, simulation.spent_s["tick"] - before)
            if simulation.now >= simulation._beats_at:
                simulation._beats_at = simulation.now + HEARTBEAT_S
                simulation.beat()
        spent = sum(simulation.spent_s.values())
        row[f"{name}: tick, ms"] = round(simulation.per_event_us("tick") / 1000, 2)
        row[f"{name}: worst"] = round(1000 * worst, 2)
        row[f"{name}: % of a core"] = round(100 * spent / 20, 2)
    return row


def registrations(managers: int, *, restart: bool) -> Row:
    """All managers greet at once; after a restart with what they hold, and the journal knows it."""
    simulation = Simulation(WORKLOADS[0])
    held: dict[int, list[msg.TaskRefs]] = {}
    stream = next(iter(simulation._next_first))
    if restart:
        journal: list[ev.Sent] = []
        for number in range(managers):
            refs = [msg.TaskRefs(stream, [number * SLOTS, SLOTS], 1, 1)]
            held[number] = refs
            journal.append(ev.Sent(f"manager-{number}", refs))
        names = [f"manager-{number}" for number in range(managers)]
        simulation.tell(ev.Recovered(names, journal), "recovering")
    numbers = list(range(managers))
    random.Random(1).shuffle(numbers)
    owed = managers * SLOTS if restart else 0
    worst = total = 0.0
    for position, number in enumerate(numbers):
        manager = SimulatedManager(number)
        simulation.managers[manager.peer] = manager
        before = simulation.spent_s.get("registration", 0.0)
        greeting = manager.register(running=held.get(number, []))
        simulation.tell(ev.ManagerSaid(manager.peer, greeting), "registration")
        capacity = msg.Capacity(simulation.credit, _BYTES, SLOTS)
        simulation.tell(ev.ManagerSaid(manager.peer, capacity), "registration")
        worst = max(worst, simulation.spent_s["registration"] - before)
        # The forwarder sends again what was owed, as the window allows.
        sent = simulation._next_first[stream]
        if position % 20 == 0 or position == managers - 1:
            while sent < min(owed, simulation._window):
                count = min(RUN_TASKS, simulation._window - sent, owed - sent)
                run = simulation.run_of(stream, count, sent_before=True)
                simulation.tell(ev.ForwarderSaid(msg.Tasks([run])), "owed")
                sent += count
    total = simulation.spent_s["registration"] + simulation.spent_s.get("owed", 0.0)
    again = len(simulation.core._state.queue)
    assert again == 0, f"{again} tasks run again"
    return {
        "managers": managers,
        "greeting": f"{SLOTS} running tasks each, after a restart" if restart else "new",
        "us each": round(2 * simulation.per_event_us("registration")),
        "worst, ms": round(1000 * worst, 1),
        "in all, s": round(total, 2),
    }


def losses(managers: int, lost: int) -> Row:
    """Many managers are lost at once, among as many tasks as all have workers, and more."""
    simulation = Simulation(WORKLOADS[1])
    simulation.add_managers(managers)
    tasks = 2 * managers * SLOTS
    simulation.submit(tasks)
    simulation.go_on(lambda: simulation.ended >= managers)
    gone = list(simulation.managers)[:lost]
    begin = time.thread_time()
    worst = 0.0
    held = 0
    for peer in gone:
        manager = simulation.managers.pop(peer)
        held += len(manager.ends) + len(manager.queue)
        since = time.thread_time()
        simulation.tell(ev.ManagerGone(peer, "its connection was closed"), "loss")
        worst = max(worst, time.thread_time() - since)
    spent = time.thread_time() - begin
    for kind in ("results", "stored", "tasks"):
        simulation.spent_s.pop(kind, None)
        simulation.events.pop(kind, None)
    before = simulation.ended
    simulation.go_on(lambda: simulation.ended >= tasks)
    after = sum(simulation.spent_s.get(kind, 0.0) for kind in ("results", "stored", "tasks"))
    return {
        "managers": managers,
        "lost": lost,
        "tasks held there": held,
        "loss, ms each": round(1000 * spent / lost, 2),
        "worst, ms": round(1000 * worst, 2),
        "in all, s": round(spent, 2),
        "us per task after that": round(1e6 * after / max(1, simulation.ended - before), 1),
        "ended": simulation.ended == tasks,
    }


def late_outcomes(managers: int, cut_off: int) -> Row:
    """Managers that were given up come back, and tell what has ended there meanwhile."""
    simulation = Simulation(Workload("hours", 10_000.0, False))
    simulation.add_managers(managers)
    stream = next(iter(simulation._next_first))
    run = simulation.run_of(stream, managers * SLOTS)
    simulation.tell(ev.ForwarderSaid(msg.Tasks([run])), "tasks")
    away = [simulation.managers.pop(peer) for peer in list(simulation.managers)[:cut_off]]
    late: list[tuple[SimulatedManager, list[tuple[bytes, int, int, int]]]] = []
    for manager in away:
        late.append((manager, [task for _, task in manager.ends]))
        simulation.tell(ev.ManagerGone(manager.peer, "its connection was closed"), "loss")
    outcomes = 0
    for manager, tasks in late:
        greeting = manager.register(unstored=list(range(1, len(tasks) + 1)))
        simulation.tell(ev.ManagerSaid(manager.peer, greeting), "registration")
        for number, (name, index, epoch, attempt) in enumerate(tasks, 1):
            outcome = [Outcome(index, OutcomeKind.VALUE, _VALUE)]
            results = msg.Results(number, [msg.ResultRun(name, epoch, attempt, outcome)])
            simulation.tell(ev.ManagerSaid(manager.peer, results), "late")
            outcomes += 1
    return {
        "managers": managers,
        "cut off": cut_off,
        "late outcomes": outcomes,
        "us each": round(simulation.per_event_us("late"), 1),
        "in all, s": round(simulation.spent_s["late"], 2),
    }


def cancelling(managers: int, tasks: int) -> Row:
    """Somebody cancels what waits and what runs."""
    simulation = Simulation(WORKLOADS[0])
    simulation.add_managers(managers)
    simulation.submit(managers * SLOTS + tasks)
    refs = [
        msg.TaskRefs(stream, to_ranges(range(last)))
        for stream, last in simulation._next_first.items()
    ]
    count = sum(simulation._next_first.values())
    simulation.tell(ev.ForwarderSaid(msg.Cancel(refs)), "cancel")
    return {
        "managers": managers,
        "tasks": count,
        "us per task": round(1e6 * simulation.spent_s["cancel"] / count, 2),
    }


def scaling(blocks: int) -> Row:
    """An endpoint grows to so many blocks of one manager, works, and gives them all back."""
    policy = prov.ScalingPolicy(max_blocks=blocks, slots_per_node=SLOTS, max_idle_s=60.0)
    simulation = Simulation(WORKLOADS[0], scaling=policy)
    simulation.tell(ev.ProvisionerSaid(prov.ProvisionerReady("a batch system")), "ready")
    row: Row = {"blocks": blocks}
    # A first block shows that it works; then all that are wanted are asked for.
    simulation.tell(ev.ForwarderSaid(msg.Backlog(blocks * SLOTS)), "backlog")
    known = 0

    def up() -> None:
        nonlocal known
        for message in simulation.asked:
            if isinstance(message, prov.SubmitBlock):
                number = message.block.number
                said = prov.Submitted(number, str(100_000 + number))
                simulation.tell(ev.ProvisionerSaid(said), "submitted")
                manager = SimulatedManager(number)
                simulation.managers[manager.peer] = manager
                greeting = manager.register(block=str(number))
                simulation.tell(ev.ManagerSaid(manager.peer, greeting), "registration")
                capacity = msg.Capacity(SLOTS, _BYTES, SLOTS)
                simulation.tell(ev.ManagerSaid(manager.peer, capacity), "registration")
                known += 1
        simulation.asked.clear()

    def tick(kind: str) -> None:
        simulation.now += TICK_S
        simulation.tell(ev.Tick(), kind)

    for _ in range(20):
        up()
        tick("growing")
        simulation.beat()
        if known >= blocks:
            break
    up()
    assert known == blocks, known
    row["growing, ms"] = round(1000 * simulation.spent_s["growing"], 1)
    row["registration, us"] = round(2 * simulation.per_event_us("registration"))
    simulation.tell(ev.ForwarderSaid(msg.Backlog(0)), "backlog")
    simulation.submit(blocks * SLOTS)
    for _ in range(20):
        tick("working")
        simulation.beat()
    row["tick at work, ms"] = round(simulation.per_event_us("working") / 1000, 2)
    simulation.go_on(lambda: simulation.ended >= blocks * SLOTS)
    simulation.now += 1
    tick("idle")
    simulation.now += policy.max_idle_s
    simulation.beat()
    tick("shrinking")
    row["giving all back, ms"] = round(1000 * simulation.spent_s["shrinking"], 1)
    drained = sum(manager.draining for manager in simulation.core._state.managers.values())
    assert drained == blocks, drained
    for peer in list(simulation.managers):
        del simulation.managers[peer]
        simulation.tell(ev.ManagerSaid(peer, msg.Bye("drained")), "leaving")
    row["leaving, us each"] = round(simulation.per_event_us("leaving"))
    return row


def _rss() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


# --- the table ------------------------------------------------------------------------------------


def measurements(quick: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """All of them: under which heading, and what does it."""
    tasks = 50_000 if quick else 200_000
    large = (100, 1000, 2000)
    for workload in WORKLOADS:
        for managers in (1, 10, *large):
            yield "Dispatching", partial(dispatching, workload, managers, tasks)
        if not quick:
            yield "Dispatching", partial(dispatching, workload, 2000, 1_000_000)
    for managers in large:
        yield "Ticks and heartbeats", partial(ticks, managers)
    for restart in (False, True):
        for managers in large:
            yield "Registrations at once", partial(registrations, managers, restart=restart)
    for managers in large:
        yield "Managers lost at once", partial(losses, managers, managers // 4)
    for managers in large:
        yield "Late outcomes", partial(late_outcomes, managers, managers // 4)
    for managers in large:
        yield "Cancelling", partial(cancelling, managers, 100_000)
    for blocks in large:
        yield "Scaling", partial(scaling, blocks)
    yield "Memory", partial(memory, 2000, 200_000 if quick else 1_000_000)


def main() -> int:
    """Measure everything, or what is named, and print a table for each heading."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tasks: about a minute")
    parser.add_argument("--only", default="", metavar="WORD", help="headings that have this word")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    options = parser.parse_args()
    gc.set_threshold(100_000, 50, 100)  # as the interchange's process has it
    found: dict[str, list[Row]] = {}
    for heading, measure in measurements(options.quick):
        if options.only.lower() not in heading.lower():
            continue
        row = measure()
        print(f"{heading}: {row}", file=sys.stderr)
        found.setdefault(heading, []).append(row)
        gc.collect()
    for heading, rows in found.items():
        print(f"\n### {heading}\n")
        print("| " + " | ".join(rows[0]) + " |")
        print("|" + "---|" * len(rows[0]))
        for row in rows:
            print("| " + " | ".join(map(_told, row.values())) + " |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _told(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
