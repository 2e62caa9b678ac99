"""What can happen to a forwarder, and what it can want done. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from fxhpc.forwarder.store.operations import Operation
from fxhpc.protocol import messages, service
from fxhpc.protocol.sizes import SizeLimits


class ClientSaid(msgspec.Struct, frozen=True):
    """A client's message. `peer` is its connection; a client that comes back has a new one."""

    peer: bytes
    message: service.FromClient


class ClientGone(msgspec.Struct, frozen=True):
    """A client's connection is over: its process ended, or it said goodbye."""

    peer: bytes


class LocalExpected(msgspec.Struct, frozen=True):
    """After a restart: the process of this `local` instance lives, and will attach again."""

    instance: bytes


class LocalGone(msgspec.Struct, frozen=True):
    """The process of a `local` instance that was expected has ended."""

    instance: bytes


class LocalClosed(msgspec.Struct, frozen=True):
    """A `local` instance is over: its process and its managers have ended."""

    instance: bytes


class EndpointKnown(msgspec.Struct, frozen=True):
    """A named endpoint of this home."""

    endpoint: str  # its UUID
    name: str = ""


class EndpointTold(msgspec.Struct, frozen=True):
    """What a named endpoint's directory says of it. Told when it has changed."""

    key: bytes
    away: str  # why its interchange is away, and what to do; a sentence without its full stop
    seen: float = 0.0  # wall clock: when it was alive last; 0: never, as far as is known
    longest_s: float = 0.0  # of its longest block; 0: no limit, or nobody knows
    deleted: bool = False
    limits: SizeLimits = SizeLimits()


class InterchangeUp(msgspec.Struct, frozen=True):
    """The interchange of an endpoint can be spoken to, for the first time or again."""

    key: bytes


class InterchangeGone(msgspec.Struct, frozen=True):
    """The interchange of an endpoint is away."""

    key: bytes
    nothing_runs: bool = False  # it has said that nothing of it runs any more


class InterchangeSaid(msgspec.Struct, frozen=True):
    """An interchange's message."""

    key: bytes
    message: messages.FromInterchange


class Stored(msgspec.Struct, frozen=True):
    """The store has done what a Store action asked for, or has refused it as a whole."""

    token: int
    error: Exception | None = None


class Loaded(msgspec.Struct, frozen=True):
    """The answer to a Load action."""

    token: int
    value: Any
    error: Exception | None = None


class EndOfTurn(msgspec.Struct, frozen=True):
    """All that had come in is handled: what was gathered can go out."""


class StoreLimits(msgspec.Struct, frozen=True):
    """What the store may hold, and for how long: at first, and when it has been changed."""

    max_bytes: int
    retention_s: float
    groups: Mapping[str, float] = {}  # how long the results of some task groups are kept instead


class Begun(msgspec.Struct, frozen=True):
    """What the wall clock says as this forwarder begins, before anybody asks for anything."""

    wall: float


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""

    wall: float = 0.0  # the wall clock; 0: nobody knows it


class ToClient(msgspec.Struct, frozen=True):
    """Send this to a client."""

    peer: bytes
    message: service.ToClient


class ToInterchange(msgspec.Struct, frozen=True):
    """Send this to the interchange of an endpoint."""

    key: bytes
    message: messages.ToInterchange


class Store(msgspec.Struct, frozen=True):
    """Commit these, all or none, and answer with Stored."""

    token: int
    operations: list[Operation]


class Load(msgspec.Struct, frozen=True):
    """Call this reading method of the store, and answer with Loaded."""

    token: int
    method: str
    arguments: tuple[Any, ...]


class OpenLocal(msgspec.Struct, frozen=True):
    """Host an interchange for a client's `local` instance, if it is not hosted; InterchangeUp."""

    instance: bytes


class CloseLocal(msgspec.Struct, frozen=True):
    """End a `local` instance: its managers, then its interchange; answer with LocalClosed."""

    instance: bytes


class DropClient(msgspec.Struct, frozen=True):
    """Forget a client's connection."""

    peer: bytes


Event: TypeAlias = (
    ClientSaid
    | ClientGone
    | LocalExpected
    | LocalGone
    | LocalClosed
    | EndpointKnown
    | EndpointTold
    | InterchangeUp
    | InterchangeGone
    | InterchangeSaid
    | Stored
    | Loaded
    | EndOfTurn
    | StoreLimits
    | Begun
    | Tick
)
Action: TypeAlias = ToClient | ToInterchange | Store | Load | OpenLocal | CloseLocal | DropClient
