"""The commands `fxhpc store export|keep|move`: results outside, for longer, and elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from fxhpc import errors
from fxhpc.cli import output


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--group", metavar="ID", help="Of this task group alone.")
@click.option("--endpoint", metavar="NAME", help="Of this endpoint alone: its name or UUID.")
@output.common_options
def export(directory: Path, group: str | None, endpoint: str | None) -> None:
    """Write tasks, results and functions into a new DIRECTORY, readable without fxhpc.

    tasks.jsonl has a line of JSON for each task. Results that JSON does not know are pickles in
    files beside it. In Python: fxhpc.load_export(DIRECTORY). The store stays as it is; to make room
    then: fxhpc store purge. Tasks of Executors without a group are not kept, and are left out.
    """
    from fxhpc.cli import explaining
    from fxhpc.client.exporting import export as write

    if not output.home().has_store():
        raise errors.UsageError(f"the home {output.home().path} has no store: nothing to export")
    with explaining.QuietClient(home=output.home().path) as client:
        place = explaining.endpoint_of(client, endpoint) if endpoint else ""
        named = explaining.group_of(client, group) if group else ""
        done = write(client.ask, client.reader, directory, named, place)
    if output.wants_json():
        told = {"tasks": done.tasks, "pending": done.pending, "files": done.files}
        output.document({"directory": directory.absolute(), **told})
        return
    text = f"{explaining.many(done.tasks, 'task')} written to {directory}"
    if done.pending:
        text += f", {done.pending:,} of which had not ended"
    click.echo(text)


@click.command()
@click.argument("group", metavar="GROUP")
@click.option("--days", type=click.FloatRange(min=0.001), help="How long; --days 365.")
@click.option("--default", is_flag=True, help="As long as all others again.")
@output.common_options
def keep(group: str, days: float | None, default: bool) -> None:
    """Keep the results of a task group for another time than the store's retention.

    It counts from when they ended or were last asked for. A purge by age leaves them until then; a
    purge of the group, of all that has ended, or of everything does not.
    """
    from fxhpc.cli import explaining
    from fxhpc.forwarder.limits import keep_group

    if (days is None) == (not default):
        raise click.UsageError("say how long: --days N, or --default")
    with explaining.QuietClient(home=output.home().path) as client:
        named = explaining.group_of(client, group)
    keep_group(output.home(), named, None if days is None else days * 86400.0)
    if output.wants_json():
        output.document({"group": named, "days": days})
    elif days is None:
        click.echo(f"group {named} is kept as long as all others")
    else:
        click.echo(f"group {named} is kept for {days:g} days")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@click.option("--back", is_flag=True, help="Into the home again.")
@output.common_options
def move(directory: Path | None, back: bool) -> None:
    """Move the store into a new DIRECTORY, such as one of a file system with more room.

    The home stays where it is. Its forwarder is ended for that, and started again by whoever needs
    it: clients that wait for more than some seconds meanwhile are told that there is none. A host
    that does not see the directory cannot use the home.
    """
    from fxhpc.forwarder.store.moving import move_store

    if (directory is None) == (not back):
        raise click.UsageError("say where to: DIRECTORY, or --back")
    home = output.home()
    home.create()
    place = move_store(home, directory)
    if output.wants_json():
        output.document({"home": home.path, "store": place})
    else:
        click.echo(f"the store of {home.path} is in {place}")
