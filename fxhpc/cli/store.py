"""The commands `fxhpc store du|purge|set`: what a home's store holds, and how it gets smaller."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.cli.running import LazyGroup
from fxhpc.cli.store_usage import as_json, days, print_usage
from fxhpc.units import format_bytes

if TYPE_CHECKING:
    from fxhpc.cli.explaining import QuietClient
    from fxhpc.forwarder.limits import Limits
    from fxhpc.protocol.service import Purged, StoreUsage

#: A retention below this is hardly meant: results go before anybody is back to fetch them.
_SHORT_S = 3600.0


@click.group(
    cls=LazyGroup,
    lazy={
        "export": ("fxhpc.cli.store_keeping:export", "Write tasks and results to a directory."),
        "move": ("fxhpc.cli.store_keeping:move", "Move the store to another file system."),
        "keep": ("fxhpc.cli.store_keeping:keep", "Keep a group's results for longer."),
    },
    order=("du", "export", "keep", "purge", "move", "set"),
)
@output.common_options
def store() -> None:
    """Show what the store holds, export it, make room in it, set its limits."""


@store.command()
@output.common_options
def du() -> None:
    """Show what the store takes on the disk, and which batches it holds."""
    if not output.home().has_store():
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
        output.document(as_json(found, names))
        return
    print_usage(found, names)


@store.command(short_help="Forget batches with their results, and make room.")
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
    given = (("--older-than", older_than), ("--group", group), ("--endpoint", endpoint))
    for option, text in given:
        if text is not None and not text.strip():  # a shell's variable that is not set
            raise click.UsageError(f"{option} is empty; leave it out if you mean all")
    older_s = _duration(older_than, "--older-than") if older_than else 0.0
    if not output.home().has_store():
        _tell_purged(None, dry_run)
        return
    from fxhpc.cli import explaining
    from fxhpc.client.names import group_name
    from fxhpc.protocol.service import PurgeTasks

    with _client() as client:
        place = explaining.endpoint_of(client, endpoint) if endpoint else ""
        named = group_name(group) if group else ""
        wanted = PurgeTasks(0, older_s, named, place, everything, dry_run=True)
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
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output.common_options
def set_limits(max_bytes: str | None, retention: str | None, yes: bool) -> None:
    """Set how much the store may hold and for how long; without options, show it.

    With a shorter retention, what is older goes at once: it says how much, and asks. Less than an
    hour needs --yes.
    """
    from fxhpc.forwarder.limits import Limits, read_limits, write_limits

    home = output.home()
    is_readable = True
    try:
        limits = read_limits(home) if home.limits.exists() else Limits()
    except errors.HomeError:
        if max_bytes is None or retention is None:
            raise
        limits, is_readable = Limits(), False  # nothing of what is there is to stay
    if max_bytes is not None or retention is not None:
        before = limits
        limits = _limits(before, max_bytes, retention)
        is_shorter = limits.retention_s < before.retention_s or not is_readable
        if is_shorter and limits.retention_s < _SHORT_S and not yes:
            raise errors.UsageError(
                f"--retention: results would be kept for {days(limits.retention_s)} only, then "
                f"nobody can fetch them any more; if that is meant: --yes"
            )
        if home.has_store():
            if is_shorter:
                _make_sure_of_retention(limits.retention_s, yes)
            if limits.max_bytes != before.max_bytes or not is_readable:
                _note_full_store(limits.max_bytes)
        home.create()
        write_limits(home, limits)
        _note_small_disk(limits.max_bytes)
    if output.wants_json():
        output.document({"max_bytes": limits.max_bytes, "retention_s": limits.retention_s})
    else:
        click.echo(
            f"at most {format_bytes(limits.max_bytes)}; results are kept for "
            f"{days(limits.retention_s)} after they have ended or were last asked for"
        )


def _limits(before: Limits, max_bytes: str | None, retention: str | None) -> Limits:
    """The limits with what is given of them.

    Raises:
        UsageError: they cannot be meant so.
    """
    from fxhpc.forwarder.limits import Limits, check_limits
    from fxhpc.units import parse_size

    try:
        size = parse_size(max_bytes) if max_bytes is not None else before.max_bytes
    except ValueError as error:
        raise errors.UsageError(f"--max-bytes: {error}") from None
    kept = before.retention_s if retention is None else _duration(retention, "--retention")
    limits = Limits(size, kept, before.groups)
    try:
        check_limits(limits, "--max-bytes", "--retention")
    except ValueError as error:
        raise errors.UsageError(str(error)) from None
    return limits


def _make_sure_of_retention(retention_s: float, yes: bool) -> None:
    """Say what a shorter retention makes go at once, and ask.

    Raises:
        UsageError: nobody is there to be asked, or it cannot be told what would go.
    """
    from fxhpc.protocol.service import PurgeTasks

    try:
        with _client() as client:
            found: Purged = client.ask(PurgeTasks(0, retention_s, dry_run=True))
    except errors.FxhpcError as error:
        if yes:
            return
        words = str(error).rstrip(".")
        raise errors.UsageError(
            f"nothing was set: it cannot be told what a retention of {days(retention_s)} would "
            f"make go, because {words}; if you are sure all the same: --yes"
        ) from error
    if not found.batches:
        return
    what = f"{_forgotten(found)}, older than {days(retention_s)},"
    if yes:
        output.note(f"{what} will be forgotten within a minute")
        return
    _confirm(f"{what} will be forgotten at once. Set it?", f"nothing was set: {what} would go")


def _note_full_store(max_bytes: int) -> None:
    """Say it if the store holds more than it may: it takes nothing new then."""
    from fxhpc.protocol.service import GetStoreUsage

    try:
        with _client() as client:
            found: StoreUsage = client.ask(GetStoreUsage(0))
    except errors.FxhpcError:
        return  # the limit can be set without a forwarder, too
    if found.used > max_bytes:
        output.note(
            f"the store holds {format_bytes(found.used)}, more than {format_bytes(max_bytes)}: "
            f"submissions are refused until it holds less; what there is stays. Make room: "
            f"fxhpc store purge --older-than 1d"
        )


def _note_small_disk(max_bytes: int) -> None:
    """Say it if the disk will be full before the store is."""
    place = output.home().store.parent
    found = os.statvfs(place)
    size = found.f_blocks * found.f_frsize
    if max_bytes > size:
        output.note(
            f"the file system of {place} has {format_bytes(size)} in all: submissions "
            f"are refused when that is full, before the limit is reached"
        )


def _client() -> QuietClient:
    from fxhpc.cli.explaining import QuietClient

    return QuietClient(home=output.home().path)


def _duration(text: str, option: str) -> float:
    """Seconds of a duration that says its unit: results are lost by a wrong guess.

    Raises:
        UsageError: it is none, or a number alone.
    """
    from fxhpc.durations import parse_duration

    number = text.strip()
    try:
        seconds = parse_duration(number)
    except ValueError as error:
        raise errors.UsageError(f"{option}: {error}") from None
    if number[-1] in "0123456789." and not any(mark in number for mark in ":-"):
        raise errors.UsageError(
            f"{option}: {number}: seconds, hours or days? Write for example {number}d for days, "
            f"{number}h for hours"
        )
    return seconds


def _make_sure(found: Purged) -> None:
    what = _forgotten(found)
    _confirm(f"Forget {what}?", f"nothing was purged: you would forget {what}")


def _forgotten(found: Purged) -> str:
    """What goes, in words."""
    from fxhpc.cli.explaining import many

    batches = "1 batch" if found.batches == 1 else f"{found.batches:,} batches"
    what = f"{batches} of {many(found.tasks, 'task')}"
    if found.cancelled:
        what += f", {found.cancelled:,} of which have not ended"
    return what


def _confirm(question: str, refusal: str) -> None:
    """Ask; where nobody can answer, that is a refusal.

    Raises:
        UsageError: standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise errors.UsageError(
            f"{refusal}, and nobody is there to be asked; if you are sure: --yes"
        )
    click.confirm(question, abort=True, err=True)


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
