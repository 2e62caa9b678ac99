"""What forwarder, interchange and manager may say to each other, one tagged union per direction.

A message carries many tasks. Those that follow each other in a stream make a *run*: what they
share (stream, function, attempt) is said once, what differs is a list. Structs are arrays on the
wire: a field is only ever added at the end, with a default, so that a neighbour of the version
before still reads the rest.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fxhpc.protocol.needs import PackedNeeds, Size
from fxhpc.protocol.outcome import DEFAULT_RETRIES, Loss, Outcome
from fxhpc.protocol.payload import Index, Key, Labels, Metadata, Payload, Ranges
from fxhpc.protocol.versions import OLDEST_PROTOCOL, PROTOCOL
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT


class StreamInfo(msgspec.Struct, array_like=True, frozen=True):
    """What all tasks of a stream share. A stream belongs to one endpoint and one function."""

    stream: bytes  # 12 bytes, see `fxhpc.ids`
    endpoint: str  # the endpoint's UUID
    function: bytes  # the SHA-256 of the function's body
    function_id: str = ""
    submitter: bytes = (
        b""  # whose turn it is: streams of one submitter share one place in the queue
    )
    keep: bool = True  # stays when its client goes (run, batch_run), or ends with it (an Executor)
    group: str = ""  # the task group's UUID
    retries: int = DEFAULT_RETRIES
    result_limit: int = DEFAULT_PAYLOAD_LIMIT  # bytes of a packed result
    created: float = 0.0  # wall clock, seconds since the epoch: for display
    walltime_s: float = 0.0  # how long a task is declared to take at most; 0: nobody knows
    capture: int = 0  # bytes of a task's stdout and of its stderr that are kept; 0: none
    spill: bool = False  # results above `result_limit` go to files, and are no error
    calls: int = 0  # of each task, which is a chunk then; 0: a task is a call. See `fxhpc.ids`
    sizes: tuple[int, ...] = ()  # of its chunks: a size, how many in a row have it, ...
    needs: PackedNeeds = b""  # of each task, see `fxhpc.protocol.needs`; empty: it is ordinary
    labels: Labels = ()  # the submitter's own, to find its tasks by
    metadata: Metadata = ""  # likewise: a JSON object, or nothing
    key: Key = ""  # the submitter's idempotency key; the name is made of it, see `declared.keys`
    content: bytes = b""  # likewise: a digest of all that is submitted under it


class GivenUp(msgspec.Struct, array_like=True, frozen=True):
    """A call of a chunk that has ended its worker too often: it is made no more."""

    call: int  # its place in the chunk
    loss: bytes  # a packed `Loss`: how it ends


class Member(msgspec.Struct, array_like=True, frozen=True):
    """One node of a partition."""

    manager: str  # its name
    host: str


class Partition(msgspec.Struct, array_like=True, frozen=True):
    """Whole nodes that one attempt at a task has for itself. Its function runs on the first."""

    stream: bytes
    index: Index
    epoch: int
    attempt: int
    members: Annotated[tuple[Member, ...], msgspec.Meta(min_length=1, max_length=100_000)]


class TaskRun(msgspec.Struct, array_like=True):
    """Consecutive tasks of one stream: `payloads[i]` are the packed arguments of `first + i`."""

    stream: bytes
    first: Index
    function: bytes
    payloads: list[Payload]
    epoch: int = 0  # with `attempt`: which try at these tasks this is
    attempt: int = 0
    shared: list[bytes] = []  # SHA-256 of large arguments that they share, sent once per manager
    retries: int = DEFAULT_RETRIES
    result_limit: int = DEFAULT_PAYLOAD_LIMIT
    sent_before: bool = False  # an earlier interchange may have sent them to a manager already
    suspect: bool = False  # ran on a manager that was lost: at most one of these per manager
    walltime_s: float = 0.0  # see `StreamInfo`: not started where a block ends sooner
    capture: int = 0
    spill: bool = False  # likewise
    calls: int = 0  # likewise: of each task, which is a chunk
    given_up: list[GivenUp] = []  # of a single chunk that runs again
    needs: PackedNeeds = b""  # see `StreamInfo`
    # Of a single chunk that runs again, carefully: how calls of it ended, see
    # `fxhpc.protocol.kept`. These are not made again. None: it runs as any other.
    kept: bytes | None = None
    partition: Partition | None = None  # of a single task with several nodes: what is its own


class ResultRun(msgspec.Struct, array_like=True):
    """How tasks of one stream, all at the same attempt, ended."""

    stream: bytes
    epoch: int
    attempt: int
    outcomes: list[Outcome]
    ended: float = 0.0  # wall clock of the host that ran them, for display
    host: str = ""


class TaskRefs(msgspec.Struct, array_like=True):
    """Tasks of one stream at one attempt, named without their payloads."""

    stream: bytes
    ranges: Ranges  # first, count, first, count, ...: see `fxhpc.ids.to_ranges`
    epoch: int = 0
    attempt: int = 0


class LostTask(msgspec.Struct, array_like=True):
    """An attempt that ended without an outcome, and why."""

    stream: bytes
    index: Index
    epoch: int
    attempt: int
    loss: Loss


# --- both directions of both links --------------------------------------------------------------


class Tasks(msgspec.Struct, array_like=True, tag="tasks"):
    """Downwards: tasks to run."""

    runs: list[TaskRun]


class Body(msgspec.Struct, array_like=True, tag="body"):
    """Downwards: the bytes of a function, or of a large argument that many tasks share."""

    digest: bytes  # their SHA-256
    data: Payload


class NeedBody(msgspec.Struct, array_like=True, tag="need"):
    """Upwards: bytes that a task refers to and that are not here yet."""

    digests: list[bytes]


class NoBody(msgspec.Struct, array_like=True, tag="nobody"):
    """Downwards: the answer to a NeedBody for bytes that nobody has; what needs them must end."""

    digests: list[bytes]


class Cancel(msgspec.Struct, array_like=True, tag="cancel"):
    """Downwards: end these tasks if they have not begun; `interrupt` ends running ones too.

    Each ends as an outcome of kind CANCELLED, or is named in a Started if it runs on; also one that
    the interchange was never sent, as soon as it is known that no manager of before has it. With
    `forget` nobody wants to hear of them again: they have ended elsewhere, or their client is gone.
    """

    tasks: list[TaskRefs]  # whatever their attempt
    interrupt: bool = False
    forget: bool = False


class Started(msgspec.Struct, array_like=True, tag="started"):
    """Upwards: these run now. Sent for tasks that run for longer than a moment, and on Cancel."""

    tasks: list[TaskRefs]
    host: str = ""  # where, and which manager has them, as far as the interchange says it
    manager: str = ""


class Results(msgspec.Struct, array_like=True, tag="results"):
    """Upwards: outcomes. The sender keeps them until a ResultsStored names their number."""

    number: int  # the sender's count; a message that is sent again keeps its number
    runs: list[ResultRun]


class ResultsStored(msgspec.Struct, array_like=True, tag="stored"):
    """Downwards: these Results are durable; the sender may forget them."""

    numbers: list[int]


class Lost(msgspec.Struct, array_like=True, tag="lost"):
    """Upwards: attempts that ended without an outcome.

    From a manager, of all of them. From an interchange, of those that are tried again: so that
    whoever asks for them is told what became of them.
    """

    tasks: list[LostTask]


class Heartbeat(msgspec.Struct, array_like=True, tag="heartbeat"):
    """Either way: the sender lives."""


class Bye(msgspec.Struct, array_like=True, tag="bye"):
    """Either way: the sender ends this link on purpose."""

    reason: str = ""
    nothing_runs: bool = False  # of an interchange: its managers are gone, and their blocks too


class Reset(msgspec.Struct, array_like=True, tag="reset"):
    """Downwards: this link has lost a message, or is not known here; greet again."""


class Refuse(msgspec.Struct, array_like=True, tag="refuse"):
    """Downwards: the answer to a greeting that cannot be accepted; the sender should end."""

    reason: str


# --- manager and interchange --------------------------------------------------------------------


class Register(msgspec.Struct, array_like=True, tag="register"):
    """A manager's greeting: who it is, and what it holds already."""

    manager: str  # a random id, the same for the life of the manager's process
    endpoint: bytes  # which endpoint's work it wants: a local instance's id, or the endpoint's
    slots: int  # worker processes
    version: str
    protocol: int = PROTOCOL
    oldest_protocol: int = OLDEST_PROTOCOL
    python: str = ""
    host: str = ""
    pid: int = 0
    cores: int = 0
    memory: int = 0  # bytes
    block: str = ""
    queued: list[TaskRefs] = []  # held and not begun
    running: list[TaskRefs] = []
    unstored: list[int] = []  # numbers of Results that nobody has acknowledged; sent again next
    remaining_s: float = 0.0  # until the batch system ends its block; 0: it does not
    job: str = ""  # the batch system's id of its job
    accelerators: int = 0
    walltime_s: float = 0.0  # of its whole block
    size: Size | None = None  # of its node; None: it knows ordinary tasks alone
    labels: Labels = ()  # of its node
    lent: Partition | None = None  # the task that it is lent to; None: none


