"""Which transitions the state machine takes: of tasks, of managers, and of workers' slots.

Three machines in the cores are watched from outside: of each event that a core handles is noted
what it has changed. `possible_transitions` says which there are. What was never taken is listed,
and by which other events some were; a way between two states that no event leads is an error.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TextIO
from unittest import mock

from fxhpc.forwarder.core import Forwarder
from fxhpc.forwarder.streams import (
    DELIVERED,
    ENDED,
    PARKED,
    QUEUED,
    RUNNING,
    SENT,
    STORING,
)
from fxhpc.interchange.awaited import UNKNOWN
from fxhpc.interchange.core import Interchange
from fxhpc.interchange.held import Manager as Known
from fxhpc.manager.core import Manager
from fxhpc.manager.held import Slot
from tests.model.possible_transitions import MANAGERS, NOT_THERE, SLOTS, TASKS, Table

_STATES = {
    QUEUED: "queued",
    SENT: "sent",
    RUNNING: "running",
    PARKED: "parked",
    STORING: "storing",
    ENDED: "ended",
    DELIVERED: "delivered",
}


class Transition(NamedTuple):
    """One way from a state to another."""

    machine: str
    before: str
    event: str
    after: str


#: The machines, by what they are of: their possible transitions.
POSSIBLE: dict[str, Table] = {
    "a task, at the forwarder": TASKS,
    "a manager, at its interchange": MANAGERS,
    "a worker, at its manager": SLOTS,
}
_TASK, _MANAGER, _SLOT = POSSIBLE


class Transitions:
    """Counts transitions."""

    def __init__(self) -> None:
        self.counts: Counter[Transition] = Counter()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Count while this lasts."""
        with contextlib.ExitStack() as patches:
            for core, method, machine, look in (
                (Forwarder, "recover", _TASK, _tasks),
                (Forwarder, "handle", _TASK, _tasks),
                (Interchange, "handle", _MANAGER, _managers),
                (Manager, "start", _SLOT, _slots),
                (Manager, "handle", _SLOT, _slots),
            ):
                watched = self._watching(getattr(core, method), method, machine, look)
                patches.enter_context(mock.patch.object(core, method, watched))
            yield

    def _watching(
        self,
        handle: Callable[..., Any],
        method: str,
        machine: str,
        look: Callable[[Any], dict[Any, str]],
    ) -> Callable[..., Any]:
        def watching(core: Any, *arguments: Any) -> Any:
            before = look(core)
            try:
                return handle(core, *arguments)
            finally:
                after = look(core)
                if before != after:
                    event = method if method != "handle" else _name(arguments[0])
                    for key in before.keys() | after.keys():
                        was, now = before.get(key, NOT_THERE), after.get(key, NOT_THERE)
                        if was != now:
                            self.counts[Transition(machine, was, event, now)] += 1

        return watching

    def impossible(self) -> list[Transition]:
        """What was taken between states between which no event leads."""
        return [one for one in self.counts if (one.before, one.after) not in POSSIBLE[one.machine]]

    def report(self, file: TextIO) -> None:
        """Write down what was taken, how often, and what never was."""
        for machine, table in POSSIBLE.items():
            taken = {one[1:]: count for one, count in self.counts.items() if one.machine == machine}
            possible = _all(table)
            never = sorted(possible - taken.keys())
            ways = {(before, after) for before, _, after in taken} & table.keys()
            print(
                f"\n{machine}: {len(ways)} of {len(table)} ways between states, "
                f"{len(possible) - len(never)} of {len(possible)} with their events, "
                f"{sum(taken.values()):,} times",
                file=file,
            )
            for (before, event, after), count in sorted(taken.items()):
                odd = "" if (before, event, after) in possible else "   (not in the table)"
                print(f"{count:>12,}  {before} -> {after}: {event}{odd}", file=file)
            for before, event, after in never:
                print(f"{'never':>12}  {before} -> {after}: {event}", file=file)


def _all(table: Table) -> set[tuple[str, str, str]]:
    return {(before, event, after) for (before, after), events in table.items() for event in events}


def _name(event: Any) -> str:
    """What an event is called in the tables: by its message, if it brings one."""
    message = getattr(event, "message", None)
    name = type(event if message is None else message).__name__
    if getattr(event, "error", None) is not None:
        name += " refused"
    return name


# --- the states -----------------------------------------------------------------------------------


def _tasks(forwarder: Forwarder) -> dict[tuple[bytes, int], str]:
    return {
        (name, index): _STATES[state]
        for name, stream in forwarder._state.streams.items()
        for index, state in enumerate(stream.states)
    }


def _managers(interchange: Interchange) -> dict[str, str]:
    awaited = interchange._recovering.expected.keys() - {UNKNOWN}
    known = interchange._state.by_name
    return {
        **dict.fromkeys(awaited, "awaited"),
        **{name: _manager(manager) for name, manager in known.items()},
    }


def _manager(manager: Known) -> str:
    if manager.draining:
        return "draining"
    if manager.unstored:
        return "telling"  # what had ended there before it greeted
    if manager.alone:
        return "alone"
    if manager.kept_free:
        return "kept free"
    if manager.suspect is not None:
        return "suspect"
    return "busy" if manager.held_tasks else "idle"


def _slots(manager: Manager) -> dict[int, str]:
    return {number: _slot(slot) for number, slot in manager._staff.slots.items()}


def _slot(slot: Slot) -> str:
    if slot.kill:
        return "killed"
    if not slot.ready:
        return "starting"
    if slot.skip is not None:
        return "skipping"
    if not slot.tasks:
        return "idle"
    return "given" if slot.running_place is None else "running"
