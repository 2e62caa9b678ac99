"""The forwarder's service interface: what a client may ask, and what it is told.

Every call carries a number that its reply repeats. Every call may be made again after a lost
reply and has its effect once: functions have ids that the client chose, submissions the numbers
of their tasks.
"""

from __future__ import annotations

import msgspec

from fxhpc.protocol.containers import Container
from fxhpc.protocol.messages import (
    Bye,
    EndpointReport,
    Heartbeat,
    Refuse,
    Reset,
    ResultRun,
    Started,
    StreamInfo,
)
from fxhpc.protocol.needs import PackedNeeds
from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.payload import Index, Key, Labels, Metadata, Payload, Ranges
from fxhpc.protocol.sizes import EndpointLimits
from fxhpc.protocol.versions import OLDEST_PROTOCOL, PROTOCOL


class FunctionRecord(msgspec.Struct, array_like=True):
    """A registered function, as the registry keeps it and a search shows it."""

    function_id: str
    digest: bytes  # SHA-256 of the body
    name: str
    source: str = ""
    description: str = ""
    author: str = ""
    public: bool = False
    searchable: bool = True
    group: str = ""
    container: str = ""  # the id of its container, which its `needs` have; empty: none
    created: float = 0.0  # wall clock, seconds since the epoch
    needs: PackedNeeds = b""  # of its tasks, where a submission says nothing else
    walltime_s: float = 0.0  # likewise; 0: nobody knows
    content: bytes = b""  # what it does, as keys compare it; b"": its body's digest tells
    wants_ranks: bool = False  # whether its tasks cannot do without


class ContainerRecord(msgspec.Struct, array_like=True):
    """A registered container, which functions may choose."""

    container_id: str
    container: Container
    name: str = ""
    description: str = ""
    author: str = ""
    created: float = 0.0  # wall clock, seconds since the epoch


class Submission(msgspec.Struct, array_like=True):
    """Consecutive tasks of one stream, to be stored: one row."""

    info: StreamInfo
    first: Index
    payloads: list[Payload]
    shared: list[bytes] = []


class TaskState(msgspec.Struct, array_like=True, gc=False):
    """What is known of one task."""

    index: Index
    status: str  # see `fxhpc.protocol.states`
    reason: str = ""  # why it is still pending, in words
    outcome: Outcome | None = None
    ended: float = 0.0
    host: str = ""  # where it runs or ran, if details were asked for
    manager: str = ""  # likewise, while it runs
    started: float = 0.0  # likewise: when its manager said so


class StreamSummary(msgspec.Struct, array_like=True):
    """A stream as lists show it: what its tasks share, and how many are in which state."""

    stream: bytes
    endpoint: str  # its UUID
    endpoint_name: str  # as people call it; its UUID if the home does not know it any more
    function_id: str  # empty for an Executor's
    created: float  # wall clock, seconds since the epoch
    counts: dict[str, int]  # by status, see `fxhpc.protocol.states`
    group: str = ""
    keep: bool = True
    reason: str = ""  # why those that have not begun are pending
    walltime_s: float = 0.0
    calls: int = 0  # of each task, if these are chunks: see `StreamInfo`
    sizes: tuple[int, ...] = ()  # likewise
    needs: PackedNeeds = b""  # see `fxhpc.protocol.needs`
    labels: Labels = ()
    metadata: Metadata = ""  # JSON, or nothing
    key: Key = ""  # see `StreamInfo`
    queued: float = 0  # wall clock: when the task was queued, if details of one were asked for


class ListedTask(msgspec.Struct, array_like=True):
    """One task in a list."""

    stream: bytes
    index: Index
    status: str


class StreamStates(msgspec.Struct, array_like=True):
    """What is known of tasks of one stream."""

    stream: bytes
    states: list[TaskState]
    created: float = 0.0  # wall clock: when the stream was opened, as its StreamInfo has it
    summary: StreamSummary | None = None  # if details were asked for


class StreamRanges(msgspec.Struct, array_like=True):
    """Tasks of one stream: first, count, first, count, ..."""

    stream: bytes
    ranges: Ranges


# --- calls --------------------------------------------------------------------------------------


class Attach(msgspec.Struct, array_like=True, tag="attach"):
    """A client's greeting; answered by Attached or Refuse."""

    client: bytes  # random, the same for the life of the client object
    local: bytes  # the id of this client's own `local` endpoint instance
    pid: int
    host: str
    started: float  # the process's start time, so that a pid used again is noticed
    version: str
    protocol: int = PROTOCOL
    oldest_protocol: int = OLDEST_PROTOCOL
    user: str = ""
    python: str = ""
    streams: list[bytes] = []  # not all their outcomes have come: push the rest, if not kept


class RegisterFunction(msgspec.Struct, array_like=True, tag="register"):
    """Store a function; answered by Done."""

    call: int
    record: FunctionRecord
    body: Payload


class RegisterContainer(msgspec.Struct, array_like=True, tag="container"):
    """Store a container; answered by Done."""

    call: int
    record: ContainerRecord


