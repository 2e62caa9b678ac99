"""The commands `fxhpc store du|purge|set`: what a home's store holds, and how it gets smaller."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.units import format_bytes

if TYPE_CHECKING:
    from fxhpc.cli.explaining import QuietClient
    from fxhpc.protocol.service import Purged, StoreUsage


@click.group()
@output.common_options
def store() -> None:
    """Show what the store holds, make room in it, set its limits."""


@store.command()
@output.common_options
def du() -> None:
    """Show what the store takes on the disk, and which batches it holds."""
    if not output.home().store.exists():
        if output.wants_json():
            output.document({"home": output.home().path, "used": 0, "batches": []})
        else:
            click.echo("no store")
        return
    from fxhpc.protocol.service import GetStoreUsage

    with _client() as client:
        found: StoreUsage = client.ask(GetStoreUsage(0))
        names = _function_names(client, found)
    if output.wants_json():
        output.document(_as_json(found, names))
        return
    _print_usage(found, names)


@store.command()
@click.option("--older-than", metavar="DURATION", help="Ended, and not looked at, for so long: 7d.")
@click.option("--group", metavar="ID", help="Of this task group alone.")
@click.option("--endpoint", metavar="NAME", help="Of this endpoint alone: its name or UUID.")
@click.option("--ended", "ended", is_flag=True, help="All batches that have ended.")
@click.option("--all", "everything", is_flag=True, help="Those that have not ended, too.")
@click.option("-n", "--dry-run", is_flag=True, help="Tell what would go, and leave it.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output.common_options
def purge(
    older_than: str | None,
    group: str | None,
    endpoint: str | None,
    ended: bool,
    everything: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Forget batches with all their results, and give the room back to the file system.

    Batches that have not ended stay, unless --all is given: their tasks are cancelled then. What is
    forgotten cannot be had back, and its ids are unknown from then on. Functions stay. It works on
    a full disk too; where nothing can be freed it says why, and ends with an error.
    """
    if not (older_than or group or endpoint or ended or everything):
        raise click.UsageError("say what: --older-than 7d, --group, --endpoint, --ended or --all")
    if ended and everything:
        raise click.UsageError("--ended, --all: choose one")
    older_s = _duration(older_than, "--older-than") if older_than else 0.0
    if not output.home().store.exists():
        _tell_purged(None, dry_run)
        return
    from fxhpc.cli import explaining
    from fxhpc.protocol.service import PurgeTasks

    with _client() as client:
        place = explaining.endpoint_of(client, endpoint) if endpoint else ""
        wanted = PurgeTasks(0, older_s, group or "", place, everything, dry_run=True)
        found: Purged = client.ask(wanted)
        if not dry_run:
            if found.batches and not yes:
                _make_sure(found)
            wanted.dry_run = False  # even of nothing: what is left of an earlier one goes too
            found = client.ask(wanted)
    _tell_purged(found, dry_run)


@store.command("set")
@click.option("--max-bytes", metavar="SIZE", help="Submissions are refused beyond: 20GB.")
@click.option("--retention", metavar="DURATION", help="Results are kept for so long: 30d.")
@output.common_options
def set_limits(max_bytes: str | None, retention: str | None) -> None:
    """Set how much the store may hold and for how long; without options, show it."""
    from fxhpc.forwarder.limits import Limits, check_limits, read_limits, write_limits
    from fxhpc.units import parse_size

    home = output.home()
    try:
        limits = read_limits(home) if home.limits.exists() else Limits()
    except errors.HomeError:
        if max_bytes is None or retention is None:
            raise
        limits = Limits()  # nothing of what is there is to stay
    if max_bytes is not None or retention is not None:
        try:
            size = parse_size(max_bytes) if max_bytes is not None else limits.max_bytes
        except ValueError as error:
            raise errors.UsageError(f"--max-bytes: {error}") from None
        kept = limits.retention_s if retention is None else _duration(retention, "--retention")
        limits = Limits(size, kept)
        try:
            check_limits(limits, "--max-bytes", "--retention")
        except ValueError as error:
            raise errors.UsageError(str(error)) from None
        home.create()
        write_limits(home, limits)
        _note_small_disk(limits.max_bytes)
    if output.wants_json():
        output.document({"max_bytes": limits.max_bytes, "retention_s": limits.retention_s})
    else:
        click.echo(
            f"at most {format_bytes(limits.max_bytes)}; results are kept for "
            f"{_days(limits.retention_s)} after they have ended or were last asked for"
        )


