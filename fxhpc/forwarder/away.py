"""What an endpoint's directory tells of why its interchange is away, and what to do about it.

The words go to everybody who asks for a task or for the endpoint, so they name the endpoint, the
host and the command that helps. Nothing here changes anything.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from fxhpc.hosts import is_alive, wall_time
from fxhpc.units import format_duration

#: Characters of what an endpoint left behind about its end that are told.
_FAILURE_CHARACTERS = 500

_S = TypeVar("_S", bound=msgspec.Struct)


class Process(msgspec.Struct):
    """The part of `supervisor.json` and `interchange.json` that says which process it is."""

    host: str
    pid: int
    started: float = 0.0


class Away(NamedTuple):
    """Why an interchange is away: a sentence without its full stop; when it was alive last."""

    why: str
    seen: float  # wall clock, seconds since the epoch; 0: never, as far as is known


def why_away(directory: Path, name: str, *, commands: bool = True, left: float = 0.0) -> Away:
    """What is known of an endpoint whose interchange cannot be spoken to.

    Args:
        directory: the endpoint's.
        name: the endpoint's.
        commands: whether people start and stop it by commands; else a program does.
        left: wall clock: when its interchange said goodbye; 0: it has not.
    """
    endpoint = f"endpoint {name}"
    start = f"; start it with: fxhpc endpoint start {name}" if commands else ""
    logs = f"; see: fxhpc endpoint logs {name}" if commands else f"; see {directory / 'logs'}"
    supervisor = read_struct(directory / "supervisor.json", Process)
    interchange = read_struct(directory / "interchange.json", Process)
    processes = [process for process in (supervisor, interchange) if process is not None]
    failure = _failure(directory / "failure.txt")
    seen = _changed(directory / "status.json") or _changed(directory / "interchange.json")
    if not processes:
        if failure:
            return Away(f"{endpoint} has failed: {failure}{start}", seen)
        if (directory / "epoch").exists():
            return Away(f"{endpoint} is stopped{start}", seen)
        return Away(f"{endpoint} was never started{start}", seen)
    here = platform.node()
    last = max(processes, key=lambda process: process.started)
    if last.host != here:
        return Away(_elsewhere(endpoint, name, last, here, seen, commands), seen)
    alive = [p for p in processes if p.host == here and is_alive(p.pid, p.started)]
    if alive and all(wall_time(process.started) < left for process in alive):
        return Away(f"{endpoint} is being stopped on {here}", seen)
    if alive:
        trouble = f"; the last time it ended: {failure}" if failure else ""
        return Away(f"{endpoint} is starting on {here}{trouble}{logs}", seen)
    if failure:
        return Away(f"{endpoint} has failed: {failure}{start}", seen)
    again = f"{start}, which takes over its jobs" if start else ""
    died = f"{endpoint} has died: its process {last.pid} on {here} is gone, and nobody stopped it"
    return Away(f"{died}{again}", seen)


def _elsewhere(
    endpoint: str, name: str, process: Process, here: str, seen: float, commands: bool
) -> str:
    age = max(0.0, time.time() - seen)
    # In coarse steps: who is told of each change is not to be told all the time.
    report = f", which reported last {_coarse(age)} ago" if seen else ""
    told = (
        f"{endpoint} runs on host {process.host} (pid {process.pid}{report}), and this home is "
        f"served on {here}"
    )
    if not commands:
        return told
    return (
        f"{told}: ask for its tasks on {process.host}, or stop it there (fxhpc endpoint stop "
        f"{name}) and start it here (fxhpc endpoint start {name})"
    )


def _coarse(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute"
    step = 60 if seconds < 3600 else 3600
    return format_duration(seconds // step * step).removesuffix(" 0 s").removesuffix(" 0 min")


def _failure(path: Path) -> str:
    """What the endpoint left behind when it ended without being asked to; empty if nothing."""
    try:
        text = " ".join(path.read_text(errors="replace").split())
    except OSError:
        return ""
    if len(text) > _FAILURE_CHARACTERS:
        text = text[: _FAILURE_CHARACTERS - 3] + "..."
    return text.rstrip(".;")


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def read_struct(path: Path, kind: type[_S]) -> _S | None:
    """What a JSON file holds; None if it is not there, or something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
