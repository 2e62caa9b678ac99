"""The conversation with the provisioner: what was asked, when to ask again, what answers say."""

from __future__ import annotations

import math

from fxhpc.interchange import events as ev
from fxhpc.interchange.blocks.blocks import (
    CANCELLING,
    PENDING,
    RUNNING,
    SUBMITTING,
    UNKNOWN,
    Block,
    Blocks,
)
from fxhpc.interchange.state import State
from fxhpc.protocol import provision as prov

#: Seconds after a submission until it is asked how the block is, if the interval allows.
SOON_S = 1.5

#: While all is well, it is asked every so many intervals. After failures the interval doubles, up
#: to so many.
SELDOM, LONGEST = 10, 4

#: Seconds until a cancellation that was not confirmed is asked for again, and how often that is
#: doubled unless the endpoint is to end.
CANCEL_AGAIN_S, CANCEL_DOUBLED = 10.0, 4

#: A submission whose answer was lost may take effect so long after, in seconds.
LATE_S = 10.0

#: Answers that there is no such job, in a row, until it is believed.
MISSING_TWICE = 2


class Scheduler:
    """What the batch system is asked through the provisioner.

    Attributes:
        ready: a provisioner is there, and can be asked.
        failed: why there will be none until somebody acts; else empty.
        gone: why the last one ended, until the next is ready.
        trouble: why the last command about blocks failed, if it did.
    """

    def __init__(self, state: State, blocks: Blocks, poll_s: float) -> None:
        self._state = state
        self._blocks = blocks
        self._poll_s = poll_s
        self.ready = False
        self.failed = ""
        self.gone = ""
        self.trouble = ""
        self._asking = False
        self._cancelling = False  # was asked for, and has not ended
        self._asked_at = -math.inf
        self._wanted_at = math.inf  # somebody wants to know, after this
        self._failures = 0

    # --- the provisioner itself -----------------------------------------------------------------

    def is_ready(self, scheduler: str) -> None:
        """A provisioner has begun."""
        self._blocks.scheduler = scheduler
        self.ready, self.failed, self.gone = True, "", ""
        self._asking = self._cancelling = False
        self._state.note(f"the provisioner is ready: {scheduler or 'a provider'}")
        for block in self._blocks:
            if block.phase == UNKNOWN:
                self._wanted_at = -math.inf
        # What ended while there was none is not to wait for the next command.
        known = [b for b in self._blocks if b.phase in (PENDING, RUNNING) and not b.ended]
        if known:
            self._say(prov.WatchBlocks([block.ref for block in known]))

    def has_failed(self, reason: str) -> None:
        """The provisioner cannot do anything."""
        self.ready, self.failed = False, reason
        self._state.note(f"no blocks can be asked for: {reason}", "error")

    def is_gone(self, why: str, now: float) -> None:
        """The provisioner died or was killed: what it was asked may have happened or not."""
        self.ready, self.gone = False, why
        self._cancelling = False
        if self._asking:
            self._asking, self._asked_at = False, now
        self._state.note(f"the provisioner has ended: {why}; another one is started", "warning")
        for block in self._blocks:
            if block.phase == SUBMITTING:
                self.doubt(block, now)
            if block.leaving == CANCELLING and not block.cancelled:
                block.cancel_at = now

    # --- submitting -----------------------------------------------------------------------------

    def submit(self, now: float) -> Block:
        """Ask for one more block."""
        block = self._blocks.new(now)
        self._say(prov.SubmitBlock(block.ref))
        self._state.note(f"block {block.number} is asked for, as {block.name}")
        return block

    def doubt(self, block: Block, now: float) -> None:
        """It is not known whether there is such a job."""
        block.phase, block.doubt_since, block.missing = UNKNOWN, now, 0
        self.want(now)

    def want(self, now: float) -> None:
        """Something has happened that is worth a look soon."""
        self._wanted_at = min(self._wanted_at, now + SOON_S)

    # --- asking ---------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Ask how all blocks are, if that is worth it and not too soon."""
        interval = self._poll_s * min(LONGEST, 2**self._failures)
        if not self.ready or self._asking or now < self._asked_at + interval:
            return
        blocks = [block for block in self._blocks if block.phase != SUBMITTING]
        quiet = all(block.managers and not block.leaving and not block.ended for block in blocks)
        if not blocks or (quiet and now < self._asked_at + SELDOM * self._poll_s):
            return
        if not quiet and now < self._wanted_at < math.inf:
            return
        self._asking, self._asked_at, self._wanted_at = True, now, math.inf
        self._say(prov.AskJobs([block.ref for block in blocks]))

    def answered(self, message: prov.Jobs, now: float) -> None:
        """A status command has ended."""
        failed = message.failed
        if self._asking:
            self._asking, self._asked_at = False, now  # it may have waited before it was run
        if failed:
            if failed != self.trouble:
                self._state.note(
                    f"the batch system does not say how blocks are: {failed}", "warning"
                )
            self._failures += 1
        elif self.trouble:
            self._state.note("the batch system answers again")
        if not failed:
            self._failures = 0
        self.trouble = failed

    def is_missing(self, block: Block, now: float) -> bool:
        """The batch system knows no such job; whether that is to be believed."""
        if block.managers:
            return False
        block.missing += 1
        # A command that submits it may still be under way.
        settled = bool(block.seen or block.job) or now >= block.doubt_since + LATE_S
        return settled and block.missing >= MISSING_TWICE

    # --- cancelling -----------------------------------------------------------------------------

    def cancel(self, now: float) -> None:
        """Ask for the end of all blocks that are due.

        Not while an earlier request waits behind a command that hangs: all would run at once then.
        """
        if not self.ready or self._cancelling:
            return
        due = [
            block
            for block in self._blocks
            if block.leaving == CANCELLING and block.phase != SUBMITTING and now >= block.cancel_at
        ]
        if due:
            for block in due:
                times = 0 if self._state.stopping else min(block.cancels, CANCEL_DOUBLED)
                block.cancel_at = now + CANCEL_AGAIN_S * 2**times
                block.cancels += 1
            self._cancelling = True
            self._say(prov.CancelBlocks([block.ref for block in due]))

    def cancelled(self, message: prov.CancelDone, now: float) -> None:
        """A command to cancel has ended."""
        self._cancelling = False
        for number in message.blocks:
            if block := self._blocks.get(number):
                if block.leaving != CANCELLING:
                    continue
                if not (block.job or block.seen) and now < block.doubt_since + LATE_S:
                    # It was not there to be cancelled, and may still come.
                    block.cancel_at = max(block.cancel_at, block.doubt_since + LATE_S)
                    continue
                block.cancelled = True
                block.cancel_at = math.inf
        if message.failed and message.failed != self.trouble:
            self._state.note(f"cancelling blocks has failed: {message.failed}", "warning")
        self.trouble = message.failed or self.trouble
        self.want(now)

    def _say(self, message: prov.ToProvisioner) -> None:
        self._state.actions.append(ev.ToProvisioner(message))