def _note_small_disk(max_bytes: int) -> None:
    """Say it if the disk will be full before the store is."""
    found = os.statvfs(output.home().path)
    size = found.f_blocks * found.f_frsize
    if max_bytes > size:
        output.note(
            f"the file system of {output.home().path} has {format_bytes(size)} in all: submissions "
            f"are refused when that is full, before the limit is reached"
        )


def _client() -> QuietClient:
    from fxhpc.cli.explaining import QuietClient

    return QuietClient(home=output.home().path)


def _duration(text: str, option: str) -> float:
    from fxhpc.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise errors.UsageError(f"{option}: {error}") from None


def _make_sure(found: Purged) -> None:
    from fxhpc.cli.explaining import many

    batches = "1 batch" if found.batches == 1 else f"{found.batches:,} batches"
    what = f"{batches} of {many(found.tasks, 'task')}"
    if found.cancelled:
        what += f", {found.cancelled:,} of which have not ended"
    if not sys.stdin.isatty():
        raise errors.UsageError(
            f"nothing was purged: nobody is there to be asked; say that you are sure to forget "
            f"{what}: --yes"
        )
    click.confirm(f"Forget {what}?", abort=True, err=True)


def _tell_purged(found: Purged | None, dry_run: bool) -> None:
    batches, tasks, cancelled, freed = 0, 0, 0, 0
    if found is not None:
        batches, tasks, cancelled = found.batches, found.tasks, found.cancelled
        freed = found.freed_bytes
    if output.wants_json():
        told = {"batches": batches, "tasks": tasks, "cancelled": cancelled, "freed_bytes": freed}
        output.document({**told, "dry_run": dry_run})
        return
    kind = "batch" if batches == 1 else "batches"
    text = f"{batches:,} {kind} of {tasks:,} tasks"
    if cancelled:
        text += f", {cancelled:,} of which had not ended"
    if dry_run:
        click.echo(f"{text} would be purged")
    else:
        click.echo(f"{text} purged, {format_bytes(freed)} freed")


def _function_names(client: QuietClient, found: StoreUsage) -> dict[str, str]:
    from fxhpc.protocol.service import GetFunctions

    wanted = sorted({entry.function_id for entry in found.entries if entry.function_id})
    if not wanted:
        return {}
    answer = client.ask(GetFunctions(0, wanted))
    return {record.function_id: record.name for record in answer.records}


def _as_json(found: StoreUsage, names: dict[str, str]) -> dict[str, Any]:
    return {
        "home": output.home().path,
        "used": found.used,
        "max_bytes": found.max_bytes,
        "retention_s": found.retention_s,
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
        "set_aside": [{"path": path, "bytes": size} for path, size in found.aside],
    }


def _on_disk(found: StoreUsage) -> int:
    """Bytes that the store takes of the disk. A purge says how many of these it has freed."""
    return found.database + found.files + found.log + found.reserve


def _print_usage(found: StoreUsage, names: dict[str, str]) -> None:
    rows = [
        ("database", format_bytes(found.database), f"{format_bytes(found.free)} of it free"),
        ("payload files", format_bytes(found.files), "arguments and results above 256 KB"),
        ("log", format_bytes(found.log), "what is not in the database yet"),
        ("reserve", format_bytes(found.reserve), "so that a full disk stops submissions alone"),
        ("in all", format_bytes(_on_disk(found)), "on the disk"),
    ]
    output.table(("what", "size", "note"), rows)
    output.say(
        f"{format_bytes(found.used)} of {format_bytes(found.max_bytes)} hold what is stored; "
        f"{found.functions:,} functions and shared arguments take {format_bytes(found.bodies)}; "
        f"results are kept for {_days(found.retention_s)}"
    )
    if found.entries:
        lines = [
            (
                entry.endpoint_name,
                names.get(entry.function_id, "-" if entry.keep else "(executor)"),
                f"{entry.pending:,} pending" if entry.unfinished else "ended",
                f"{entry.batches:,}",
                f"{entry.tasks:,}",
                format_bytes(entry.argument_bytes + entry.result_bytes),
                _days(max(0.0, time.time() - entry.oldest)),
            )
            for entry in sorted(
                found.entries, key=lambda entry: -entry.argument_bytes - entry.result_bytes
            )
        ]
        columns = ("endpoint", "function", "state", "batches", "tasks", "size", "oldest")
        output.table(columns, lines)
    for path, size in found.aside:
        output.note(f"set aside because it was damaged: {path} ({format_bytes(size)})")


def _days(seconds: float) -> str:
    from fxhpc.units import format_duration

    if seconds < 2 * 86400:
        return format_duration(seconds)
    return f"{seconds / 86400:g} days" if seconds % 86400 == 0 else f"{seconds / 86400:.1f} days"
