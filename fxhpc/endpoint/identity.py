"""Which processes an endpoint has, and whether they live: by host, boot, pid and start time.

A pid alone proves nothing: it is used again, a host is booted again, and several login nodes see
one home. So a record names all four; and whoever runs holds a lock, which the kernel releases.
"""

from __future__ import annotations

import fcntl
import os
import platform
import struct
import tempfile
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from fxhpc.interchange.directory import EndpointDirectory, replace_file

_S = TypeVar("_S", bound=msgspec.Struct)

#: Seconds between two signs of life that a supervisor gives in its file's time of change; without
#: one for `STALE_S` it may be dead. Attribute caches of network file systems lag for a minute.
SIGN_OF_LIFE_S = 15.0
STALE_S = 120.0


class ProcessRecord(msgspec.Struct, kw_only=True):
    """Which process it is."""

    host: str
    pid: int
    started: float  # as `hosts.start_time` has it
    boot: str = ""
    version: str = ""  # of fxhpc


class SupervisorRecord(ProcessRecord, kw_only=True):
    """An endpoint's `supervisor.json`, while its supervisor runs."""

    since: float  # when the endpoint was started
    phase: str = "starting"  # starting, running, restarting, stopping
    interchange: int = 0  # its pid, if it runs
    restarts: int = 0  # how often the interchange had to be started again
    trouble: str = ""  # why the interchange does not run, if it does not


def read_supervisor(directory: EndpointDirectory) -> SupervisorRecord | None:
    """The supervisor that was started last, alive or not; None if it has ended in order."""
    return _read(directory.supervisor, SupervisorRecord)


def read_interchange(directory: EndpointDirectory) -> ProcessRecord | None:
    """The interchange that was started last, alive or not; None if it has ended in order."""
    return read_process(directory.address)


def read_process(path: Path) -> ProcessRecord | None:
    """Which process wrote a record, alive or not; None if there is none."""
    return _read(path, ProcessRecord)


def write_supervisor(directory: EndpointDirectory, record: SupervisorRecord) -> None:
    """Tell who supervises the endpoint, and how it goes."""
    replace_file(directory.supervisor, msgspec.json.format(msgspec.json.encode(record)))


def is_locked(path: Path) -> bool:
    """Whether another process, on whatever host, holds the lock on a file. Takes nothing itself."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
        return bool(struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK)
    except OSError:
        return False  # a file system without locks: what the records say must do
    finally:
        os.close(descriptor)


def is_same_host(host: str) -> bool:
    """Whether a record was written on this host."""
    return host == platform.node()


def age_s(path: Path) -> float:
    """Seconds since a file was changed, by the clock of its file system's server."""
    try:
        changed = path.stat().st_mtime
    except OSError:
        return float("inf")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".clock-") as probe:
            now = os.fstat(probe.fileno()).st_mtime
    except OSError:
        now = time.time()
    return max(0.0, now - changed)


def _read(path: Path, kind: type[_S]) -> _S | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
