"""The blocks that may exist: what is known of each, from the journal, the batch system, managers.

A block is written down before it is asked for, and crossed out when it is known that there is no
such job. In between it counts, whatever is known of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from fxhpc.interchange import events as ev
from fxhpc.interchange.blocks.walltimes import NEAR_END_S
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.protocol.provision import BlockRef, JobReport

# Where a block is, as far as it is known.
SUBMITTING = "submitting"  # asked for; no answer yet
UNKNOWN = "unknown"  # asked for, maybe in vain; or of an interchange before this one
PENDING = "pending"
RUNNING = "running"

# What is to become of it.
DRAINING = "draining"  # gets no more work
CANCELLING = "cancelling"


#: How a script ends that got SIGTERM, and what batch systems say where they know why.
_BY_SIGNAL = "exit code 143"
_CAUSES = ("CANCEL", "PREEMPT", "TIMEOUT", "TIMELIMIT", "FAIL")


class Block:
    """One block.

    Attributes:
        leaving: "", DRAINING or CANCELLING.
        why: why it is leaving.
        words: what the batch system said of it last.
        seen: the batch system has told this process that it exists.
        registered: a manager of it has registered with this process.
        counted: it has counted as failed already.
        useful: tasks have ended well there, or one of them is to blame for the end of its manager.
        managers: the names of those that are connected.
    """

    def __init__(self, ref: BlockRef, now: float, phase: str) -> None:
        self.number = ref.number
        self.name = ref.name
        self.job = ref.job
        self.made_from = ref.made_from
        self.phase = phase
        self.leaving = ""
        self.why = ""
        self.words = ""
        self.nodes = ""
        self.adopted = False
        self.seen = False
        self.registered = False
        self.counted = False
        self.useful = False
        self.refused = ""  # why a manager of it was not let in
        self.unclear = ""  # what the batch system said when it was submitted, if it was no answer
        self.managers: set[str] = set()
        self.workers = 0  # of the managers that are connected
        self.submitted = 0.0  # when the batch system took it; 0: not in this process
        self.doubt_since = now  # since when it is not known whether there is such a job
        self.missing = 0  # answers in a row that there is none
        self.pending_since = math.inf
        self.running_since = math.inf
        self.registered_at = math.inf
        self.empty_since = now  # since when no manager is connected
        self.idle_since = math.inf  # since when it has nothing to do, or nobody wants it
        self.ends = math.inf  # when its walltime is over
        # The batch system says that it has ended, and managers live still.
        self.ended: JobReport | None = None
        self.cancel_at = math.inf  # when to ask for its end, or to ask again
        self.cancels = 0  # how often that was asked for
        self.cancelled = False  # the batch system has said so

    def begin_again(self, now: float) -> None:
        """The batch system has put its job back into the queue."""
        self.registered, self.ended = False, None
        self.phase, self.pending_since, self.empty_since = PENDING, now, now
        self.running_since = self.registered_at = self.idle_since = self.ends = math.inf

    @property
    def ref(self) -> BlockRef:
        """What the provisioner is told of it."""
        return BlockRef(self.number, self.name, self.job, self.made_from)

    @property
    def waits(self) -> bool:
        """Whether it is still coming."""
        return not (self.leaving or self.registered)

    @property
    def state(self) -> str:
        """What people are told."""
        return self.leaving or self.phase


def end_words(block: Block, report: JobReport, now: float) -> str:
    """How a block has ended, in the batch system's words, or as far as its script's end tells."""
    words = report.words or "it has ended"
    is_near_end = min(now, block.empty_since) >= block.ends - NEAR_END_S
    is_told = any(word in words.upper() for word in _CAUSES)
    if _BY_SIGNAL in words and is_near_end and not is_told:
        return f"its walltime was over: {words}"
    return words


class Blocks:
    """The table of blocks, and its journal.

    Args:
        scheduler: what people call the batch system.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._blocks: dict[int, Block] = {}
        self._last = 0
        self.scheduler = ""

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(list(self._blocks.values()))

    def get(self, number: int) -> Block | None:
        """A block that may exist."""
        return self._blocks.get(number)

    def recover(self, event: ev.RecoveredBlocks, now: float) -> None:
        """Take in those of the process before."""
        self._last = max(self._last, event.last)
        for ref in event.blocks:
            self._adopt(ref, now)
        if event.blocks:
            names = ", ".join(map(self.describe, self))
            self._state.note(f"of before, these may still be there: {names}")

    def adopt_unknown(self, number: int, job: str, now: float) -> Block:
        """A manager names a block that nobody has written down."""
        block = self._adopt(BlockRef(number, self._name(number), job), now)
        self._state.actions.append(ev.BlockKnown(block.ref, True))
        return block

    def new(self, now: float) -> Block:
        """One more, written down before it is asked for."""
        self._last += 1
        ref = BlockRef(self._last, self._name(self._last), made_from=self._state.made_from)
        block = Block(ref, now, SUBMITTING)
        self._blocks[block.number] = block
        self._state.actions.append(ev.BlockKnown(block.ref, True))
        return block

    def set_job(self, block: Block, job: str) -> None:
        """The batch system's id of it is known."""
        if job and job != block.job:
            block.job = job
            self._state.actions.append(ev.BlockKnown(block.ref, True))

    def drop(self, block: Block) -> None:
        """There is no such job, or no longer."""
        del self._blocks[block.number]
        self._state.actions.append(ev.BlockKnown(block.ref, False))

    def drop_cancelled(self) -> None:
        """Nobody will ask again how these are."""
        for block in self:
            if block.cancelled:
                self.drop(block)

    def of(self, block: str) -> Block | None:
        """The block that a manager says it belongs to, if it is known."""
        return self._blocks.get(int(block)) if block.isdecimal() else None

    def describe(self, block: Block) -> str:
        """ "block 7 (Slurm job 123)"."""
        return f"block {block.number} ({self.job(block)})" if block.job else f"block {block.number}"

    def job(self, block: Block) -> str:
        """ "Slurm job 123", or "block 7" if that is all that is known."""
        if not block.job:
            return f"block {block.number}"
        return f"{self.scheduler} job {block.job}".lstrip()

    def reports(self, now: float, wall_offset_s: float) -> list[msg.BlockReport]:
        """All of them, as people are told."""
        return [
            msg.BlockReport(
                block.number,
                block.job,
                block.state,
                block.ended.words if block.ended else block.words,
                len(block.managers),
                block.workers,
                round(block.submitted + wall_offset_s, 3) if block.submitted else 0.0,
                round(block.ends + wall_offset_s, 3) if block.ends < math.inf else 0.0,
            )
            for block in self
        ]

    def _adopt(self, ref: BlockRef, now: float) -> Block:
        block = self._blocks[ref.number] = Block(ref, now, UNKNOWN)
        block.adopted = True
        self._last = max(self._last, ref.number)
        return block

    def _name(self, number: int) -> str:
        return f"fxhpc-{self._state.name or 'endpoint'}-{self._state.endpoint[:8]}-{number}"
