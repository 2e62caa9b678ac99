"""The command `fxhpc task cancel`: which tasks are meant, and how many are cancelled."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.cli.task_home import check_endpoint, has_store, task_client

if TYPE_CHECKING:
    from fxhpc.cli.explaining import Named, QuietClient
    from fxhpc.client.sending.chunk_sizes import ChunkSizes


@click.command()
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

    The calls of a chunk are cancelled together: name it as `fxhpc task list` does, or all of them.

    The exit code is 1 if some of them run on, which --interrupt prevents. With --endpoint or
    --all-pending it asks first; where nobody is there to be asked, --yes is needed.
    """
    from fxhpc.cli import explaining

    _check_choice(names, endpoint, group, all_pending)
    if not names and not has_store():
        if group:
            raise errors.TaskGroupNotFound(group)
        check_endpoint(endpoint)
        _tell_cancelled(0, 0)
        return output.OK
    with task_client(*names) as client:
        if names:
            chosen = [explaining.named(client, name) for name in names]
            _check_whole(names, chosen, _check_known(client, chosen), interrupt)
            running = 0
        elif group:
            cancelled, running = explaining.cancel_group(client, group, interrupt)
            _tell_cancelled(cancelled, running)
            return output.FAILED if running else output.OK
        else:
            place = explaining.endpoint_of(client, endpoint) if endpoint else ""
            chosen, pending = _pending(client, place)
            if pending and not yes:
                which = f"--endpoint {shlex.quote(endpoint)}" if endpoint else "--all-pending"
                _make_sure(pending, which + " --interrupt" * interrupt + output.home_option())
        cancelled = explaining.cancel(client, chosen, interrupt)
        if names:
            running = sum(_still_running(client, one) for one in chosen)
        else:  # what was submitted meanwhile was not meant
            running = min(_pending(client, place)[1], max(0, pending - cancelled))
    _tell_cancelled(cancelled, running)
    if names and not cancelled and not running and not output.wants_json():
        output.note("what was named has ended before: fxhpc task show ID tells how")
    return output.FAILED if running else output.OK


def _check_choice(
    names: tuple[str, ...], endpoint: str | None, group: str | None, all_pending: bool
) -> None:
    """Make sure that it is said in one way which tasks are meant.

    Raises:
        UsageError: it is not said, or in several ways.
    """
    ways = {
        " ".join(names): bool(names),
        f"--endpoint {endpoint}": endpoint is not None,
        f"--group {group}": group is not None,
        "--all-pending": all_pending,
    }
    said = [way for way, is_said in ways.items() if is_said]
    if len(said) > 1:
        raise click.UsageError(
            f"{' and '.join(said)} cannot be given together: nothing was cancelled; give one of "
            f"them, and call again for the other"
        )
    if not said or "" in (endpoint, group):
        raise click.UsageError("name tasks, or give --endpoint NAME, --group UUID or --all-pending")


def _check_known(client: QuietClient, chosen: list[Named]) -> dict[bytes, ChunkSizes]:
    """Make sure that tasks exist before any of them is cancelled.

    Returns:
        How many calls those of them have that are chunks, by stream.

    Raises:
        TaskNotFound: some do not.
    """
    from fxhpc import ids
    from fxhpc.client.cancelling import sizes_of
    from fxhpc.client.tasks import Reader
    from fxhpc.protocol.states import UNKNOWN

    asked: dict[bytes, list[int]] = {}
    for one in chosen:
        asked.setdefault(one.stream, []).append(one.first)
    found = Reader(client._attached().connection).fetch(asked, outcomes=False, adopt=False)
    unknown = [
        ids.task_id(one.stream, one.first)
        for one in chosen
        if (state := found[one.stream].get(one.first)) is None or state.status == UNKNOWN
    ]
    if unknown:
        raise errors.TaskNotFound(", ".join(unknown))
    return sizes_of(asked, Reader(client._attached().connection))


def _check_whole(
    names: tuple[str, ...],
    chosen: list[Named],
    sizes: dict[bytes, ChunkSizes],
    interrupt: bool,
) -> None:
    """Make sure that no call of a chunk is cancelled that nobody named: a worker makes all of them.

    Args:
        names: what was given.
        chosen: the task of each, or several.
        sizes: how many calls the chunks have, by stream.
        interrupt: for what to do, in the error's text.

    Raises:
        TaskNotFound: a chunk has no such call.
        UsageError: of a chunk some calls are named.
    """
    from fxhpc import ids
    from fxhpc.cli import explaining

    calls: dict[tuple[bytes, int], dict[int, str]] = {}
    whole: list[Named] = []
    for name, one in zip(names, chosen, strict=True):
        if one.stream not in sizes:
            continue
        if explaining.check_name(name) is not None:  # as lists do
            whole.append(one)
            continue
        index, call = ids.locate(*ids.parse_task_id(name))
        if call >= (size := sizes[one.stream][index]):
            chunk = explaining.short_id(one.stream, index)
            raise errors.TaskNotFound(name, f"Chunk {chunk} has {explaining.many(size, 'call')}.")
        calls.setdefault((one.stream, index), {})[call] = name
    for (stream, index), named in calls.items():
        if len(named) < sizes[stream][index] and not any(
            stream == one.stream and one.first <= index < one.first + one.tasks for one in whole
        ):
            chunk = explaining.short_id(stream, index)
            raise errors.UsageError(
                f"nothing was cancelled: {next(iter(named.values()))} is one of the "
                f"{sizes[stream][index]:,} calls of a chunk, which are cancelled together; name "
                f"the chunk: fxhpc task cancel {chunk}{' --interrupt' * interrupt}"
                f"{output.home_option()}; or all of its calls"
            )


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
    from fxhpc.client.shown import listing
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
