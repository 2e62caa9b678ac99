"""What the interchange tells of itself: its window, how many work, and why nothing runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain, islice
from typing import Any

from fxhpc.interchange import events as ev
from fxhpc.interchange.blocks.allocating import Allocating
from fxhpc.interchange.blocks.blocks import DRAINING, PENDING, RUNNING, SUBMITTING, UNKNOWN, Block
from fxhpc.interchange.blocks.walltimes import OutOfTime, count_out_of_time
from fxhpc.interchange.held import Manager
from fxhpc.interchange.placement.placing import Placing
from fxhpc.interchange.placement.reasons import waiting_reports
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.units import format_duration

#: What the interchange asks for beside the managers' credit: so that a scale-out sees a backlog.
BASE_WINDOW_TASKS = 64
BASE_WINDOW_BYTES = 16 * 2**20

#: What it asks for, at most, beside tasks that wait for a block with enough time, or for more than
#: a worker: others pass them.
PASSED_TASKS = 10_000
PASSED_BYTES = 256 * 2**20

#: Managers that a report lists.
LISTED = 100

#: Seconds between two reports of what cannot wait for the next tick.
URGENT_S = 0.1


def is_urgent(status: msg.Status, before: msg.Status | None) -> bool:
    """Whether people would take what was told before for wrong: all work has ended since, or a
    manager is gone, or the first one is there.
    """
    if before is None or bool(before.managers) != bool(status.managers):
        return True
    if status.managers < before.managers:
        return True
    return bool(before.queued or before.running) and not (status.queued or status.running)


class Reporting:
    """Tells the forwarder what has changed: a status for each tick, at once what is urgent.

    Args:
        details: of the endpoint's configuration.
        wall_offset_s: the wall clock minus the clock of `now`.
        waits_for: tells which managers of before the restart are waited for; empty: none. Whether
            it is to tell of those, too, that are not known to have any task.
        set_aside: tells which hosts get no work, and why.
        placing: of tasks with needs of their own.

    Attributes:
        refused: why a manager was not let in last; empty once one was.
    """

    def __init__(
        self,
        state: State,
        allocating: Allocating | None,
        details: dict[str, Any],
        wall_offset_s: float,
        waits_for: Callable[[bool], str],
        set_aside: Callable[[], list[str]],
        placing: Placing,
    ) -> None:
        self._state = state
        self._allocating = allocating
        self._details = details
        self._wall_offset_s = wall_offset_s
        self._waits_for = waits_for
        self._set_aside = set_aside
        self._placing = placing
        self._sized = (0, 0)  # tasks with needs of their own that waited at the last tick; bytes
        self._window = (0, 0)
        self._status: msg.Status | None = None
        self._urgent_at = 0.0  # when it may be seen again whether anything cannot wait
        self._out_of_time = OutOfTime()
        self._had_managers = False
        self.refused = ""

    def greeted(self) -> None:
        """The forwarder knows nothing: tell all of it."""
        self._window, self._status = (0, 0), None

    def report(self, tick: bool) -> None:
        """Tell the forwarder of a window or a status that has changed."""
        state = self._state
        self._had_managers = self._had_managers or bool(state.managers)
        if tick:
            longest_s = self._allocating.longest_task_s if self._allocating else math.inf
            self._out_of_time = count_out_of_time(state, longest_s)
            self._sized = state.sized.count()
        if not state.outbox.connected:
            return
        if state.credit_changed or self._window == (0, 0) or tick:
            state.credit_changed = False
            self._tell_window()
        before = self._status
        if tick or before is None or self._may_be_urgent(before):
            status = self.status()
            if not tick:
                self._urgent_at = state.now + URGENT_S
            if status != before and (tick or is_urgent(status, before)):
                self._status = status
                state.actions.append(ev.ToForwarder(status))

    def _may_be_urgent(self, before: msg.Status) -> bool:
        """Between two ticks: whether it is worth while to look. This is asked for each message."""
        state = self._state
        managers = state.managers
        if bool(before.managers) != bool(managers):
            return True
        if state.now < self._urgent_at:
            return False
        if len(managers) < before.managers:
            return True
        return bool(before.queued or before.running) and not (
            state.queue
            or state.apart
            or state.sized
            or any(manager.held_tasks for manager in managers.values())
        )

    def _tell_window(self) -> None:
        tasks = size = 0
        if not self._state.stopping:
            out_of_time, (sized, sized_bytes) = self._out_of_time, self._sized
            tasks = BASE_WINDOW_TASKS
            tasks += min(PASSED_TASKS, out_of_time.unfit + out_of_time.never + sized)
            size = BASE_WINDOW_BYTES + min(PASSED_BYTES, out_of_time.size + sized_bytes)
            roster = self._state.roster
            roster.refresh()
            tasks += 2 * roster.credit_tasks
            size += 2 * roster.credit_bytes
        if (tasks, size) != self._window:
            self._window = (tasks, size)
            self._state.actions.append(ev.ToForwarder(msg.Window(tasks, size)))

    def status(self) -> msg.Status:
        """How the endpoint is now."""
        state = self._state
        workers = idle = running = held = cores = memory = 0
        for manager in state.managers.values():
            workers += manager.workers
            idle += _idle_workers(manager)
            running += min(manager.workers, manager.held_tasks)
            held += manager.held_tasks
            cores += manager.cores
            memory += manager.memory
        queued = state.ready_tasks
        waiting = sum(map(len, state.waiting.values()))
        backlog = 0  # tasks that wait at the forwarder, as far as it tells
        only = state.only_node()
        report = msg.EndpointReport(
            [_of_manager(manager) for manager in islice(state.managers.values(), LISTED)],
            total_cores=cores,
            total_memory=memory,
            details=self._details,
            set_aside=self._set_aside(),
            only=only.size if only is not None else None,
            labels=sorted(only.labels) if only is not None else None,
            waiting=self._waiting(),
        )
        if self._allocating is not None:
            allocating = self._allocating
            report.blocks = allocating.blocks.reports(state.now, self._wall_offset_s)
            report.failed_blocks = [
                msg.FailedBlock(one.block, one.why, one.at + self._wall_offset_s)
                for one in allocating.backoff.recent
            ]
            report.scheduler = allocating.blocks.scheduler
            report.scheduler_trouble = allocating.scheduler.trouble or allocating.backoff.trouble
            if allocating.scheduler.failed:
                report.paused = allocating.scheduler.failed
            elif allocating.backoff.paused:
                report.paused = allocating.backoff.reason(state.now)
            backlog = allocating.backlog
        return msg.Status(
            managers=len(state.managers),
            workers=workers,
            idle_workers=idle,
            queued=queued + waiting + held - running + backlog,
            running=running,
            reason=self._reason(queued),
            report=report,
        )

    # --- why nothing runs -----------------------------------------------------------------------

    def _waiting(self) -> list[msg.WaitingReport]:
        """What waits by what it needs. Where no manager is, all wait for the same; but for what no
        block will be asked for.
        """
        state = self._state
        told = waiting_reports(state, self._placing, self._allocating is not None)
        if not told or state.managers:
            return told
        lines = {line.packed: line for line in chain(state.sized.lines(), state.several.lines())}
        for one in told:
            line = lines.get(one.needs)
            is_beyond = line is not None and state.brought.is_beyond(line)
            one.reason = state.brought.why(line) if line is not None and is_beyond else ""
        return told

    def _reason(self, queued: int) -> str:
        state = self._state
        if state.stopping:
            return "the endpoint is being stopped"
        if any(manager.slots and not manager.draining for manager in state.managers.values()):
            return self._no_time(queued) or ("" if queued else self._waits_for(False))
        if not self.refused and (awaited := self._waits_for(True)):
            return awaited
        if self._allocating is not None:
            return self._no_blocks(self._allocating, queued)
        if state.managers:
            return "all managers are being drained"
        if self._had_managers:
            return self.refused or "its managers are gone, and no other has registered yet"
        return self.refused or "no manager has registered yet"

    def _no_time(self, queued: int) -> str:
        """Managers are there; all that waits may want more time than they have."""
        out_of_time = self._out_of_time
        waiting = out_of_time.unfit + out_of_time.never
        if not waiting or waiting < queued:
            return ""
        longest = format_duration(out_of_time.longest_s)
        if out_of_time.unfit:
            return (
                f"no task fits: the {waiting} that wait declare up to {longest}, and no block that "
                f"runs has that much time left; the next one has"
            )
        return self._never(out_of_time)

    def _never(self, out_of_time: OutOfTime) -> str:
        has_s = self._allocating.longest_task_s if self._allocating is not None else math.inf
        return (
            f"no task fits: the {out_of_time.never} that wait declare up to "
            f"{format_duration(out_of_time.longest_s)}, and of a block, {format_duration(has_s)} "
            f"are left when its workers are up; raise `walltime`, or split them"
        )

    def _no_blocks(self, allocating: Allocating, queued: int) -> str:
        """No manager takes work, and blocks would bring some."""
        state, scheduler, backoff = self._state, allocating.scheduler, allocating.backoff
        if scheduler.failed:
            return scheduler.failed
        trying = [block for block in allocating.blocks if block.waits]
        if backoff.paused:
            tried = [block for block in trying if not block.counted]
            words = backoff.reason(state.now)
            return f"{words}; {_phase(allocating, tried)}" if tried else words
        if queued and self._out_of_time.never == queued:
            return self._never(self._out_of_time)
        if trying:
            words = _phase(allocating, trying)
            return f"{words}; before that, {backoff.last}" if backoff.last else words
        if reason := backoff.reason(state.now):
            return reason
        if scheduler.gone:
            return (
                f"the process that speaks with the batch system is started again: {scheduler.gone}"
            )
        if any(block.leaving == DRAINING for block in allocating.blocks):
            return "all blocks are being drained: they finish what they run, and take nothing new"
        registered = [block for block in allocating.blocks if block.registered]
        if any(not block.leaving for block in registered):
            block = registered[0]
            return f"{allocating.blocks.describe(block)} runs, and its managers are gone"
        if len(allocating.blocks):
            return "blocks are being cancelled, and count until they are gone"
        if not scheduler.ready:
            return "the process that speaks with the batch system is being started"
        if self.refused:
            return self.refused
        waiting = self._waiting() if queued and not allocating.backlog else []
        if queued and sum(one.tasks for one in waiting if one.reason) == queued:
            return waiting[0].reason  # for none of these one is asked for
        return _nothing_asked_for(allocating)


def _nothing_asked_for(allocating: Allocating) -> str:
    policy = allocating.policy
    if not policy.scale and not (policy.init_blocks or policy.min_blocks):
        return (
            "no block is ever asked for: `strategy` is none, and `init_blocks` and `min_blocks` "
            "are 0"
        )
    if policy.max_blocks < 1:
        return "no block is ever asked for: `max_blocks` is 0"
    return "there is no block; one is asked for when there are tasks"


def _phase(allocating: Allocating, coming: list[Block]) -> str:
    """Where the blocks are that are waited for: of the one that is furthest."""
    by_phase = {
        phase: [block for block in coming if block.phase == phase]
        for phase in (RUNNING, PENDING, SUBMITTING, UNKNOWN)
    }
    blocks = allocating.blocks
    if found := by_phase[RUNNING]:
        words = "RUNNING, its manager has not registered yet"
        if found[0].ended:
            words = f"was ended before its manager registered ({found[0].ended.words})"
        return f"{blocks.job(found[0])} {words}{_and_more(coming)}"
    if found := by_phase[PENDING]:
        words = found[0].words or "submitted"
        return f"{blocks.job(found[0])} {words}{_and_more(coming)}"
    trouble = allocating.backoff.trouble or allocating.scheduler.trouble
    if found := by_phase[UNKNOWN]:
        words = f": {trouble}" if trouble else ""
        return f"the batch system is asked whether block {found[0].number} exists{words}"
    to = f" to {blocks.scheduler}" if blocks.scheduler else ""
    return f"block {coming[0].number} is being submitted{to}{_and_more(coming)}"


def _and_more(coming: list[Block]) -> str:
    return f"; {len(coming) - 1} more are waited for" if len(coming) > 1 else ""


def _idle_workers(manager: Manager) -> int:
    return (
        0
        if manager.draining or manager.lent is not None
        else max(0, manager.slots - manager.held_tasks)
    )


def _of_manager(manager: Manager) -> msg.ManagerReport:
    return msg.ManagerReport(
        manager.name,
        manager.host,
        manager.block,
        manager.pid,
        manager.workers,
        _idle_workers(manager),
        manager.cores,
        manager.memory,
        manager.accelerators,
        manager.python,
        manager.version,
        manager.draining,
    )
