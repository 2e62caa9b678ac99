"""What `fxhpc store du` shows: what takes the room, and a warning before it is used up."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from fxhpc.cli import output
from fxhpc.units import format_bytes

if TYPE_CHECKING:
    from fxhpc.protocol.service import StoreUsage


def as_json(found: StoreUsage, names: dict[str, str]) -> dict[str, Any]:
    """What `fxhpc store du --json` prints.

    Args:
        names: of functions, by their ids.
    """
    return {
        "home": output.home().path,
        "used": found.used,
        "max_bytes": found.max_bytes,
        "retention_s": found.retention_s,
        "groups": _kept(),
        "database": found.database,
        "payload_files": found.files,
        "log": found.log,
        "reserve": found.reserve,
        "disk": _on_disk(found),
        "free_in_database": found.free,
        "functions": found.functions,
        "functions_and_shared_arguments": found.bodies,
        "batches": [
            {
                "endpoint": entry.endpoint_name,
                "endpoint_id": entry.endpoint,
                "function_name": names.get(entry.function_id, ""),
                "function_id": entry.function_id,
                "ended": not entry.unfinished,
                "executor": not entry.keep,
                "batches": entry.batches,
                "tasks": entry.tasks,
                "pending": entry.pending,
                "argument_bytes": entry.argument_bytes,
                "result_bytes": entry.result_bytes,
                "oldest": entry.oldest,
            }
            for entry in found.entries
        ],
        "spilled_results": _spilled(),
        "set_aside": [{"path": path, "bytes": size} for path, size in found.aside],
    }


def _spilled() -> int:
    """Bytes of the files of results that were too large to be sent, with all endpoints."""
    from fxhpc.forwarder.spilled import size_of, spill_directories

    return size_of(spill_directories(output.home()))


def _on_disk(found: StoreUsage) -> int:
    """Bytes that the store takes of the disk. A purge says how many of these it has freed."""
    return found.database + found.files + found.log + found.reserve


def print_usage(found: StoreUsage, names: dict[str, str]) -> None:
    """Print it for people; a warning, if it is nearly full, on standard error."""
    rows = [
        ("database", format_bytes(found.database), f"{format_bytes(found.free)} of it free"),
        ("payload files", format_bytes(found.files), "arguments and results above 256 KB"),
        ("log", format_bytes(found.log), "what is not in the database yet"),
        ("reserve", format_bytes(found.reserve), "so that a full disk stops submissions alone"),
        ("in all", format_bytes(_on_disk(found)), "on the disk"),
    ]
    if spilled := _spilled():
        note = "of results above max_payload (on_exceed), beside the store"
        rows.append(("spilled files", format_bytes(spilled), note))
    output.table(("what", "size", "note"), rows)
    output.say(
        f"{format_bytes(found.used)} of {format_bytes(found.max_bytes)} hold what is stored; "
        f"{found.functions:,} functions and shared arguments take {format_bytes(found.bodies)}; "
        f"results are kept for {days(found.retention_s)}"
    )
    for group, seconds in _kept().items():
        output.say(f"those of task group {group} are kept for {days(seconds)}")
    _note_room(found)
    if found.entries:
        lines = [
            (
                entry.endpoint_name,
                names.get(entry.function_id, "-" if entry.keep else "(executor)"),
                f"{entry.pending:,} pending" if entry.unfinished else "ended",
                f"{entry.batches:,}",
                f"{entry.tasks:,}",
                format_bytes(entry.argument_bytes + entry.result_bytes),
                days(max(0.0, time.time() - entry.oldest)),
            )
            for entry in sorted(
                found.entries, key=lambda entry: -entry.argument_bytes - entry.result_bytes
            )
        ]
        columns = ("endpoint", "function", "state", "batches", "tasks", "size", "oldest")
        output.table(columns, lines)
    for path, size in found.aside:
        output.note(f"set aside because it was damaged: {path} ({format_bytes(size)})")


def _kept() -> dict[str, float]:
    """The task groups whose results are kept for another time, and for how many seconds."""
    from fxhpc.forwarder.limits import read_limits

    return read_limits(output.home()).groups


def _note_room(found: StoreUsage) -> None:
    """Say it if the store is nearly full, or its disk."""
    from fxhpc.forwarder.keeping import LITTLE_ROOM, NEARLY_FULL

    place = output.home().store.parent
    room = os.statvfs(place)
    free = room.f_bavail * room.f_frsize
    left = found.max_bytes - found.used
    if found.used < NEARLY_FULL * found.max_bytes and free >= LITTLE_ROOM:
        return
    what = (
        f"the store is nearly full: {format_bytes(max(0, left))} are left"
        if found.used >= NEARLY_FULL * found.max_bytes
        else f"{format_bytes(free)} are free at {place}"
    )
    output.note(
        f"warning: {what}; then submissions are refused. Keep what you need: fxhpc store export "
        f"DIRECTORY; make room: fxhpc store purge --older-than 7d"
    )


def days(seconds: float) -> str:
    """A long time in words: "14 days".

    >>> days(86400 * 14)
    '14 days'
    """
    from fxhpc.units import format_duration

    if seconds < 2 * 86400:
        return format_duration(seconds)
    return f"{seconds / 86400:g} days" if seconds % 86400 == 0 else f"{seconds / 86400:.1f} days"
