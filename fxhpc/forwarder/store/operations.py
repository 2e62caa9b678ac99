"""What the forwarder's core asks the store to write. A list of operations is done whole, or not.

No I/O here: the core makes these, `store` carries them out.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.service import ContainerRecord, FunctionRecord


class ExceptionKind(IntEnum):
    """What may be told of one task apart from the others of its row."""

    CANCELLED = 0  #: cancelled before it ran
    CRASHED = 1  #: was lost while it ran; the data is its story so far, written anew each time
    SENT = 2  #: is about to be sent, and must not be again (`retries=0`)


class AddBody(msgspec.Struct, frozen=True, gc=False):
    """Store a function's bytes, or those of a large shared argument. Once is enough."""

    digest: bytes  # their SHA-256
    data: bytes


class AddFunction(msgspec.Struct, frozen=True):
    """Register a function, or change its record if the id exists."""

    record: FunctionRecord


class AddContainer(msgspec.Struct, frozen=True):
    """Register a container. No effect if its id exists."""

    record: ContainerRecord


class AddStream(msgspec.Struct, frozen=True):
    """Make a stream known. No effect if it is."""

    info: StreamInfo
    owner: bytes = b""  # the id of the `local` instance that it belongs to, if to one


class AddSubmission(msgspec.Struct, frozen=True):
    """Store consecutive tasks of one stream in a row: at most 1,000 tasks or about 1 MB."""

    row: int  # chosen by the core, ascending
    stream: bytes
    first: int
    payloads: list[bytes]
    shared: list[bytes] = []


class AddResults(msgspec.Struct, frozen=True):
    """Store outcomes of one stream in a row: at most 1,000 tasks or about 1 MB."""

    row: int  # chosen by the core, ascending, apart from those of submissions
    stream: bytes
    indices: list[int]  # ranges of the outcomes' indices: see `fxhpc.ids.to_ranges`
    outcomes: list[Outcome]
    ended: float = 0.0
    host: str = ""
    kinds: dict[int, list[int]] = {}  # which ended otherwise than by a value: ranges by OutcomeKind


class AddException(msgspec.Struct, frozen=True, gc=False):
    """Store what holds for one task alone. Replaces what was stored of the same kind."""

    stream: bytes
    index: int
    kind: int  # an ExceptionKind
    data: bytes = b""


class DropExceptions(msgspec.Struct, frozen=True):
    """Forget what was stored for single tasks, of every kind: they have ended."""

    stream: bytes
    ranges: list[int]


class SetStreamOwner(msgspec.Struct, frozen=True, gc=False):
    """Give a stream to another `local` instance."""

    stream: bytes
    owner: bytes


class DropSubmissions(msgspec.Struct, frozen=True):
    """Forget rows of submissions: all their tasks have ended."""

    rows: list[int]


class DropResults(msgspec.Struct, frozen=True):
    """Forget rows of results: they were delivered to whom they were for."""

    rows: list[int]


class DropStream(msgspec.Struct, frozen=True, gc=False):
    """Forget a stream with everything of it: any number of rows."""

    stream: bytes


class ForgetStream(msgspec.Struct, frozen=True, gc=False):
    """Forget a stream, but for its rows, which are dropped a few at a time after it."""

    stream: bytes


class SetStreamLooked(msgspec.Struct, frozen=True, gc=False):
    """Somebody has asked for outcomes of a stream: its retention begins anew."""

    stream: bytes
    at: float  # wall clock


class DropBodies(msgspec.Struct, frozen=True):
    """Forget bytes that nothing refers to any more."""

    digests: list[bytes]


Operation = (
    AddBody
    | AddFunction
    | AddContainer
    | AddStream
    | AddSubmission
    | AddResults
    | AddException
    | DropExceptions
    | SetStreamOwner
    | DropSubmissions
    | DropResults
    | DropStream
    | ForgetStream
    | SetStreamLooked
    | DropBodies
)
