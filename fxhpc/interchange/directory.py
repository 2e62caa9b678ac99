"""A named endpoint's directory: who it is, where its interchange listens, whom it admits.

Lies in the home, `endpoints/NAME/`, mode 0700, and managers on nodes read it too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from fxhpc.ids import new_id
from fxhpc.transport.keys import KeyPair, Role, load_or_create_keys

_S = TypeVar("_S", bound=msgspec.Struct)


class EndpointRecord(msgspec.Struct, frozen=True):
    """What an endpoint is, for as long as it exists."""

    endpoint: str  # its UUID
    name: str


class InterchangeAddress(msgspec.Struct, frozen=True):
    """Where an endpoint's interchange is, while it runs."""

    host: str
    boot: str
    pid: int
    started: float  # seconds since the epoch
    forwarder: str  # where the forwarder connects: ipc
    managers: str  # where managers register: tcp
    server_key: str  # the interchange's public key
    epoch: int
    version: str


class EndpointDirectory:
    """The files of one endpoint."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.record = self.path / "endpoint.json"
        self.address = self.path / "interchange.json"
        self.managers_address = self.path / "managers.address"
        self.lock = self.path / "lock"
        self.log = self.path / "interchange.log"
        self.journal = self.path / "journal"
        self.spool = self.path / "spool"
        self.epoch = self.path / "epoch"

    def create(self, name: str) -> EndpointRecord:
        """Make an endpoint, or read what it is if it exists."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        found = self.read_record()
        if found is None:
            found = EndpointRecord(new_id(), name)
            _replace(self.record, msgspec.json.encode(found))
        return found

    def read_record(self) -> EndpointRecord | None:
        """Which endpoint this is, or None if it is none."""
        return _read(self.record, EndpointRecord)

    def read_address(self) -> InterchangeAddress | None:
        """Where its interchange was started last, alive or not."""
        return _read(self.address, InterchangeAddress)

    def write_address(self, address: InterchangeAddress) -> None:
        """Tell where the interchange is: forwarders by one file, managers by another."""
        lines = f"{address.managers}\n{address.server_key}\n"
        _replace(self.managers_address, lines.encode())
        _replace(self.address, msgspec.json.format(msgspec.json.encode(address)))

    def keys(self, role: Role) -> KeyPair:
        """The key pair of a role; made at first use."""
        return load_or_create_keys(self.path / f"{role}.key", role)

    def raise_epoch(self) -> int:
        """A number higher than that of every interchange before."""
        try:
            epoch = int(self.epoch.read_text()) + 1
        except (OSError, ValueError):
            epoch = 1
        _replace(self.epoch, str(epoch).encode())
        return epoch


def _read(path: Path, kind: type[_S]) -> _S | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old one or the new one, mode 0600."""
    draft = path.with_name(path.name + ".new")
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
