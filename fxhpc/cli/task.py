"""The commands `fxhpc task list|show|explain|cancel`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fxhpc import errors
from fxhpc.cli import output

if TYPE_CHECKING:
    from fxhpc.cli.explaining import Found, QuietClient
    from fxhpc.protocol.service import StreamSummary

#: States whose tasks are looked for one by one: a batch has few of them, or they are of interest.
_NAMED = frozenset({"failed", "cancelled", "running"})


@click.group()
@output.common_options
def task() -> None:
    """List, explain and cancel tasks.

    A task is named by its id, or as the list has it: 5f1c9b1e:17 is the task with the number 17 of
    a batch, 5f1c9b1e:0-99 are the first hundred, 5f1c9b1e are all.
    """


@task.command("list")
@click.option("--endpoint", metavar="NAME", help="Of this endpoint alone: its name or UUID.")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="In this state alone, such as running or failed; `pending`: not ended. May be repeated.",
)
@click.option("--limit", default=50, show_default=True, help="So many lines at most.")
@click.option("--all", "each", is_flag=True, help="A line for each task, not for each batch.")
@output.common_options
def list_tasks(endpoint: str | None, states: tuple[str, ...], limit: int, each: bool) -> None:
    """List tasks, the newest first: a line for each batch.

    With --state failed, cancelled or running, a line for those tasks of it, by their numbers.
    """
    from fxhpc.cli import explaining
    from fxhpc.client import listing

    wanted = listing.wanted_states(states or None)
    if not _has_store():
        _print_none(each)
        return
    with _client() as client:
        place = explaining.endpoint_of(client, endpoint) if endpoint else ""
        if each:
            _print_tasks(listing.tasks(client.ask, place, wanted or None, limit))
        elif wanted and _NAMED.issuperset(wanted) and not output.wants_json():
            found, total = explaining.find(client, place, wanted)
            names = listing.function_names(client.ask, [one.summary for one in found])
            _print_found(found[:limit], names, total)
        else:
            answer = listing.streams(client.ask, place, wanted or None, limit)
            names = listing.function_names(client.ask, answer.streams)
            _print_streams(answer.streams, names, answer.total)


@task.command()
@click.argument("name", metavar="ID")
@output.common_options
def show(name: str) -> None:
    """Show all that is known of a task: where it ran, when, its result or error, its output."""
    from fxhpc.cli import explaining

    with _client(name) as client:
        known = explaining.named_one(client, name)
        told = explaining.describe(client, known, *client.look(known))
    if output.wants_json():
        output.document(told)
        return
    for key, value in told.items():
        if key in ("submitted", "ended"):
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
            value = f"{at} ({explaining.ago(value)})"
        elif key == "attempts":
            value = "\n".join(f"{number}. {story}" for number, story in enumerate(value, 1))
        text = str(value)
        if "\n" in text.rstrip():
            text = "\n" + "\n".join(f"  {line}" for line in text.rstrip().splitlines())
        if text:
            click.echo(f"{key}: {text}")


@task.command()
@click.argument("name", metavar="ID")
@output.common_options
def explain(name: str) -> None:
    """Tell why a task is where it is, and what to do."""
    from fxhpc.cli import explaining

    with _client(name) as client:
        known = explaining.named_one(client, name)
        told = explaining.describe(client, known, *client.look(known))
        sentences, advice = explaining.explain(client, told)
    if output.wants_json():
        keep = ("task_id", "status", "reason", "endpoint", "endpoint_id")
        found = {key: told[key] for key in keep if key in told}
        output.document({**found, "explanation": sentences, "what_to_do": advice})
        return
    for sentence in sentences:
        click.echo(sentence)
    click.echo(f"What to do: {advice.rstrip('.')}.")


@task.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--endpoint", metavar="NAME", help="All of this endpoint that have not ended.")
@click.option("--group", metavar="UUID", help="All of this task group that have not ended.")
@click.option("--all-pending", is_flag=True, help="All of this home that have not ended.")
@click.option("--interrupt", is_flag=True, help="End those that run, too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output.common_options
def cancel(
    names: tuple[str, ...],
    endpoint: str | None,
    group: str | None,
    all_pending: bool,
    interrupt: bool,
    yes: bool,
) -> int:
    """Cancel tasks that have not begun.

    The exit code is 1 if some of them run on, which --interrupt prevents. With --endpoint or
    --all-pending it asks first; where nobody is there to be asked, --yes is needed.
    """
    from fxhpc.cli import explaining

    if bool(names) + bool(endpoint) + bool(group) + all_pending != 1:
        raise click.UsageError("name tasks, or give --endpoint NAME, --group UUID or --all-pending")
    if not names and not _has_store():
        _tell_cancelled(0, 0)
        return output.OK
    with _client(*names) as client:
        if names:
            chosen = [explaining.named(client, name) for name in names]
            running = 0
        elif group:
            cancelled, running = explaining.cancel_group(client, group, interrupt)
            _tell_cancelled(cancelled, running)
            return output.FAILED if running else output.OK
        else:
            place = explaining.endpoint_of(client, endpoint) if endpoint else ""
            chosen, pending = _pending(client, place)
            if pending and not yes:
                _make_sure(pending, f"--endpoint {endpoint}" if endpoint else "--all-pending")
        cancelled = explaining.cancel(client, chosen, interrupt)
        if names:
            running = sum(_still_running(client, one) for one in chosen)
        else:  # what was submitted meanwhile was not meant
            running = min(_pending(client, place)[1], max(0, pending - cancelled))
    _tell_cancelled(cancelled, running)
    return output.FAILED if running else output.OK


def _make_sure(pending: int, which: str) -> None:
    """Ask whether to cancel all of these."""
    from fxhpc.cli.explaining import many

    if not sys.stdin.isatty():
        raise errors.UsageError(
            f"nothing was cancelled: nobody is there to be asked; say that you are sure to cancel "
            f"{many(pending, 'task')}: fxhpc task cancel {which} --yes"
        )
    click.confirm(f"Cancel {many(pending, 'task')}?", abort=True, err=True)


def _pending(client: QuietClient, place: str) -> tuple[list[Any], int]:
    """All streams with tasks that have not ended, and how many these are.

    Args:
        place: the UUID of their endpoint; empty for all.
    """
    from fxhpc.cli.explaining import Named
    from fxhpc.client import listing
    from fxhpc.protocol.states import PENDING

    answer = listing.streams(client.ask, place, listing.PENDING, 10_000)
    found = [Named(one.stream, 0, sum(one.counts.values())) for one in answer.streams]
    pending = sum(one.counts.get(state, 0) for one in answer.streams for state in PENDING)
    return found, pending


def _still_running(client: QuietClient, chosen: Any) -> int:
    from fxhpc.client.tasks import Reader
    from fxhpc.protocol.states import PENDING

    indices = list(range(chosen.first, chosen.first + chosen.tasks))
    reader = Reader(client._attached().connection)
    found = reader.fetch({chosen.stream: indices}, outcomes=False, adopt=False)
    return sum(state.status in PENDING for state in found[chosen.stream].values())


def _tell_cancelled(cancelled: int, running: int) -> None:
    if output.wants_json():
        output.document({"cancelled": cancelled, "running": running})
        return
    from fxhpc.cli import explaining

    click.echo(f"{explaining.many(cancelled, 'task')} cancelled")
    if running:
        output.note(
            f"{running:,} not, since they run, or ran when their endpoint went away: --interrupt "
            f"ends them"
        )


def _has_store() -> bool:
    """Whether anything was ever submitted through the home: a look must not make one."""
    return output.home().store.exists()


def _client(*names: str) -> QuietClient:
    """A client of the home, whose forwarder is started if it has to be: the store is there.

    Raises:
        UsageError, InvalidUUID: one of them cannot be a task's name.
        TaskNotFound: the home has no store, and so none of these tasks.
    """
    from fxhpc.cli.explaining import QuietClient, check_name

    for name in names:
        check_name(name)
    if not _has_store():
        home = output.home().path
        raise errors.TaskNotFound(f"{', '.join(names)} (nothing was ever submitted from {home})")
    return QuietClient(home=output.home().path)


def _print_none(each: bool) -> None:
    if output.wants_json():
        output.document({"tasks": []} if each else {"batches": [], "total": 0})
    else:
        click.echo("no tasks")


def _print_streams(summaries: list[Any], names: dict[str, str], total: int) -> None:
    from fxhpc import ids
    from fxhpc.cli import explaining

    if output.wants_json():
        batches = [
            {
                "id": one.stream.hex()[: explaining.SHORT],
                "first_task_id": ids.task_id(one.stream, 0),
                "tasks": sum(one.counts.values()),
                "states": one.counts,
                "function_name": names.get(one.function_id, ""),
                "function_id": one.function_id,
                "endpoint": one.endpoint_name,
                "endpoint_id": one.endpoint,
                "submitted": one.created,
                "group": one.group,
                "reason": one.reason,
            }
            for one in summaries
        ]
        output.document({"batches": batches, "total": total})
        return
    if not summaries:
        click.echo("no tasks")
        return
    rows = [
        (
            explaining.short_id(one.stream, 0, sum(one.counts.values())),
            _function(one, names),
            one.endpoint_name,
            ", ".join(f"{count:,} {state}" for state, count in one.counts.items()),
            explaining.age(one.created),
        )
        for one in summaries
    ]
    output.table(("id", "function", "endpoint", "tasks", "age"), rows)
    told = {(one.endpoint_name, one.reason) for one in summaries if one.reason}
    for endpoint, reason in sorted(told):
        output.note(reason if endpoint in reason else f"{endpoint}: {reason}")
    if total > len(summaries):
        output.note(f"{total - len(summaries):,} older ones are not shown: --limit")


def _print_found(found: list[Found], names: dict[str, str], total: int) -> None:
    from fxhpc.cli import explaining

    if not found:
        click.echo("no tasks")
        return
    rows = [
        (
            explaining.short_id(one.summary.stream, one.first, one.tasks),
            _function(one.summary, names),
            one.summary.endpoint_name,
            f"{one.tasks:,} {one.status}",
            explaining.age(one.summary.created),
        )
        for one in found
    ]
    output.table(("id", "function", "endpoint", "tasks", "age"), rows)
    if (left := total - sum(one.tasks for one in found)) > 0:
        output.note(f"{explaining.many(left, 'older task')} not shown: --limit")
    output.note(f"what became of one: fxhpc task show {rows[0][0].partition('-')[0]}")


def _function(summary: StreamSummary, names: dict[str, str]) -> str:
    return names.get(summary.function_id, "-" if summary.keep else "(executor)")


def _print_tasks(found: list[dict[str, Any]]) -> None:
    from fxhpc import ids
    from fxhpc.cli import explaining

    if output.wants_json():
        output.document({"tasks": found})
        return
    if not found:
        click.echo("no tasks")
        return
    rows = [
        (
            explaining.short_id(*ids.parse_task_id(one["task_id"])),
            one["function_name"] or "-",
            one["endpoint"],
            one["status"],
            explaining.age(one["submitted"]),
        )
        for one in found
    ]
    output.table(("id", "function", "endpoint", "state", "age"), rows)
