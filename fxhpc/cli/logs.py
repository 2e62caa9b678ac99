"""`fxhpc endpoint logs`: shows or follows what an endpoint's processes have written."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.endpoint import places
from fxhpc.endpoint.logs import Follower, last_lines
from fxhpc.interchange.directory import EndpointDirectory

_POLL_S = 0.2
#: Lines of a log that are looked through.
_LOOKED_AT = 100_000


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True)
@click.option("--supervisor", is_flag=True, help="The supervisor's log.")
@click.option("--provisioner", is_flag=True, help="The provisioner's log.")
@click.option("--manager", metavar="ID", help="A manager's log; a part of its id will do.")
@click.option("--block", metavar="N", help="What block N's job and its managers wrote.")
@click.option("--path", "path_only", is_flag=True, help="Print where the files are, and no more.")
@output.common_options
def logs(
    name: str,
    follow: bool,
    lines: int,
    supervisor: bool,
    provisioner: bool,
    manager: str | None,
    block: str | None,
    path_only: bool,
) -> None:
    """Show the last lines of endpoint NAME's interchange, or of another of its processes."""
    if supervisor + provisioner + (manager is not None) + (block is not None) > 1:
        raise click.UsageError("--supervisor, --provisioner, --manager, --block: choose one")
    directory = places.find(output.home(), name)
    try:
        which = "supervisor" if supervisor else "provisioner" if provisioner else "interchange"
        paths = find_logs(directory, name, which, manager, block)
    except errors.EndpointError:
        told = _told_of(directory, block) if block is not None else []
        if not told:
            raise
        # A job that was refused has no log of its own.
        if output.wants_json():
            output.document({"name": name, "logs": [{"path": directory.log, "lines": told}]})
        else:
            output.note(f"block {block} has left no log; what {directory.log} tells of it:")
            for line in told[-lines:] if lines else []:
                click.echo(line)
        return
    if output.wants_json():
        found = [{"path": path} if path_only else _with_lines(path, lines) for path in paths]
        output.document({"name": name, "logs": found})
        return
    if path_only:
        for path in paths:
            click.echo(path)
        return
    followers = [Follower(path) for path in paths]
    try:
        for path, follower in zip(paths, followers, strict=True):
            if len(paths) > 1:
                click.echo(f"==> {path} <==")
            for line in last_lines(path, lines, end=follower.position):
                click.echo(line)
        if follow:
            _follow(followers)
    finally:
        for follower in followers:
            follower.close()


def find_logs(
    directory: EndpointDirectory, name: str, which: str, manager: str | None, block: str | None
) -> list[Path]:
    """The files that hold a log; one process's is there even if nothing was written yet.

    Raises:
        EndpointError: there is none of this manager or block.
    """
    if manager is None and block is None:
        return [directory.logs / f"{which}.log"]
    # manager-BLOCK-HOST-ID.log; a block's script, its output and its errors are named by it.
    if block is not None:
        found = sorted(
            path
            for path in directory.blocks.glob(f"fxhpc-{name}-*-{block}.*")
            if path.suffix in (".stdout", ".stderr", ".out", ".err")  # the last two: no scheduler's
        )
        found += sorted(directory.manager_logs.glob(f"manager-{block}-*.log"))
        what = f"block {block}"
    else:
        found = sorted(directory.manager_logs.glob(f"manager-*-{manager}*.log"))
        what = f"manager {manager}"
    if not found:
        raise errors.EndpointError(
            name,
            f"{what} of endpoint {name!r} has left no log in {directory.manager_logs} or "
            f"{directory.blocks}",
            f"what runs is listed by: fxhpc endpoint status {name}; what became of others, such as "
            f"jobs that were refused, is told by: fxhpc endpoint logs {name}",
        )
    return found


def _told_of(directory: EndpointDirectory, block: str) -> list[str]:
    """What the interchange's log tells of a block."""
    of_it = re.compile(rf"\bblock {re.escape(block)}\b")
    found = []
    for path in (directory.log.with_name(f"{directory.log.name}.1"), directory.log):
        found += [line for line in last_lines(path, _LOOKED_AT) if of_it.search(line)]
    return found


def _with_lines(path: Path, count: int) -> dict[str, object]:
    return {"path": path, "lines": last_lines(path, count)}


def _follow(followers: list[Follower]) -> None:
    try:
        while True:
            for follower in followers:
                for line in follower.read():
                    click.echo(line)
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        pass  # how one stops looking on
