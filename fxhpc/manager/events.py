"""What happens to a manager, and what it can do about it: the vocabulary of its core."""

from __future__ import annotations

from dataclasses import dataclass

from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.outcome import Output

# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """The interchange has sent this."""

    message: msg.ToManager


@dataclass(frozen=True)
class LinkOpened:
    """There is a way to the interchange; it has to be greeted."""


@dataclass(frozen=True)
class LinkLost:
    """The interchange cannot be heard any more."""


@dataclass(frozen=True)
class WorkerStarted:
    """The seed has made a worker."""

    worker: int
    pid: int


@dataclass(frozen=True)
class WorkerSaid:
    """A worker has sent outcomes, or these were found in its page."""

    worker: int
    batch: pool.Batch


@dataclass(frozen=True)
class WorkerGone:
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


@dataclass(frozen=True)
class Looked:
    """What stands in the pages: for each worker, how many places it has begun."""

    begun: dict[int, int]


@dataclass(frozen=True)
class Turn:
    """All that had come in has been told; now is the time to send."""


@dataclass(frozen=True)
class DrainAsked:
    """Whoever started the manager wants the node back when running tasks have ended."""


@dataclass(frozen=True)
class Ended:
    """The process was asked to end, or whom it worked for is gone."""

    reason: str
    signalled: bool = False  # by a signal, as batch systems do at the end of a job


Event = (
    Said
    | LinkOpened
    | LinkLost
    | WorkerStarted
    | WorkerSaid
    | WorkerGone
    | Looked
    | Turn
    | DrainAsked
    | Ended
)

# --- actions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Greet:
    """Open the link with this."""

    message: msg.Register


@dataclass(frozen=True)
class Say:
    """Send this to the interchange."""

    message: msg.FromManager


@dataclass(frozen=True)
class StartWorker:
    """Have a worker made."""

    worker: int


@dataclass(frozen=True)
class ToWorker:
    """Send this to a worker."""

    worker: int
    message: pool.ToWorker
    payload_bytes: int = 0  # of the tasks' arguments in it


@dataclass(frozen=True)
class KeepBody:
    """Have these bytes, for workers: a `pool.Bytes` of their SHA-256 gives them to one."""

    digest: bytes
    data: bytes


@dataclass(frozen=True)
class DropBodies:
    """Forget bytes that are kept."""

    digests: list[bytes]


@dataclass(frozen=True)
class Skip:
    """Write into a worker's page which places it shall not begin."""

    worker: int
    begin: int
    end: int


@dataclass(frozen=True)
class ReadPage:
    """Read the outcomes in the page of a worker that has been busy with one task for long."""

    worker: int


@dataclass(frozen=True)
class KillWorker:
    """End a worker, and all that it has started."""

    worker: int
    show_where: bool = False  # it is to write first where in its code it is


@dataclass(frozen=True)
class Keep:
    """Leave these in a file, where the interchange looks: nobody is known to have stored them."""

    batch: list[msg.Results]


@dataclass(frozen=True)
class Leave:
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
    | Keep
    | Leave
)


# --- what the core is made with -----------------------------------------------------------------


@dataclass(frozen=True)
class Host:
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