class GetContainers(msgspec.Struct, array_like=True, tag="containers"):
    """Ask for records; answered by Containers with those that exist, the newest last."""

    call: int
    container_ids: list[str] = []  # none: all


class PutBody(msgspec.Struct, array_like=True, tag="put"):
    """Store bytes that tasks refer to by their SHA-256; answered by Done."""

    call: int
    digest: bytes
    body: Payload
    shared: bool = False  # an argument: it stays while tasks refer to it, or until ForgetBodies


class ForgetBodies(msgspec.Struct, array_like=True, tag="forget"):
    """Client: before it refers to these shared arguments again, it sends them again."""

    digests: list[bytes]


class Submit(msgspec.Struct, array_like=True, tag="submit"):
    """Store tasks, all or none; answered by Done when they are durable, or by Failed.

    The results of streams whose `keep` is false are pushed to this client as they come.
    """

    call: int
    submissions: list[Submission]


class Fetch(msgspec.Struct, array_like=True, tag="fetch"):
    """Ask for states and outcomes; answered by States.

    The answer comes when `need` of the tasks have ended, or after `wait_s` seconds.
    An unknown task is answered at once, with the status "unknown".
    """

    call: int
    tasks: list[StreamRanges]
    wait_s: float = 0.0
    need: int = 0
    outcomes: bool = True  # or states alone
    adopt: bool = True  # work of a `local` that is gone is run by this client's
    details: bool = False  # hosts and summaries too
    ended: bool = False  # nothing is told of those that are pending
    begun: bool = False  # until it is answered, Started tells which of these run


class CancelTasks(msgspec.Struct, array_like=True, tag="cancel"):
    """Cancel tasks; answered by Cancelled when it is known of each what became of it."""

    call: int
    tasks: list[StreamRanges]
    interrupt: bool = False
    groups: list[str] = []  # and all tasks of these groups that are there by now


class Delivered(msgspec.Struct, array_like=True, tag="delivered"):
    """These Pushes have arrived; no answer."""

    numbers: list[int]


class GetFunctions(msgspec.Struct, array_like=True, tag="functions"):
    """Ask for records; answered by Functions with those that exist."""

    call: int
    function_ids: list[str]


class Search(msgspec.Struct, array_like=True, tag="search"):
    """Search searchable functions; answered by Functions, best first."""

    call: int
    query: str
    offset: int = 0
    limit: int = 10


class GetStatus(msgspec.Struct, array_like=True, tag="status"):
    """Ask how an endpoint is; answered by EndpointStatus, or Failed if nobody knows it."""

    call: int
    endpoint: str


class ListTasks(msgspec.Struct, array_like=True, tag="list"):
    """Which tasks are there, the newest first? Answered by TaskList."""

    call: int
    endpoint: str = ""  # of this endpoint alone
    states: list[str] = []  # in one of these alone
    limit: int = 100  # streams; with `each`, tasks
    each: bool = False  # every task, beside the streams
    prefix: bytes = b""  # of streams whose name begins so
    group: str = ""  # of this task group alone
    label: str = ""  # with this label alone
    # With `each`, those that come after this one: when its stream was made, its stream, its index.
    after: tuple[float, bytes, int] | None = None


class GroupTasks(msgspec.Struct, array_like=True, tag="group"):
    """Which tasks has a group, and which of them have ended? Answered by GroupState."""

    call: int
    group: str
    after: bytes = b""  # of the streams whose names come after this one


class GetStoreUsage(msgspec.Struct, array_like=True, tag="usage"):
    """What does the store hold? Answered by StoreUsage."""

    call: int


class PurgeTasks(msgspec.Struct, array_like=True, tag="purge"):
    """Forget batches all of whose tasks have ended; answered by Purged when the room is free."""

    call: int
    older_s: float = 0.0  # ended, and not looked at, for so long at least
    group: str = ""  # of this task group alone
    endpoint: str = ""  # of this endpoint alone, by its UUID
    pending: bool = False  # those too that have not ended: they are cancelled
    dry_run: bool = False  # tell what would go, and leave it


class Resume(msgspec.Struct, array_like=True, tag="resume"):
    """Run all older work of `local` endpoints that are gone on this client's; answered by Done."""

    call: int


# --- answers ------------------------------------------------------------------------------------


class Attached(msgspec.Struct, array_like=True, tag="attached"):
    """The forwarder's answer to Attach."""

    epoch: int
    version: str
    protocol: int
    managers: str  # the address where this client's local manager registers
    older: int = 0  # pending tasks of `local` endpoints that are gone
    notices: list[str] = []  # what a person is to be told of the store, such as damage
    limits: list[EndpointLimits] = []  # of the endpoints that have any of their own
    home: str = ""  # what tells its store from all others


class Done(msgspec.Struct, array_like=True, tag="done"):
    """It is done, and durable."""

    call: int


class Failed(msgspec.Struct, array_like=True, tag="failed"):
    """It was refused, and nothing has changed."""

    call: int
    error: str  # the name of a class of `fxhpc.errors`
    arguments: list[str]  # what that class is made with


