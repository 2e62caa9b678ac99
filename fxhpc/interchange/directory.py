"""A named endpoint's directory: who it is, where its interchange listens, whom it admits.

Lies in the home, `endpoints/NAME/`, mode 0700. What managers on nodes need lies in `state`, which
is the same directory unless `state_dir` names one on a file system that nodes see.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fxhpc.ids import new_id
from fxhpc.protocol.provision import StopRequest
from fxhpc.protocol.sizes import SizeLimits

if TYPE_CHECKING:
    from fxhpc.protocol.pool import ManagerSpec
    from fxhpc.transport.keys import KeyPair, Role

_S = TypeVar("_S", bound=msgspec.Struct)


class EndpointRecord(msgspec.Struct, frozen=True):
    """What an endpoint is, for as long as it exists."""

    endpoint: str  # its UUID
    name: str
    walltime_s: float = 0.0  # of its longest block, as it was started last; 0: no limit
    limits: SizeLimits = SizeLimits()  # likewise


class InterchangeAddress(msgspec.Struct, frozen=True):
    """Where an endpoint's interchange is, while it runs."""

    host: str
    boot: str
    pid: int
    started: float  # seconds since the epoch
    forwarder: str  # where the forwarder connects: ipc
    managers: str  # where managers register: tcp, one address or several with spaces between
    server_key: str  # the interchange's public key
    epoch: int
    version: str
    forwarders: str = ""  # where forwarders on other hosts connect: tcp, likewise


class EndpointDirectory:
    """The files of one endpoint.

    Args:
        path: in the home.
        state: what nodes must see; the same directory if it is empty.
    """

    def __init__(self, path: str | os.PathLike[str], state: str | os.PathLike[str] = "") -> None:
        self.path = Path(path)
        self.state = Path(state or path)
        self.config = self.path / "config.yaml"
        self.record = self.path / "endpoint.json"
        self.address = self.path / "interchange.json"
        self.lock = self.path / "lock"
        self.supervisor = self.path / "supervisor.json"
        self.supervisor_lock = self.path / "supervisor.lock"
        self.status = self.path / "status.json"
        self.stop_request = self.path / "stop.json"
        self.failure = self.path / "failure.txt"  # why it ended, if nobody asked it to
        self.logs = self.path / "logs"
        self.log = self.logs / "interchange.log"
        self.managers_address = self.state / "managers.address"
        self.manager_key = self.state / "manager.key"
        self.manager_spec = self.state / "manager.json"
        self.blocks = self.state / "blocks"  # job scripts, and what they wrote
        self.manager_logs = self.state / "manager-logs"
        self.manager_results = self.state / "manager-results"  # see `left_results`
        self.spill = self.state / "spill"  # results that are too large to be sent
        self.journal = self.path / "journal"
        self.spool = self.path / "spool"
        self.epoch = self.path / "epoch"
        self.known_blocks = self.path / "blocks.journal"

    def create(self, name: str) -> EndpointRecord:
        """Make an endpoint, or read what it is if it exists."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.path, self.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        found = self.read_record()
        if found is None:
            found = EndpointRecord(new_id(), name)
            with _draft(self.record, msgspec.json.encode(found)) as draft:
                try:
                    os.link(draft, self.record)
                except FileExistsError:
                    faster = self.read_record()  # another start's: there is to be one endpoint
                    if faster is None:  # what is there says nothing
                        os.replace(draft, self.record)
                    found = faster or found
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
        replace_file(self.managers_address, lines.encode())
        replace_file(self.address, msgspec.json.format(msgspec.json.encode(address)))

    def write_manager_spec(self, spec: ManagerSpec) -> None:
        """Tell managers on nodes what they are to do."""
        replace_file(self.manager_spec, msgspec.json.format(msgspec.json.encode(spec)))

    def remove(self) -> None:
        """Remove it, and what is the endpoint's elsewhere. What others have put there stays."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.state == self.path:
            return
        for folder in (self.blocks, self.manager_logs, self.manager_results, self.spill):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.managers_address, self.manager_key, self.manager_spec):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.state.rmdir()

    def read_stop_request(self) -> StopRequest:
        """How the endpoint is to end; the defaults if nobody has said, or nothing readable."""
        return _read(self.stop_request, StopRequest) or StopRequest()

    def keys(self, role: Role) -> KeyPair:
        """The key pair of a role; made at first use. Nodes see the managers' alone."""
        # Here, since who only looks for files is not to wait for zmq.
        from fxhpc.transport.keys import load_or_create_keys

        path = self.manager_key if role == "manager" else self.path / f"{role}.key"
        return load_or_create_keys(path, role)

    def raise_epoch(self) -> int:
        """A number higher than that of every interchange before."""
        try:
            epoch = int(self.epoch.read_text()) + 1
        except (OSError, ValueError):
            epoch = 1
        replace_file(self.epoch, str(epoch).encode())
        return epoch


def _read(path: Path, kind: type[_S]) -> _S | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def replace_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file so that readers see the old one or the new one, mode 0600.

    Args:
        sync: the new one also survives the end of this host.
    """
    with _draft(path, data, sync) as draft:
        os.replace(draft, path)


@contextlib.contextmanager
def _draft(path: Path, data: bytes, sync: bool = True) -> Iterator[Path]:
    """A file of this process alone beside `path`, since two may write it at once."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
