"""What manager, seed and worker say to each other, and what the page says that two of them share.

Whoever starts a manager writes a `ManagerSpec` to its standard input. The manager and its seed
speak over one socket pair, the manager and each worker over another and a few shared kilobytes,
the *page*. All numbers of tasks here are *places*: a worker counts the tasks that it was ever
given, from 0.

The page (see `docs/decisions/0020-the-workers-page.md`) says:

* ``BEGUN``: the worker began the task before this place. It is written before the task's code or
  arguments are touched, so that a death charges that task alone;
* ``SKIP_FROM`` and ``SKIP_TO``: the worker does not begin the places between them. So the manager
  takes back work that the worker has received already;
* ``PRINTED_OUT`` and ``PRINTED_ERR``: where in the files of its output begins what the task that it
  is at prints, if that is asked for. So the manager has the last words of one that is killed;
* ``CALL``: of a chunk, the place of the call that the worker is at, so that a death charges that
  call alone;
* the batch: outcomes that the worker has not sent yet. So the manager can read in the page what a
  killed or a busy worker did not come to send.

In a file of its own, which may be cut, lies what a worker keeps of the calls of a chunk that runs
again: see `fxhpc.protocol.kept`. The page's cannot: its manager would die of that.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from fxhpc.protocol.messages import GivenUp
from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.payload import Payload
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

# --- starting a manager -------------------------------------------------------------------------

#: Paths and the like: bytes where they are not UTF-8, which a file system does not mind.
if TYPE_CHECKING:
    OsText = str | bytes
else:
    OsText = Any  # msgspec knows no such union


class ManagerSpec(msgspec.Struct, kw_only=True):
    """All that a manager is told: msgpack on its standard input, up to the end of it; or JSON in
    the file that is its argument, on a node of a batch system.

    Exactly one of `address` and `address_file` is needed; the file is read again whenever the
    interchange was lost. Its first line holds the addresses, separated by spaces, of which the
    first that answers is taken; its second, for tcp, the interchange's public key.
    """

    endpoint: bytes  # which endpoint's work it wants, see `messages.Register`
    workers: int
    address: str = ""
    address_file: str = ""
    server_key: str = ""  # the interchange's public CURVE key, where `address` is tcp
    key_file: str = ""  # the manager's own key pair
    manager: str = ""  # its id; it makes a random one if there is none
    block: str = ""
    cwd: OsText = ""  # of the tasks; empty: the manager's own
    sys_path: list[OsText] = []  # of the tasks; empty: the manager's own
    environ: dict[str, OsText | None] = {}  # changes for the tasks; None removes a variable
    watch_pid: int = 0  # the manager ends when this process does; 0: nobody is watched
    watch_started: float = 0.0  # its start as `hosts.start_time` has it; 0: not compared
    own_cores: bool = False  # of its batch job, if it has one: no other manager is on these
    nice: int = 0  # added to the workers' niceness
    alone_s: float = 600.0  # how long it stays without an interchange
    log_file: str = ""  # empty: standard error
    remove: str = ""  # a directory of the watched process, removed if that has left it behind
    ready_fd: int = -1  # a pipe: b"1" is written at the first Welcome, then it is closed
    # On a node of a batch system, where `workers` is 0 and is found out there:
    max_workers: int = 0  # 0: as many as the node allows
    cores_per_worker: float = 1.0
    memory_per_worker: int = 0  # bytes; 0: memory limits nothing
    affinity: str = ""  # cpu_affinity: none, block, block-reverse, ...; empty: auto
    accelerators: list[str] = []  # one, or several joined by commas, for each worker
    walltime_s: float = 0.0  # of the block; 0: none
    log_dir: str = ""  # a file of its own is made there, if there is no `log_file`
    log_bytes: int = 10 * 2**20
    worker_logs: bool = False  # what each worker prints goes to a file of its own there
    sandbox: str = ""  # run_in_sandbox: the directory where each task gets one of its own
    address_probe_s: float = 3.0  # how long one address may take to answer
    preload: list[str] = []  # modules that the seed imports, before it forks workers
    spill: OsText = ""  # the directory where large results go, see `StreamInfo.spill`; empty: none
    # Workers see no accelerators; tasks that ask for some get them.
    accelerators_on_request: bool = False
    labels: list[str] = []  # of its node: tasks may ask for some
    mpi_launcher: str = ""  # what starts ranks of tasks; empty: what is there
    mpi_type: str = ""  # for srun's --mpi; empty: Slurm's own choice
    # Of the containers that functions may have: images, as shells match names; and more options
    # for the command of each kind, as words for a shell.
    container_images: tuple[str, ...] = ("*",)
    container_options: dict[str, str] = {}


class SeedSpec(msgspec.Struct, array_like=True):
    """The manager's first message to a seed: what all its workers have in common."""

    cwd: OsText
    sys_path: list[OsText]
    environ: dict[str, OsText | None]
    nice: int = 0
    task_variables: bool = False  # each task finds its id in FXHPC_TASK_ID and GC_TASK_UUID
    sandbox: OsText = ""  # see `ManagerSpec`
    preload: list[str] = []  # likewise
    spill: OsText = ""  # likewise


