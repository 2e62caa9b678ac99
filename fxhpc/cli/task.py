"""The commands `fxhpc task list|show|explain`; `cancel` has a module of its own."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from fxhpc.cli import output
from fxhpc.cli.task_cancel import cancel
from fxhpc.cli.task_home import check_endpoint, has_store, task_client
from fxhpc.units import format_bytes

if TYPE_CHECKING:
    from fxhpc.cli.explaining import Found
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
@click.option("--label", metavar="TEXT", help="With this label alone.")
@click.option("--group", metavar="UUID", help="Of this task group alone.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="So many lines at most.",
)
@click.option("--all", "each", is_flag=True, help="A line for each task, not for each batch.")
@output.common_options
def list_tasks(
    endpoint: str | None,
    states: tuple[str, ...],
    label: str | None,
    group: str | None,
    limit: int,
    each: bool,
) -> None:
    """List tasks, the newest first: a line for each batch.

    With --state failed, cancelled or running, a line for those tasks of it, by their numbers.
    """
    from fxhpc.cli import explaining
    from fxhpc.client.shown import listing

    wanted = listing.wanted_states(states or None)
    if not has_store():
        check_endpoint(endpoint)
        _print_none(each)
        return
    with task_client() as client:
        place = explaining.endpoint_of(client, endpoint) if endpoint else ""
        which = explaining.group_of(client, group) if group else "", label or ""
        if each:
            _print_tasks(listing.tasks(client.ask, place, wanted or None, limit, *which))
        elif wanted and _NAMED.issuperset(wanted) and not output.wants_json():
            found, total = explaining.find(client, place, wanted, *which)
            names = listing.function_names(client.ask, [one.summary for one in found])
            _print_found(found[:limit], names, total)
        else:
            answer = listing.streams(client.ask, place, wanted or None, limit, b"", *which)
            names = listing.function_names(client.ask, answer.streams)
            _print_streams(answer.streams, names, answer.total)


@task.command(short_help="Show all that is known of a task.")
@click.argument("name", metavar="ID")
@output.common_options
def show(name: str) -> None:
    """Show all that is known of a task: where it ran, when, its result or error, its output."""
    from fxhpc.cli import explaining

    with task_client(name) as client:
        known = explaining.named_one(client, name)
        told = explaining.describe(client, known, *client.look(known))
    if output.wants_json():
        output.document(told)
        return
    about = "about " if told.pop("times", "") else ""
    for key, value in told.items():
        if key in ("submitted", "queued") or key.endswith(("started", "ended")):
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
            is_about = about if key in ("started", "ended") else ""
            value = f"{is_about}{at} ({explaining.ago(value)})"
        elif key == "peak_memory":
            value = format_bytes(value)
        elif key == "attempts":
            value = "\n".join(f"{number}. {story}" for number, story in enumerate(value, 1))
        elif key == "labels":
            value = ", ".join(value)
        elif key == "metadata":
            value = json.dumps(value, ensure_ascii=False)
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
    from fxhpc.cli import explaining, task_advice

    with task_client(name) as client:
        known = explaining.named_one(client, name)
        told = explaining.describe(client, known, *client.look(known))
        sentences, advice = task_advice.explain(client, told)
    if output.wants_json():
        keep = ("task_id", "status", "reason", "endpoint", "endpoint_id")
        found = {key: told[key] for key in keep if key in told}
        output.document({**found, "explanation": sentences, "what_to_do": advice})
        return
    for sentence in sentences:
        click.echo(sentence)
    click.echo(f"What to do: {advice.rstrip('.')}.")


task.add_command(cancel)


def _print_none(each: bool) -> None:
    if output.wants_json():
        output.document({"tasks": []} if each else {"batches": [], "total": 0})
    else:
        click.echo("no tasks")


def _print_streams(summaries: list[Any], names: dict[str, str], total: int) -> None:
    from fxhpc import ids
    from fxhpc.cli import explaining
    from fxhpc.client.declared.labels import noted

    if output.wants_json():
        batches = [
            {
                "id": one.stream.hex()[: explaining.SHORT],
                "first_task_id": ids.task_id(one.stream, 0),
                "tasks": sum(one.counts.values()),
                "calls": one.calls,
                "states": one.counts,
                "function_name": names.get(one.function_id, ""),
                "function_id": one.function_id,
                "endpoint": one.endpoint_name,
                "endpoint_id": one.endpoint,
                "submitted": one.created,
                "group": one.group,
                "reason": one.reason,
                **noted(one),
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
            ", ".join(f"{count:,} {state}" for state, count in one.counts.items())
            + (f" (each up to {one.calls:,} calls)" if one.calls else ""),
            explaining.age(one.created),
            ", ".join(one.labels),
        )
        for one in summaries
    ]
    columns = ("id", "function", "endpoint", "tasks", "age", "labels")
    shown = len(columns) if any(one.labels for one in summaries) else -1
    output.table(columns[:shown], [row[:shown] for row in rows])
    if groups := {one.group for one in summaries if one.group}:
        if len(groups) == 1:
            output.note(f"their task group: {groups.pop()}")
        else:
            output.note(f"the task group of one: fxhpc task show {rows[0][0].partition('-')[0]}")
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


def _place(task_id: str) -> tuple[bytes, int]:
    """The stream of a task, and its number there; a chunk is listed by the id of its first call."""
    from fxhpc import ids

    stream, number = ids.parse_task_id(task_id)
    return stream, ids.locate(stream, number)[0]


def _print_tasks(found: list[dict[str, Any]]) -> None:
    from fxhpc.cli import explaining

    if output.wants_json():
        output.document({"tasks": found})
        return
    if not found:
        click.echo("no tasks")
        return
    rows = [
        (
            explaining.short_id(*_place(one["task_id"])),
            one["function_name"] or "-",
            one["endpoint"],
            one["status"],
            explaining.age(one["submitted"]),
        )
        for one in found
    ]
    output.table(("id", "function", "endpoint", "state", "age"), rows)
