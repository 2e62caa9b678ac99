"""What can happen to an interchange, and what it can want done. No I/O."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from fxhpc.protocol import messages, provision


class ManagerSaid(msgspec.Struct, frozen=True):
    """A manager's message. `peer` is its connection; a manager that comes back has a new one."""

    peer: bytes
    message: messages.FromManager


class ManagerGone(msgspec.Struct, frozen=True):
    """A manager's process has ended, or its connection is closed for good."""

    peer: bytes
    why: str


class OnlyManager(msgspec.Struct, frozen=True):
    """This one has registered, and there is one at a time: those of before have ended."""

    manager: str


class ForwarderSaid(msgspec.Struct, frozen=True):
    """The forwarder's message."""

    message: messages.ToInterchange


class Recovered(msgspec.Struct, frozen=True):
    """What the journal tells at a start: the managers of earlier, and what they were sent."""

    managers: list[str]
    sent: list[Sent]
    spooled: list[tuple[int, list[messages.TaskRefs]]] = []  # numbers of Results, and their tasks
    incomplete: bool = False  # the disk was full: managers may hold what is not in `sent`
    blocks: dict[str, str] = {}  # of the managers, as far as they were in any
    damaged: bool = False  # outcomes that the spool had may be lost
    # Of managers that interchanges of before have waited for already: since how many seconds.
    away: dict[str, float] = {}


class ForwarderGone(msgspec.Struct, frozen=True):
    """The forwarder is away: outcomes go to the spool until it greets again."""


class Spooled(msgspec.Struct, frozen=True):
    """The answer to Spool: the numbers of those that are durable now."""

    kept: list[int]


class Unspooled(msgspec.Struct, frozen=True):
    """The answer to ReadSpool: as many as there is room for, the first ones first."""

    batch: list[messages.Results]
    missing: list[int] = []  # numbers of those that cannot be read: the disk has damaged them


class Left(msgspec.Struct, frozen=True):
    """Results that a manager could not tell, and has left in a file; answered by DiscardLeft."""

    path: str
    batch: list[messages.Results]


class ProvisionerSaid(msgspec.Struct, frozen=True):
    """The provisioner's message."""

    message: provision.FromProvisioner


class ProvisionerGone(msgspec.Struct, frozen=True):
    """The provisioner died, or was killed because a command hung; another one starts.

    What it was asked and has not answered may have happened or not.
    """

    why: str


class RecoveredBlocks(msgspec.Struct, frozen=True):
    """What the journal of blocks tells at a start: those that may still be there."""

    blocks: list[provision.BlockRef]
    last: int = 0  # the highest number that was ever used


class StopAsked(msgspec.Struct, frozen=True):
    """The endpoint is to end; answered by Leave when it may."""

    keep_blocks: bool
    drain_s: float
    why: str = ""  # by whom, and when


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


class ToManager(msgspec.Struct, frozen=True):
    """Send this to a manager."""

    peer: bytes
    message: messages.ToManager


class ToForwarder(msgspec.Struct, frozen=True):
    """Send this to the forwarder."""

    message: messages.FromInterchange


class CloseManager(msgspec.Struct, frozen=True):
    """Forget the connection: should its manager come back, it greets under a new one."""

    peer: bytes


class Spool(msgspec.Struct, frozen=True):
    """Write these to the spool, and answer with Spooled."""

    batch: list[messages.Results]


class ReadSpool(msgspec.Struct, frozen=True):
    """Read these back, and answer with Unspooled."""

    numbers: list[int]


class ClearSpool(msgspec.Struct, frozen=True):
    """All that was spooled is in the store."""


class Sent(msgspec.Struct, array_like=True, frozen=True, tag="sent"):
    """Write to the journal, before what follows is sent: tasks about to go to a manager."""

    manager: str
    tasks: list[messages.TaskRefs]


class ManagerKnown(msgspec.Struct, array_like=True, frozen=True, tag="manager"):
    """Write to the journal: a manager is there, or is gone for good."""

    manager: str
    present: bool
    block: str = ""


class DiscardLeft(msgspec.Struct, frozen=True):
    """All that a manager has left in this file is stored."""

    path: str


class ToProvisioner(msgspec.Struct, frozen=True):
    """Ask the provisioner for this."""

    message: provision.ToProvisioner


class BlockKnown(msgspec.Struct, array_like=True, frozen=True, tag="block"):
    """Write to the journal of blocks, before what follows is done: a block is there, or is gone."""

    block: provision.BlockRef
    present: bool


class Leave(msgspec.Struct, frozen=True):
    """The process may end now."""

    reason: str
    nothing_runs: bool = False  # no manager is left, nor a block that could have one


class Note(msgspec.Struct, frozen=True):
    """Write a line to the log, for whoever runs the endpoint."""

    level: str  # info, warning, error
    text: str


Event: TypeAlias = (
    ManagerSaid
    | ManagerGone
    | OnlyManager
    | ForwarderSaid
    | ForwarderGone
    | Spooled
    | Unspooled
    | Left
    | Recovered
    | RecoveredBlocks
    | ProvisionerSaid
    | ProvisionerGone
    | StopAsked
    | Tick
)
Action: TypeAlias = (
    ToManager
    | ToForwarder
    | CloseManager
    | Spool
    | ReadSpool
    | ClearSpool
    | Sent
    | ManagerKnown
    | DiscardLeft
    | ToProvisioner
    | BlockKnown
    | Leave
    | Note
)
