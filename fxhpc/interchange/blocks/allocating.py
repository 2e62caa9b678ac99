"""What becomes of an endpoint's blocks: asked for, waited for, used, given back, given up.

`scaling` says how many are wanted, `backoff` whether one may be asked for, `scheduler` speaks with
the batch system. Managers are believed before the batch system is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fxhpc.interchange.blocks.backoff import Backoff
from fxhpc.interchange.blocks.blocks import (
    CANCELLING,
    DRAINING,
    PENDING,
    RUNNING,
    SUBMITTING,
    Block,
    Blocks,
    end_words,
)
from fxhpc.interchange.blocks.scaling import BlockView, View, plan
from fxhpc.interchange.blocks.scheduler import Scheduler
from fxhpc.interchange.blocks.walltimes import MARGIN_S, count_out_of_time, is_near_end
from fxhpc.interchange.held import Manager
from fxhpc.interchange.placement.demand import cells_wanted
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol import provision as prov
from fxhpc.protocol.outcome import LossCause
from fxhpc.units import format_duration

#: A block whose managers have left by themselves ends within so many seconds, or is cancelled.
LEFT_S = 5.0

#: A block that ends by itself so soon after its first manager has registered was of little use.
SHORT_S = 60.0


class Allocating:
    """Keeps as many blocks as the policy wants."""

    def __init__(self, state: State, policy: prov.ScalingPolicy) -> None:
        self._state = state
        self.policy = policy
        self.blocks = Blocks(state)
        self.backoff = Backoff(state.remedy)
        self.scheduler = Scheduler(state, self.blocks, policy.poll_s)
        self.backlog = 0  # tasks that wait at the forwarder
        self._slots_per_block = policy.nodes_per_block * policy.slots_per_node
        self._registered = 0  # blocks of which a manager has registered
        self._fresh_s = policy.walltime_s  # what was left of the last block when it registered

    @property
    def longest_task_s(self) -> float:
        """The longest duration that a task may declare and still be started; inf: any."""
        return self._fresh_s - MARGIN_S if self._fresh_s else math.inf

    # --- managers -------------------------------------------------------------------------------

    def registered(self, manager: Manager, now: float) -> bool:
        """A manager has greeted, for the first time or again; whether it is to leave."""
        block = self._block_of(manager, now)
        if block is None:
            return False
        is_first = not block.managers
        block.managers.add(manager.name)
        block.workers = self._workers(block)
        block.ended = None
        block.empty_since = math.inf
        block.ends = manager.ends if is_first else min(block.ends, manager.ends)
        manager.block_s = manager.block_s or self.policy.walltime_s
        if manager.job:
            self.blocks.set_job(block, manager.job)
        if not block.registered:
            self._is_of_use(block, manager, now)
        return bool(block.leaving)

    def _block_of(self, manager: Manager, now: float) -> Block | None:
        block = self.blocks.of(manager.block)
        if block is None and manager.block.isdecimal():
            return self.blocks.adopt_unknown(int(manager.block), manager.job, now)
        return block

    def _is_of_use(self, block: Block, manager: Manager, now: float) -> None:
        block.registered = block.seen = True
        block.registered_at = now
        block.phase, block.words = RUNNING, ""
        block.running_since = min(block.running_since, now)
        block.idle_since = math.inf
        self._registered += 1
        if manager.ends < math.inf and not block.adopted:
            self._fresh_s = min(manager.ends - now, self.policy.walltime_s or math.inf)
        seen = self.policy.nodes_per_block * manager.workers
        self._slots_per_block = seen or self._slots_per_block
        if self.backoff.paused:
            self._state.note("scaling goes on: a block's manager has registered")
        self.backoff.succeeded()
        self._state.note(
            f"{self.blocks.describe(block)} runs: its first manager has registered from "
            f"{manager.host or 'its node'}"
        )

    def refused(self, message: msg.Register, why: str, now: float) -> None:
        """A manager was not let in: its block is of no use, nor would be another."""
        block = self.blocks.of(message.block)
        if block is None or block.counted or block.registered:
            return
        block.refused = why
        self._failed(block, f"the manager of block {block.number} was refused: {why}", now, True)
        self._give_up(block, why, now)

    def lost(self, manager: Manager, now: float) -> None:
        """A manager is gone."""
        block = self.blocks.of(manager.block)
        if block is None:
            return
        block.managers.discard(manager.name)
        block.workers = self._workers(block)
        # A task that had the manager for itself is to blame for its loss, and not the block.
        block.useful = block.useful or manager.ended > 0 or manager.alone
        if block.managers:
            return
        block.empty_since = now
        self.scheduler.want(now)
        if report := block.ended:
            self._is_gone(block, report, now)

    def set_aside(self, manager: Manager, why: str, now: float) -> None:
        """A manager is of no use; its block is let go if it has no other."""
        block = self.blocks.of(manager.block)
        if block is None:
            return
        known = map(self._state.by_name.get, block.managers)
        if block.leaving or any(other is not None and other.takes_work for other in known):
            return
        where = f"{self.blocks.describe(block)} on {manager.host or 'its node'}"
        self._drain(block, why, now)
        if not block.counted:
            block.counted = True
            paused = self.backoff.paused
            self.backoff.short_lived(block.number, f"{where} was of no use: {why}", now)
            if self.backoff.paused and not paused:
                self._state.note(self.backoff.reason(now), "error")

    def explain(self, manager: Manager, why: str, now: float) -> tuple[str, LossCause]:
        """Why a manager is gone, as far as its block tells; and whether a task is to blame."""
        block = self.blocks.of(manager.block)
        if self._state.stopping:
            words = self._state.stop_why
            told = why if words in why else f"{why} ({words})"
            return told, LossCause.INTERRUPTED
        if block is not None and block.leaving == CANCELLING:
            return f"{why} (its block was cancelled: {block.why})", LossCause.INTERRUPTED
        if block is not None and block.ended:
            said = end_words(block, block.ended, now)
            who = self.blocks.scheduler or "the batch system"
            if block.ended.killed:
                why = f"{why}; its job was ended ({said})"
            else:
                why = f"{why}; {who} says: {said}"
            words = said.upper()
            if "CANCEL" in words or "PREEMPT" in words:
                return why, LossCause.INTERRUPTED
            if "TIMEOUT" in words or "WALLTIME" in words:
                return why, LossCause.WALLTIME
        if is_near_end(manager, now):
            return f"{why}, at the end of its block's walltime", LossCause.WALLTIME
        if block is not None and block.job and not block.ended:
            who = self.blocks.scheduler or "the batch system"
            why = f"{why}; {who} has not said that its job is over"
        return why, LossCause.MANAGER_LOST

    def _workers(self, block: Block) -> int:
        found = map(self._state.by_name.get, block.managers)
        return sum(manager.workers for manager in found if manager is not None)

    # --- the provisioner ------------------------------------------------------------------------

    def said(self, message: prov.FromProvisioner, now: float) -> None:
        """The provisioner's message."""
        if isinstance(message, prov.Jobs):
            if not message.unasked:
                was_away = bool(self.scheduler.trouble)
                self.scheduler.answered(message, now)
                if was_away and not message.failed:
                    self.backoff.answers(now)
            for report in message.reports:
                if block := self.blocks.get(report.block):
                    self._reported(block, report, now)
        elif isinstance(message, prov.Submitted):
            self._submitted(message, now)
        elif isinstance(message, prov.NotSubmitted):
            self._not_submitted(message, now)
        elif isinstance(message, prov.CancelDone):
            self.scheduler.cancelled(message, now)
        elif isinstance(message, prov.ProvisionerReady):
            self.scheduler.is_ready(message.scheduler)
        else:
            self.scheduler.has_failed(message.reason)

    def provisioner_gone(self, why: str, now: float) -> None:
        """The provisioner died or was killed; another one starts."""
        if any(block.phase == SUBMITTING for block in self.blocks):
            self.backoff.unreachable(why, now)
        self.scheduler.is_gone(why, now)

    def _submitted(self, message: prov.Submitted, now: float) -> None:
        self.backoff.reached()
        block = self.blocks.get(message.block)
        if block is None:
            return
        self.blocks.set_job(block, message.job)
        block.submitted = block.submitted or now
        if block.phase == SUBMITTING:
            block.phase = PENDING
            block.pending_since = now
        self.scheduler.want(now)
        self._state.note(f"block {block.number} is {self.blocks.job(block)}")

    def _not_submitted(self, message: prov.NotSubmitted, now: float) -> None:
        block = self.blocks.get(message.block)
        if message.away:
            self.backoff.unreachable(message.reason, now)
            text = f"block {message.block} may not have been submitted: {message.reason}"
            self._state.note(text, "warning")
            if block is not None:
                block.unclear = message.reason if message.unclear else ""
                self.scheduler.doubt(block, now)
            return
        self.backoff.reached()
        if block is not None:
            if not block.leaving:
                self._failed(block, message.reason, now)
            self.blocks.drop(block)

    def _reported(self, block: Block, report: prov.JobReport, now: float) -> None:
        if report.phase == prov.JobPhase.MISSING:
            if self.scheduler.is_missing(block, now):
                self._is_gone(block, report, now)
            return
        block.missing = 0
        self.blocks.set_job(block, report.job)
        if report.phase == prov.JobPhase.ENDED:
            self._is_gone(block, report, now)
            return
        waits = report.phase == prov.JobPhase.PENDING and not (block.managers or block.leaving)
        if waits and (block.registered or block.ended):
            block.begin_again(now)
            self._state.note(f"{self.blocks.describe(block)} was put back into the queue")
        block.seen, block.words, block.nodes = True, report.words, report.nodes
        block.submitted = block.submitted or now
        if block.leaving == CANCELLING and block.cancelled:
            block.cancelled, block.cancel_at = False, now  # it was not, after all
        if block.registered:
            return
        if report.phase == prov.JobPhase.PENDING:
            block.phase = PENDING
            block.pending_since = min(block.pending_since, now)
        else:
            block.phase = RUNNING
            block.running_since = min(block.running_since, now)

    def _is_gone(self, block: Block, report: prov.JobReport, now: float) -> None:
        """The batch system says that there is no such job, or that it has ended."""
        if block.managers or (report.killed and not block.leaving):
            # As soon as its managers are gone; and the batch system's word on it is waited for:
            # it may be that the job goes back into the queue, and it tells why.
            block.ended = report
            self.scheduler.want(now)
            return
        words = end_words(block, report, now)
        never_was = report.phase == prov.JobPhase.MISSING and not (block.seen or block.job)
        if never_was:
            self._state.note(f"block {block.number} was never submitted", "warning")
            if block.unclear and not block.leaving:
                # Reached, asked, and there is no job: that is a refusal, in whatever words.
                self._failed(block, block.unclear, now)
        elif (
            block.registered
            and not (block.leaving or block.useful)
            and self._is_short(block, words)
        ):
            said = report.fatal or _tail(report.stderr) or words
            lasted = format_duration(block.empty_since - block.registered_at)
            why = f"block {block.number} ended {lasted} after its manager had registered: {said}"
            self._state.note(why, "warning")
            self.backoff.short_lived(block.number, why, now)
        elif block.registered or block.leaving or block.counted:
            self._state.note(f"{self.blocks.describe(block)} has ended: {words}")
        elif block.seen or not block.adopted:
            said = report.fatal or _tail(report.stderr) or "it wrote nothing"
            why = f"block {block.number} ended before its manager registered: {said}"
            if block.job:
                why += f" ({self.blocks.job(block)}: {words})"
            self._failed(block, why, now, bool(report.fatal))
        else:
            self._state.note(f"{self.blocks.describe(block)}, of before, is over: {words}")
        self.blocks.drop(block)

    def _is_short(self, block: Block, words: str) -> bool:
        """Whether it has ended too soon for a block that nobody has cancelled."""
        lasted = block.empty_since - block.registered_at
        if not block.adopted and lasted < min(SHORT_S, (self.policy.walltime_s or SHORT_S) / 2):
            return "CANCEL" not in words.upper()
        self.backoff.lived()
        return False

    def _failed(self, block: Block, why: str, now: float, fatal: bool = False) -> None:
        if block.counted:
            return
        block.counted = True
        paused = self.backoff.paused
        self.backoff.failed(block.number, why, now, fatal=fatal)
        self._state.note(f"block {block.number} has failed: {why}", "warning")
        if self.backoff.paused and not paused:
            self._state.note(self.backoff.reason(now), "error")

    # --- giving back ----------------------------------------------------------------------------

    def _drain(self, block: Block, why: str, now: float) -> None:
        block.leaving, block.why = DRAINING, why
        self._state.note(f"{self.blocks.describe(block)} gets no more work: {why}")
        for name in block.managers:
            if (manager := self._state.by_name.get(name)) and not manager.draining:
                self._state.drain(manager)
        if not block.managers:
            block.empty_since = now

    def _give_up(self, block: Block, why: str, now: float) -> None:
        if block.leaving != CANCELLING:
            block.leaving, block.why, block.cancel_at = CANCELLING, why, now
            self._state.note(f"{self.blocks.describe(block)} is cancelled: {why}")

    def cancel_all(
        self, why: str, now: float, *, spared: Callable[[str], bool] | None = None
    ) -> None:
        """Cancel all blocks; or those without managers, but for some that may have one still."""
        for block in self.blocks:
            if spared is not None and (block.managers or spared(str(block.number))):
                continue
            self._give_up(block, why, now)
            if not block.cancelled:
                block.cancel_at = now

    # --- time -----------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Time has passed."""
        for block in self.blocks:
            self._look_after(block, now)
        self.scheduler.ask(now)
        if not self._state.stopping:
            self.scale(now)
        self.scheduler.cancel(now)

    def _look_after(self, block: Block, now: float) -> None:
        register_s = self.policy.register_s
        if block.registered and block.managers:
            idle = not self._state.stopping and all(
                manager is None or not manager.held_tasks
                for manager in map(self._state.by_name.get, block.managers)
            )
            block.idle_since = min(block.idle_since, now) if idle else math.inf
            if not block.leaving and now >= block.ends - max(self.policy.drain_s, MARGIN_S):
                self._drain(block, "its walltime is nearly over", now)
        elif block.leaving == DRAINING:
            if now >= block.empty_since + LEFT_S:
                self._give_up(block, block.why, now)
        elif block.leaving:
            return
        elif block.registered:
            if now >= block.empty_since + register_s:
                lasted = format_duration(now - block.empty_since)
                self._give_up(block, f"all its managers have been gone for {lasted}", now)
        elif block.phase == RUNNING and now >= block.running_since + register_s:
            lasted = format_duration(now - block.running_since)
            where = f" on {block.nodes}" if block.nodes else ""
            why = (
                f"{self.blocks.describe(block)} has run for {lasted}{where}, and no manager of it "
                f"has registered: it may not reach this host, see the managers' logs and "
                f"`address` in the configuration"
            )
            self._failed(block, why, now)
            self._give_up(block, "no manager of it has registered", now)

    # --- scaling --------------------------------------------------------------------------------

    def scale(self, now: float) -> None:
        """Ask for blocks, and give some back, as the policy wants."""
        wanted = plan(self._view(now), self.policy)
        unneeded = set(wanted.unneeded)
        for block in self.blocks:
            if block.waits:
                known = block.idle_since if block.idle_since < math.inf else now
                block.idle_since = known if block.number in unneeded else math.inf
        for block in self.blocks:
            if block.number in wanted.cancel:
                self._give_up(block, "nobody needs it any more", now)
            elif block.number in wanted.drain:
                idle = format_duration(now - block.idle_since)
                self._drain(block, f"it has had nothing to do for {idle}", now)
        for _ in range(wanted.submit):
            self.scheduler.submit(now)

    def _view(self, now: float) -> View:
        state = self._state
        out_of_time = count_out_of_time(state, self.longest_task_s)
        outstanding = cells_wanted(state) - out_of_time.never
        return View(
            [self._view_of(block, now) for block in self.blocks],
            max(0, outstanding) + self.backlog,
            self._slots_per_block,
            sum(
                manager.slots
                for manager in state.managers.values()
                if not (manager.draining or manager.block.isdecimal())
            ),
            out_of_time.unfit,
            max(0, self.policy.init_blocks - self._registered),
            self.backoff.proven,
            self.backoff.failures,
            self.backoff.paused,
            self.scheduler.ready and self.backoff.may_submit(now),
        )

    def _view_of(self, block: Block, now: float) -> BlockView:
        ready = block.registered
        # The others of its managers are on their way, for a time.
        booting = now < block.running_since + self.policy.register_s
        slots = block.workers
        if booting and block.managers:
            slots = max(slots, self._slots_per_block)
        return BlockView(
            block.number,
            slots,
            ready,
            bool(block.leaving),
            now - block.idle_since if block.idle_since < math.inf else 0.0,
            now - block.pending_since if block.phase == PENDING else 0.0,
        )


def _tail(stderr: str) -> str:
    """The last words of a script, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return "; ".join(lines[-3:])[-500:]
