"""What can happen to an interchange, and what it can want done. No I/O."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from fxhpc.protocol import messages


class ManagerSaid(msgspec.Struct, frozen=True):
    """A manager's message. `peer` is its connection; a manager that comes back has a new one."""

    peer: bytes
    message: messages.FromManager


class ManagerGone(msgspec.Struct, frozen=True):
    """A manager's process has ended, or its connection is closed for good."""

    peer: bytes
    why: str


class ForwarderSaid(msgspec.Struct, frozen=True):
    """The forwarder's message."""

    message: messages.ToInterchange


class Recovered(msgspec.Struct, frozen=True):
    """What the journal tells at a start: the managers of earlier, and what they were sent."""

    managers: list[str]
    sent: list[Sent]


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


class Sent(msgspec.Struct, array_like=True, frozen=True, tag="sent"):
    """Write to the journal, before what follows is sent: tasks about to go to a manager."""

    manager: str
    tasks: list[messages.TaskRefs]


class ManagerKnown(msgspec.Struct, array_like=True, frozen=True, tag="manager"):
    """Write to the journal: a manager is there, or is gone for good."""

    manager: str
    present: bool


Event: TypeAlias = ManagerSaid | ManagerGone | ForwarderSaid | Recovered | Tick
Action: TypeAlias = ToManager | ToForwarder | CloseManager | Sent | ManagerKnown