class States(msgspec.Struct, array_like=True, tag="states"):
    """The answer to Fetch. `more` says that it was cut: ask again for what is missing."""

    call: int
    streams: list[StreamStates]
    more: bool = False


class Cancelled(msgspec.Struct, array_like=True, tag="cancelled"):
    """The answer to CancelTasks: the tasks that are cancelled now, the others are not."""

    call: int
    tasks: list[StreamRanges]
    asked: list[StreamRanges] = []  # all tasks of the groups that were named


class Functions(msgspec.Struct, array_like=True, tag="functions"):
    """The answer to GetFunctions and Search."""

    call: int
    records: list[FunctionRecord]
    total: int = 0  # matches in all


class Containers(msgspec.Struct, array_like=True, tag="containers"):
    """The answer to GetContainers."""

    call: int
    records: list[ContainerRecord]


class EndpointStatus(msgspec.Struct, array_like=True, tag="status"):
    """The answer to GetStatus."""

    call: int
    online: bool
    managers: int = 0
    workers: int = 0
    idle_workers: int = 0
    pending: int = 0  # not begun, wherever they wait
    running: int = 0
    reason: str = ""
    seen: float = 0.0  # wall clock of the last sign of life
    endpoint: str = ""  # its UUID
    name: str = ""  # as people call it
    report: EndpointReport | None = None


class TaskList(msgspec.Struct, array_like=True, tag="list"):
    """The answer to ListTasks."""

    call: int
    streams: list[StreamSummary]
    tasks: list[ListedTask] = []
    total: int = 0  # streams that match, in all


class GroupStream(msgspec.Struct, array_like=True):
    """The tasks of a group that share a stream: those from 0 on."""

    summary: StreamSummary
    count: Index
    ranges: Ranges  # of those that have ended


class GroupState(msgspec.Struct, array_like=True, tag="group"):
    """The answer to GroupTasks: its streams by their names. `more` says that others come after."""

    call: int
    tasks: list[GroupStream]
    more: bool = False


class StoreEntry(msgspec.Struct, array_like=True):
    """Batches in the store that share endpoint, function and whether all of them have ended."""

    endpoint: str
    endpoint_name: str
    function_id: str  # empty for an Executor's
    unfinished: bool
    keep: bool
    batches: int = 0
    tasks: int = 0
    pending: int = 0
    argument_bytes: int = 0
    result_bytes: int = 0
    oldest: float = 0.0  # wall clock: when the first of them was submitted


class StoreUsage(msgspec.Struct, array_like=True, tag="storeusage"):
    """The answer to GetStoreUsage: bytes, but for what is said to be something else."""

    call: int
    database: int  # its file, without what is in the log alone
    files: int  # of large payloads
    log: int
    reserve: int
    free: int  # within the database, to be used again
    bodies: int  # of these: functions and large shared arguments
    functions: int  # their number
    used: int  # what counts against max_bytes
    max_bytes: int
    retention_s: float
    entries: list[StoreEntry] = []
    aside: list[tuple[str, int]] = []  # what was damaged and set aside: paths and bytes


class Purged(msgspec.Struct, array_like=True, tag="purged"):
    """The answer to PurgeTasks."""

    call: int
    batches: int
    tasks: int
    cancelled: int  # of the tasks: those that had not ended
    freed_bytes: int = 0  # that the file system has back


class Push(msgspec.Struct, array_like=True, tag="push"):
    """Results of this client's own streams, unasked; acknowledged by Delivered."""

    number: int
    runs: list[ResultRun]


class Limits(msgspec.Struct, array_like=True, tag="limits"):
    """The endpoints that have limits of their own, unasked: these are others than before."""

    limits: list[EndpointLimits]


class Forgotten(msgspec.Struct, array_like=True, tag="forgotten"):
    """Streams that the client asked for on attaching, and that nobody knows any more."""

    streams: list[bytes]


class Notice(msgspec.Struct, array_like=True, tag="notice"):
    """What a person is to be told, unasked: that the store is nearly full."""

    text: str


class NeedLocal(msgspec.Struct, array_like=True, tag="needlocal"):
    """Work waits for this client's own `local` endpoint: start its manager if it is not there."""


FromClient = (
    Attach
    | RegisterFunction
    | RegisterContainer
    | GetContainers
    | PutBody
    | ForgetBodies
    | Submit
    | Fetch
    | CancelTasks
    | Delivered
    | GetFunctions
    | Search
    | GetStatus
    | ListTasks
    | GroupTasks
    | Resume
    | GetStoreUsage
    | PurgeTasks
    | Heartbeat
    | Bye
)
ToClient = (
    Attached
    | Refuse
    | Reset
    | Done
    | Failed
    | States
    | Cancelled
    | Functions
    | Containers
    | EndpointStatus
    | TaskList
    | GroupState
    | StoreUsage
    | Purged
    | Push
    | Started
    | NeedLocal
    | Limits
    | Notice
    | Forgotten
    | Heartbeat
    | Bye
)