class Welcome(msgspec.Struct, array_like=True, tag="welcome"):
    """The interchange's answer to Register."""

    epoch: int
    version: str
    protocol: int = PROTOCOL
    drop: list[TaskRefs] = []  # held there, but not wanted any more: forget, or end, them
    heartbeat_s: float = 5.0


class Capacity(msgspec.Struct, array_like=True, tag="capacity"):
    """A manager's credit: how much it wants to hold, begun or not, beside finished results."""

    tasks: int
    bytes: int
    slots: int  # workers that can run something


class GiveBack(msgspec.Struct, array_like=True, tag="giveback"):
    """Interchange to manager: return up to so many tasks that have not begun, the last first."""

    count: int


class Returned(msgspec.Struct, array_like=True, tag="returned"):
    """Manager to interchange: these were not begun, and never will be here."""

    tasks: list[TaskRefs]


class Drain(msgspec.Struct, array_like=True, tag="drain"):
    """Interchange to manager: return what has not begun, finish the rest, leave."""


class Lend(msgspec.Struct, array_like=True, tag="lend"):
    """Interchange to manager: return what has not begun, and begin nothing but this task, until an
    Unlend comes. Answered by a Lent as soon as nothing runs there.
    """

    partition: Partition


class Lent(msgspec.Struct, array_like=True, tag="lent"):
    """Manager to interchange: the answer to a Lend."""

    partition: Partition


