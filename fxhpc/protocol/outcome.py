"""How a task can end, and how often what was lost is tried again. The closed set of outcomes."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fxhpc.protocol.payload import Index, Payload


class OutcomeKind(IntEnum):
    """The ways a task ends. A closed set: whoever adds one raises the protocol's number."""

    VALUE = 0  #: the function returned; the data is the packed result
    ERROR = 1  #: the function raised; the data is the packed exception
    LOST = 2  #: the task was lost for good; the data is a packed `Loss`
    CANCELLED = 3  #: somebody cancelled it; no data


#: The same as plain ints, for where each of very many outcomes is looked at: to look up a member
#: of an enum takes longer (Python 3.11: 0.2 us) than all else that is done there.
VALUE, ERROR, LOST, CANCELLED = map(int, OutcomeKind)


class Outcome(msgspec.Struct, array_like=True, gc=False):
    """How the task with this index of a run's stream ended."""

    index: Index
    kind: int  # an OutcomeKind; a plain int because it is read a hundred thousand times a second
    data: Payload = b""
    ran: float = 0.0  # seconds that the function ran, as the worker measured them
    output: bytes = b""  # a packed `Output`, if there is anything to tell


def size_of(outcomes: list[Outcome]) -> int:
    """Bytes of what these hold, and of what their tasks have printed."""
    size = sum(map(len, [outcome.data for outcome in outcomes]))
    return size + sum([len(outcome.output) for outcome in outcomes if outcome.output])


class Output(msgspec.Struct, array_like=True):
    """What is told of a task beside how it ended.

    What it printed, if that was asked for: the last bytes of it, and how many there were in all.
    What it used, if it ran for a moment. What became of it before, if it was lost before.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    started: float = 0.0  # wall clock of its host; 0: not known, nor the next four
    cpu_s: float = 0.0  # of it and of the children that it waited for
    peak_memory: int = 0  # bytes: the largest resident size of its worker while it ran
    pid: int = 0  # of its worker
    versions: str = ""  # of Python, of fxhpc and of dill, where it ran
    lost: int = 0  # attempts at it that were lost before this one; the forwarder says so
    attempts: list[str] = []  # what became of the last of these, a sentence each


class LossCause(IntEnum):
    """Why a task was lost, and with it whether it is tried again."""

    WORKER_KILLED = 0  #: the worker died of a signal while it ran the task: counts, tried again
    WORKER_EXITED = 1  #: the task's own code ended the worker (`os._exit`): its outcome, final
    MANAGER_LOST = 2  #: its manager (a node, or the seed) was lost: charges nobody, tried again
    UNDELIVERED = 3  #: it was lost on the way and never began: charges nobody, tried again
    WORKER_UNSTARTABLE = 4  #: workers die before they can begin anything: final, with the reason
    INTERRUPTED = 5  #: it was ended on purpose (a stop, a drain): charges nobody, tried again
    WALLTIME = 6  #: its block came to its end: charges nobody; tried again, but not for ever
    TASK_WALLTIME = 7  #: it ran for longer than it was declared to, and was ended: final
    TASK_MEMORY = 8  #: it took more memory than it was declared to, and was ended: final
    UNFIT = 9  #: no node of its endpoint can ever have what it needs: final


class Loss(msgspec.Struct, array_like=True):
    """One attempt that was lost, told so that a person can act on it."""

    cause: int  # a LossCause
    text: str  # one sentence: what happened
    host: str = ""
    pid: int = 0
    signal: int = 0  # the signal that ended the worker, or 0
    exit_code: int = -1  # the code that the worker exited with, or -1
    peak_memory: int = 0  # bytes: the largest resident size that the worker had
    stderr: str = ""  # the last lines that the worker wrote
    attempts: list[str] = []  # the stories of earlier attempts, a sentence each
    ran_s: float = 0.0  # how long it had run
    block_s: float = 0.0  # of WALLTIME: how long its block was
    oom: str = ""  # if it was probably killed because memory ran out: one sentence, what shows it
    limit_s: float = 0.0  # of TASK_WALLTIME: how long it was declared to take at most
    output: bytes = b""  # a packed `Output`, if it was asked for: goes over to the outcome
    then: str = ""  # of one that is tried again: where, and why there, if not as any other
    counted: int = 0  # of a final one: how many of all its losses count against its retries
    retries: int = 0  # likewise: and how many it had
    alone: int = 0  # likewise: how many managers were lost that it had for itself
    call: int = -1  # of a chunk: the place of the call that it was at, if that is known
    limit_bytes: int = 0  # of TASK_MEMORY: how much it was declared to take at most
    kept: bytes = b""  # of a chunk: how calls of it had ended; it goes over to the next attempt


#: Unexplained deaths that a task may survive before it is given up: it runs 1 + 2 times at most.
DEFAULT_RETRIES = 2

_CHARGED = frozenset({LossCause.WORKER_KILLED})
_FINAL = frozenset(
    {
        LossCause.WORKER_EXITED,
        LossCause.WORKER_UNSTARTABLE,
        LossCause.TASK_WALLTIME,
        LossCause.TASK_MEMORY,
        LossCause.UNFIT,
    }
)


def is_charged(cause: int) -> bool:
    """Whether a loss of this cause counts against the task's retries."""
    return cause in _CHARGED


def is_final(cause: int, charged: int, retries: int) -> bool:
    """Whether a task ends as lost, after `charged` deaths that count and one loss of this cause.

    With `retries=0` a task that may have begun is never run again, whatever lost it.
    """
    if cause in _FINAL:
        return True
    if retries == 0:
        return cause != LossCause.UNDELIVERED
    return charged > retries


pack_loss = msgspec.msgpack.Encoder().encode
_loss_decoder = msgspec.msgpack.Decoder(Loss)


def unpack_loss(data: bytes) -> Loss:
    """The loss that an outcome of kind LOST carries."""
    return _loss_decoder.decode(data)
