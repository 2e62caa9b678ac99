"""What happens to a manager, and what it can do about it: the vocabulary of its core."""

from __future__ import annotations

import msgspec

from fxhpc.manager.resources.nearing import Over
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.needs import UNIT, Cell, Lease, Size
from fxhpc.protocol.outcome import Output

# --- events -------------------------------------------------------------------------------------


class Said(msgspec.Struct, frozen=True):
    """The interchange has sent this."""

    message: msg.ToManager


class LinkOpened(msgspec.Struct, frozen=True):
    """There is a way to the interchange; it has to be greeted."""


class LinkLost(msgspec.Struct, frozen=True):
    """The interchange cannot be heard any more."""


class WorkerStarted(msgspec.Struct, frozen=True):
    """The seed has made a worker."""

    worker: int
    pid: int


class WorkerSaid(msgspec.Struct, frozen=True):
    """A worker has sent outcomes, or these were found in its page."""

    worker: int
    batch: pool.Batch


class WorkerGone(msgspec.Struct, frozen=True):
    """A worker is dead, and all that it sent has been read."""

    worker: int
    begun: int  # the page's word
    signal: int = 0
    exit_code: int = -1
    peak_memory: int = 0  # bytes
    stderr: str = ""  # the last lines that it wrote
    printed: Output | None = None  # by the task that it was at, if output of tasks is wanted
    seed_lost: bool = False  # it was ended because its seed died
    oom: str = ""  # what shows that the kernel killed it because memory ran out
    undead: bool = False  # it was killed, and its process is there nevertheless
    call: int = -1  # the page's word: of a chunk, the place of the call that it was at
    kept: bytes = b""  # how calls of that had ended, see `fxhpc.protocol.kept`
    over: Over | None = None  # the kernel has killed it, or what it had started, at its limit

    def silent(self) -> WorkerGone:
        """The same without what belongs to the task alone that it was at."""
        return msgspec.structs.replace(self, printed=None, kept=b"")


class MemoryExceeded(msgspec.Struct, frozen=True):
    """A worker uses more memory than its lease has. All pages were looked at just before."""

    over: Over


class Looked(msgspec.Struct, frozen=True):
    """What stands in the pages: for each worker, how many places it has begun.

    Of those that the core has asked for (`Manager.calling`): at which call of a chunk each is.
    """

    begun: dict[int, int]
    calls: dict[int, int] = {}  # -1: at none


class Turn(msgspec.Struct, frozen=True):
    """All that had come in has been told; now is the time to send."""


class DrainAsked(msgspec.Struct, frozen=True):
    """Whoever started the manager wants the node back when running tasks have ended."""


class Ended(msgspec.Struct, frozen=True):
    """The process was asked to end, or whom it worked for is gone."""

    reason: str
    signalled: bool = False  # by a signal, as batch systems do at the end of a job
    # Of workers that live still, those that have kept how calls ended, and what they printed.
    left: dict[int, WorkerGone] = {}


Event = (
    Said
    | LinkOpened
    | LinkLost
    | WorkerStarted
    | WorkerSaid
    | WorkerGone
    | Looked
    | MemoryExceeded
    | Turn
    | DrainAsked
    | Ended
)

# --- actions ------------------------------------------------------------------------------------


class Greet(msgspec.Struct, frozen=True):
    """Open the link with this."""

    message: msg.Register


class Say(msgspec.Struct, frozen=True):
    """Send this to the interchange."""

    message: msg.FromManager


class StartWorker(msgspec.Struct, frozen=True):
    """Have a worker made, for what a cell of the node has; or for a lease, and for tasks that need
    just this.
    """

    worker: int
    cell: int = 0
    lease: Lease | None = None
    needs: bytes = b""
    hosts: tuple[str, ...] = ()  # of a task over several nodes: all of them, this one first


class ToWorker(msgspec.Struct, frozen=True):
    """Send this to a worker."""

    worker: int
    message: pool.ToWorker
    payload_bytes: int = 0  # of the tasks' arguments in it


class KeepBody(msgspec.Struct, frozen=True):
    """Have these bytes, for workers: a `pool.Bytes` of their SHA-256 gives them to one."""

    digest: bytes
    data: bytes


class DropBodies(msgspec.Struct, frozen=True):
    """Forget bytes that are kept."""

    digests: list[bytes]


class Skip(msgspec.Struct, frozen=True):
    """Write into a worker's page which places it shall not begin."""

    worker: int
    begin: int
    end: int


class ReadPage(msgspec.Struct, frozen=True):
    """Read the outcomes in the page of a worker that has been busy with one task for long."""

    worker: int


class KillWorker(msgspec.Struct, frozen=True):
    """End a worker, and all that it has started."""

    worker: int
    show_where: bool = False  # it is to write first where in its code it is


class EndMarked(msgspec.Struct, frozen=True):
    """End all that a task has started on this node, in whose environment its id stands."""

    task: str


class Keep(msgspec.Struct, frozen=True):
    """Leave these in a file, where the interchange looks: nobody is known to have stored them."""

    batch: list[msg.Results]


class Leave(msgspec.Struct, frozen=True):
    """End the process, its workers first."""

    reason: str
    failed: bool = False
    alone: bool = False  # because nobody was to be reached


Action = (
    Greet
    | Say
    | StartWorker
    | ToWorker
    | KeepBody
    | DropBodies
    | Skip
    | ReadPage
    | KillWorker
    | EndMarked
    | Keep
    | Leave
)


# --- what the core is made with -----------------------------------------------------------------


class Host(msgspec.Struct, frozen=True):
    """What the manager says of itself when it registers."""

    manager: str
    endpoint: bytes
    slots: int
    host: str = ""
    pid: int = 0
    python: str = ""
    cores: int = 0
    memory: int = 0
    block: str = ""
    job: str = ""  # the batch system's id of the job
    accelerators: int = 0
    walltime_s: float = 0.0  # of the job; 0: it has none
    ends: float = 0.0  # when the batch system ends the job, by the clock of `now`; 0: it does not
    alone_s: float = 600.0
    wall_offset_s: float = 0.0  # wall clock minus the clock of `now`, for display alone
    keeps: bool = False  # results can be left in a file
    size: Size | None = None  # what there is for tasks; None: a core for each worker
    labels: tuple[str, ...] = ()  # of its node
    most_sized: int = 1000  # workers that can be had beside the ordinary ones

    @property
    def room(self) -> Size:
        """What there is for tasks."""
        return self.size or Size((Cell(UNIT),) * self.slots)