class Unlend(msgspec.Struct, array_like=True, tag="unlend"):
    """Interchange to manager: this attempt is over; end what it has left on the node, and go on."""

    partition: Partition


# --- forwarder and interchange ------------------------------------------------------------------


class Backlog(msgspec.Struct, array_like=True, tag="backlog"):
    """Forwarder to interchange: so many tasks wait beyond what the window took."""

    tasks: int
    again: bool = True  # false, if it was asked for: none of them may have been sent before


class Hello(msgspec.Struct, array_like=True, tag="hello"):
    """The forwarder's greeting to the interchange of a named endpoint."""

    epoch: int  # of the store's owner; whoever has seen a higher one refuses
    version: str
    protocol: int = PROTOCOL
    oldest_protocol: int = OLDEST_PROTOCOL


class Present(msgspec.Struct, array_like=True, tag="present"):
    """The interchange's answer to Hello: what it holds, so that the rest can be sent again."""

    endpoint: str
    epoch: int  # of the endpoint
    version: str
    protocol: int = PROTOCOL
    held: list[TaskRefs] = []  # queued here or sent to a manager
    # Whether managers may have tasks that are not in `held`: an interchange of before sent them.
    doubtful: bool = False
    # The journal lacks some of what was sent: it is to be told when all that the forwarder had sent
    # before has been sent again.
    incomplete: bool = False


