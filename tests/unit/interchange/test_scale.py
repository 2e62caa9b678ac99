"""What the interchange does for a task, a greeting or a late outcome, among many managers: as much
as among few. Calls are counted, not seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from tests.unit.interchange.acting import STREAM, Stage

SLOTS = 4


def calls(action: Callable[[], object]) -> int:
    """How many functions it calls, those of the interpreter among them."""
    count = 0

    def note(frame: Any, what: str, argument: Any) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def full(managers: int, *, waiting: int = 0) -> Stage:
    """All workers of so many managers are busy with tasks from 0 on, manager by manager."""
    stage = Stage()
    for number in range(managers):
        stage.register(b"%d" % number, slots=SLOTS, tasks=SLOTS, host=f"node{number}")
        stage.submit(SLOTS, first=number * SLOTS)
    if waiting:
        stage.submit(waiting, first=managers * SLOTS)
    stage.take()
    return stage


def dispatching(managers: int, rounds: int, at_once: int) -> float:
    """Calls for each of the tasks that follow when others have ended."""
    stage = full(managers, waiting=100_000)

    def work() -> None:
        for number in range(rounds):
            peer = number % managers
            first = peer * SLOTS
            if number < managers:
                stage.finish(b"%d" % peer, list(range(first, first + at_once)), number=number)
                stage.forwarder(msg.ResultsStored([number]))

    count = calls(work)
    sent = sum(len(stage.sent(b"%d" % number)) for number in range(rounds))
    assert sent == rounds * at_once
    return count / sent


def test_a_task_costs_the_same_calls_among_a_thousand_managers() -> None:
    few = dispatching(10, 10, 1)
    assert dispatching(1_000, 100, 1) <= 1.1 * few
    assert few < 250
    many = dispatching(10, 10, SLOTS)
    assert dispatching(1_000, 100, SLOTS) <= 1.1 * many
    assert many < few / 2


def greeting(managers: int) -> float:
    """Calls for each manager that comes back after a restart, while the forwarder sends again."""
    stage = Stage(epoch=2)
    sent = [
        ev.Sent(f"{number}", [msg.TaskRefs(STREAM, [number * SLOTS, SLOTS], 1, 1)])
        for number in range(managers)
    ]
    stage.tell(ev.Recovered([f"{number}" for number in range(managers)], sent))

    def come_back() -> None:
        # The last ones first, so that they claim what the forwarder has not sent again yet.
        for number in reversed(range(managers)):
            refs = [msg.TaskRefs(STREAM, [number * SLOTS, SLOTS], 1, 1)]
            stage.register(b"%d" % number, slots=SLOTS, tasks=SLOTS, running=refs)
            first = (managers - 1 - number) * SLOTS
            stage.submit(SLOTS, first=first, sent_before=True)

    count = calls(come_back)
    assert not any(stage.to(b"%d" % number, msg.Tasks) for number in range(managers))
    assert sum(one.held_tasks for one in stage.core._state.managers.values()) == managers * SLOTS
    return count / managers


def test_a_storm_of_greetings_after_a_restart_costs_each_the_same() -> None:
    few = greeting(10)
    assert greeting(200) <= 1.2 * few


def late(managers: int, cut_off: int) -> float:
    """Calls for each outcome of managers that were given up and come back."""
    stage = full(managers)
    for number in range(cut_off):
        stage.tell(ev.ManagerGone(b"%d" % number, "its connection was closed"))
    count = 0
    for number in range(cut_off):
        name = f"{number}"
        stage.register(
            b"again-%d" % number, name=name, slots=SLOTS, tasks=SLOTS, unstored=[1, 2, 3, 4]
        )
        for position in range(SLOTS):
            outcome = Outcome(number * SLOTS + position, OutcomeKind.VALUE, b"value")
            results = msg.Results(position + 1, [msg.ResultRun(STREAM, 1, 1, [outcome])])
            message = ev.ManagerSaid(b"again-%d" % number, results)
            count += calls(lambda message=message: stage.tell(message))  # type: ignore[misc]
    assert not stage.core._state.apart
    assert not stage.core._state.queue
    assert not stage.core._state.again
    assert len(stage.outcomes()) == cut_off * SLOTS
    return count / (cut_off * SLOTS)


def test_late_outcomes_of_many_managers_that_were_cut_off_cost_each_the_same() -> None:
    few = late(10, 2)
    assert late(400, 100) <= 1.2 * few
