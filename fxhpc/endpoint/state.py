"""What an endpoint is doing, as its files and the processes of this host tell."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fxhpc import hosts
from fxhpc.endpoint import identity
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.units import format_duration


class State:
    """What an endpoint can be. Plain strings, as they are seen in tables and JSON."""

    INITIALIZED = "initialized"  # configured, never started
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"  # its interchange died, and is started again
    STOPPING = "stopping"
    UNSUPERVISED = "unsupervised"  # its supervisor was killed; its interchange goes on
    STOPPED = "stopped"
    FAILED = "failed"  # it ended, and nobody had asked it to
    ELSEWHERE = "elsewhere"  # it runs on another host of this home
    LOST = "lost"  # it was started on another host, which gives no sign of life


@dataclass
class EndpointState:
    """An endpoint as it is now."""

    name: str
    state: str
    endpoint: str = ""  # its UUID
    host: str = ""  # where it runs
    pid: int = 0  # of its supervisor, if that lives or is on another host
    started: float = 0.0
    interchange: int = 0  # its pid, likewise
    interchange_started: float = 0.0
    since: float = 0.0  # wall clock: when it was started
    silent_s: float = 0.0  # since its last sign of life, if it is on another host
    restarts: int = 0
    version: str = ""  # of fxhpc, as its supervisor runs it
    interchange_version: str = ""
    trouble: str = ""  # what is wrong with it, if something is

    @property
    def elsewhere(self) -> bool:
        """Whether another host has it, or had it last."""
        return self.state in (State.ELSEWHERE, State.LOST)

    @property
    def alive(self) -> bool:
        """Whether something of it runs on this host."""
        return not self.elsewhere and bool(self.pid or self.interchange)

    @property
    def process(self) -> tuple[int, float]:
        """Who is to be told to stop: the pid and start of its supervisor, or its interchange."""
        if self.pid:
            return self.pid, self.started
        return self.interchange, self.interchange_started

    def place(self) -> str:
        """Where it runs, in words."""
        who = f"supervisor pid {self.pid}" if self.pid else f"interchange pid {self.interchange}"
        if not self.pid and not self.interchange:
            return f"on host {self.host or platform.node()}"
        text = f"on host {self.host}, {who}"
        if self.elsewhere:
            text += f", last sign of life {format_duration(self.silent_s)} ago"
        return text

    def sentence(self) -> str:
        """What it does, and where."""
        return f"{self.state} {self.place()}"


def look(directory: EndpointDirectory) -> EndpointState:
    """Find out what an endpoint is doing. Reads files and looks at processes; changes nothing."""
    record = directory.read_record()
    found = EndpointState(directory.path.name, State.STOPPED, record.endpoint if record else "")
    supervisor = identity.read_supervisor(directory)
    interchange = identity.read_interchange(directory)
    if supervisor is not None:
        found.host, found.since = supervisor.host, supervisor.since
        found.restarts, found.version = supervisor.restarts, supervisor.version
    elif interchange is not None:
        found.host = interchange.host
    failure = read_failure(directory)
    candidates: list[tuple[identity.ProcessRecord | None, Path, Path]] = [
        (supervisor, directory.supervisor_lock, directory.supervisor),
        (interchange, directory.lock, directory.status),
    ]
    for process, lock, seen in candidates:
        if process is None:
            continue
        place = _place(process, identity.is_locked(lock), identity.age_s(seen))
        if place == "another's":
            return EndpointState(found.name, State.INITIALIZED, found.endpoint)
        if place == "gone":
            continue
        if isinstance(process, identity.SupervisorRecord):
            found.pid, found.started = process.pid, process.started
        else:
            found.interchange, found.interchange_started = process.pid, process.started
            found.interchange_version = process.version
        if place in (State.ELSEWHERE, State.LOST):
            found.state, found.host = place, process.host
            found.silent_s = identity.age_s(seen)
            return found
    if found.pid:
        assert supervisor is not None
        found.state, found.trouble = supervisor.phase, supervisor.trouble
    elif found.interchange:
        found.state = State.UNSUPERVISED
        found.trouble = "its supervisor was killed: if the interchange dies, nobody restarts it"
    elif failure:
        found.state, found.trouble = State.FAILED, failure
    elif supervisor is not None or interchange is not None:
        found.state = State.FAILED
        found.trouble = f"it was killed, or host {found.host} was rebooted"
    elif not directory.epoch.exists():
        found.state = State.INITIALIZED
    return found


def read_failure(directory: EndpointDirectory) -> str:
    """Why an endpoint ended without having been asked to; empty if it did not."""
    try:
        return directory.failure.read_text(errors="replace").strip()
    except OSError:
        return ""


def read_status(directory: EndpointDirectory) -> dict[str, Any]:
    """The report that its interchange has written last, as plain values; empty if there is none.

    See `fxhpc.interchange.status_file`. A newer interchange may tell more than this version knows,
    so nothing is checked.
    """
    try:
        found = msgspec.json.decode(directory.status.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _place(process: identity.ProcessRecord, locked: bool, silent_s: float) -> str:
    """Where a process is: "here", "gone", "another's", or elsewhere, as `State` has it."""
    same_boot = process.boot == hosts.boot_id()
    if identity.is_same_host(process.host):
        if (same_boot or not process.boot) and hosts.is_alive(process.pid, process.started):
            # Without the lock this directory is a copy of the one that the process has.
            return "here" if locked else "another's"
        # Two containers, or two clones of a machine, may share a name.
        return State.ELSEWHERE if locked else "gone"
    if locked:
        return State.ELSEWHERE
    if same_boot:
        return "gone"  # this very kernel has released its lock: nothing is left to doubt
    return State.ELSEWHERE if silent_s < identity.STALE_S else State.LOST