class Window(msgspec.Struct, array_like=True, tag="window"):
    """Interchange to forwarder: its credit, how much it wants to hold in all."""

    tasks: int
    bytes: int


class BlockReport(msgspec.Struct):
    """One block, as people are told."""

    block: int
    job: str = ""
    state: str = ""  # submitting, pending, running, draining, cancelling, unknown
    words: str = ""  # the batch system's: "PENDING (Priority)"
    managers: int = 0
    workers: int = 0
    submitted: float = 0.0  # wall clock, seconds since the epoch; 0: not yet
    ends: float = 0.0  # wall clock: the end of its walltime; 0: it has none, or does not run yet


class FailedBlock(msgspec.Struct):
    """A block that was refused, or ended before it was of use."""

    block: int
    why: str = ""
    when: float = 0.0  # wall clock, seconds since the epoch


class ManagerReport(msgspec.Struct):
    """One manager, as people are told."""

    manager: str
    host: str
    block: str = ""
    pid: int = 0
    workers: int = 0
    idle_workers: int = 0
    cores: int = 0
    memory: int = 0  # bytes
    accelerators: int = 0
    python: str = ""
    version: str = ""
    draining: bool = False


class WaitingReport(msgspec.Struct):
    """Tasks that wait and need the same, see `fxhpc.protocol.needs`."""

    needs: PackedNeeds
    tasks: int = 0
    reason: str = ""  # a sentence; empty: they wait as all others do


class EndpointReport(msgspec.Struct):
    """All that an endpoint tells of itself; also the contents of its `status.json`."""

    managers: list[ManagerReport] = []  # of many, the first hundred
    blocks: list[BlockReport] = []
    total_cores: int = 0
    total_memory: int = 0
    paused: str = ""  # why no blocks are asked for, if none are
    scheduler: str = ""  # "Slurm"; empty: managers come by themselves
    scheduler_trouble: str = ""  # why the last command of the batch system failed, if it did
    details: dict[str, Any] = {}  # of the configuration, see `InterchangeSpec.details`
    set_aside: list[str] = []  # hosts that get no work, and why: a sentence each
    failed_blocks: list[FailedBlock] = []  # the last ones
    notices: list[str] = []  # damage, full disks, limits, messages that nobody could read
    only: Size | None = None  # of the node, where there is one manager, and never another
    labels: list[str] | None = None  # of that node
    waiting: list[WaitingReport] = []  # of tasks with needs of their own; the first 32 kinds


class Status(msgspec.Struct, array_like=True, tag="status"):
    """Interchange to forwarder: what `get_endpoint_status` shows."""

    managers: int
    workers: int
    idle_workers: int
    queued: int
    running: int
    reason: str = ""  # why nothing runs, if nothing runs
    report: EndpointReport | None = None


FromManager = (
    Register | NeedBody | Started | Results | Lost | Returned | Capacity | Lent | Heartbeat | Bye
)
ToManager = (
    Welcome
    | Refuse
    | Reset
    | Tasks
    | Body
    | NoBody
    | GiveBack
    | Cancel
    | ResultsStored
    | Drain
    | Lend
    | Unlend
    | Heartbeat
    | Bye
)
FromInterchange = (
    Present
    | NeedBody
    | Started
    | Results
    | Lost
    | Window
    | Status
    | Reset
    | Refuse
    | Heartbeat
    | Bye
)
ToInterchange = Hello | Tasks | Body | NoBody | Cancel | ResultsStored | Backlog | Heartbeat | Bye