# --- manager and seed ---------------------------------------------------------------------------


class Fork(msgspec.Struct, array_like=True, tag="fork"):
    """Make a worker. With it come its end of the socket pair, its page, the file for what it keeps
    of calls, its output, and two files for what tasks print, if that is asked for: these are only
    written at their ends.
    """

    worker: int
    cores: list[int] = []  # to pin it to; empty: wherever the seed may run
    environ: dict[str, str] = {}  # of this worker alone: its devices, its threads
    without: list[str] = []  # variables that it is not to have


class Kill(msgspec.Struct, array_like=True, tag="kill"):
    """End a worker by SIGKILL, and all its descendants."""

    worker: int
    show_where: bool = False  # it is first made to write where it is: to its standard error


class Forked(msgspec.Struct, array_like=True, tag="forked"):
    """The worker exists."""

    worker: int
    pid: int


class Exited(msgspec.Struct, array_like=True, tag="exited"):
    """The worker is gone, and its descendants with it."""

    worker: int
    pid: int
    status: int  # as wait(2) has it; see os.waitstatus_to_exitcode
    peak_memory: int  # bytes


ToSeed = Fork | Kill
FromSeed = Forked | Exited


# --- manager and worker -------------------------------------------------------------------------


class WorkRun(msgspec.Struct, array_like=True):
    """Consecutive tasks of one stream: `payloads[i]` are the arguments of the task `first + i`."""

    stream: bytes
    first: int
    function: bytes
    payloads: list[Payload]
    shared: list[bytes] = []
    result_limit: int = DEFAULT_PAYLOAD_LIMIT
    capture: int = 0  # bytes of what each task prints, of stdout and of stderr
    spill: bool = False  # see `StreamInfo`
    calls: int = 0  # see `TaskRun`
    given_up: list[GivenUp] = []  # likewise
    kept: bytes | None = None  # likewise


class Work(msgspec.Struct, array_like=True, tag="work"):
    """Tasks to run, in this order; the first of them has this place."""

    place: int
    runs: list[WorkRun]


class Bytes(msgspec.Struct, array_like=True, tag="bytes"):
    """The body of a function or of a shared argument. It comes before the work that needs it."""

    digest: bytes
    data: bytes = b""
    size: int = 0  # of the file that they are, if its descriptor comes with the message


class Forget(msgspec.Struct, array_like=True, tag="forget"):
    """These bodies are not needed for now."""

    digests: list[bytes]


class Stop(msgspec.Struct, array_like=True, tag="stop"):
    """There will be no more work."""


ToWorker = Work | Bytes | Forget | Stop

#: Messages up to this size go through the socket; larger ones lie in a file of their own whose
#: descriptor goes instead, so that none is ever larger than a socket's buffer.
INLINE_BYTES = 64 * 1024

#: What a message that lies in a file looks like in the socket: a byte that msgpack never begins
#: with, and how many bytes of the file it is. The file may have been used before.
IN_FILE = struct.Struct("<BQ")
IN_FILE_MARK = 0xC1

#: The most that can be asked for of what a task prints, in bytes of each of stdout and stderr.
CAPTURE_BYTES = 1 << 20

#: Files up to this size are used again: new memory costs more than writing to it.
REUSED_BYTES = 16 * 2**20
REUSED_FILES = 4

#: Where a message does not go through the socket as it is, in a file or on a stream, this comes
#: first: how long the message is. What is left after it are the payloads that were detached.
SIZE = struct.Struct("<I")

#: Payloads above this size are not copied into their message, but put behind it.
DETACHED_BYTES = 16 * 1024


def detach_payloads(work: Work) -> tuple[Work, list[bytes]]:
    """The message with their sizes in the places of large payloads, and these payloads."""
    detached: list[bytes] = []
    runs: list[WorkRun] = []
    for run in work.runs:
        payloads: list[Any] = []
        for payload in run.payloads:
            if len(payload) > DETACHED_BYTES:
                payloads.append(len(payload))
                detached.append(payload)
            else:
                payloads.append(payload)
        runs.append(msgspec.structs.replace(run, payloads=payloads))
    return Work(work.place, runs), detached


def attach_payloads(work: Work, rest: memoryview) -> None:
    """Put views of the detached payloads, which lie one behind the other, in their places."""
    begin = 0
    for run in work.runs:
        payloads: list[Any] = run.payloads
        for position, payload in enumerate(payloads):
            if type(payload) is int:
                payloads[position] = rest[begin : begin + payload]
                begin += payload


# --- the page -----------------------------------------------------------------------------------

#: Its words, 64 bits each in the machine's order. `HELD` says how many outcomes the batch holds
#: (upper 32 bits) in how many bytes (lower 32), `HELD_FROM` the place of the first. `READ_BY_...`
#: say how many messages that lay in files the worker and the manager have read.
BEGUN, SKIP_FROM, SKIP_TO, HELD, HELD_FROM, READ_BY_WORKER, READ_BY_MANAGER = range(7)
PRINTED_OUT, PRINTED_ERR, CALL = 7, 8, 9
#: In `CALL`, while the worker is at none.
NO_CALL = 2**64 - 1
WORD_BYTES = 80  # room for all of them
PAGE_BYTES = INLINE_BYTES

#: A batch as it is sent begins with the place of its first task, the seconds that it took, and
#: the header of a msgpack array; so from `ARRAY` on it decodes as a list of outcomes.
BATCH_HEAD = struct.Struct(">QdBI")
ARRAY = 16
ARRAY_32 = 0xDD

#: Where in the page the outcomes of a batch lie, and how many bytes of them fit in.
OUTCOMES = WORD_BYTES + BATCH_HEAD.size
OUTCOMES_BYTES = PAGE_BYTES - OUTCOMES

_outcomes = msgspec.msgpack.Decoder(list[Outcome])


class Batch(msgspec.Struct):
    """Outcomes of tasks at consecutive places."""

    place: int  # of the first; or, if there are none, the place that the worker has come to
    spent_s: float  # from the beginning of the first task to the end of the last; 0 if not known
    outcomes: list[Outcome]


def decode_batch(data: memoryview, rest: memoryview) -> Batch:
    """The batch that a worker sent; the data of a large outcome is what lies behind it.

    Raises:
        msgspec.DecodeError, struct.error: it is none.
    """
    place, spent_s, _, count = BATCH_HEAD.unpack_from(data)
    outcomes = _outcomes.decode(data[ARRAY:]) if count else []
    if rest:
        for outcome in outcomes:
            if not isinstance(outcome.data, bytes):
                outcome.data = bytes(rest)
    return Batch(place, spent_s, outcomes)


def held_batch(page: memoryview, words: memoryview) -> Batch:
    """The batch that lies in the page of a worker that is dead, or busy at the same task.

    Raises:
        msgspec.DecodeError: the worker was writing it at this moment.
    """
    count, size = divmod(words[HELD], 2**32)
    place = words[HELD_FROM]
    if not count:
        return Batch(place, 0.0, [])
    array = b"\xdd" + count.to_bytes(4, "big") + page[OUTCOMES : OUTCOMES + size]
    return Batch(place, 0.0, _outcomes.decode(array))
