"""The commands `fxhpc forwarder start|restart|status`: where a home's is, and who it is to be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.units import format_duration
from fxhpc.version import __version__

if TYPE_CHECKING:
    from fxhpc.forwarder.home import ForwarderAddress


@click.group()
@output.common_options
def forwarder() -> None:
    """See where the home's forwarder is; start it, here if it must be.

    Whoever needs it starts it by itself. These commands are for homes that several hosts see.
    """


@forwarder.command()
@click.option(
    "--take-over",
    is_flag=True,
    help="Start it here, though another host may still have one that cannot be asked.",
)
@output.common_options
def start(take_over: bool) -> None:
    """Start the home's forwarder, if there is none.

    It leaves a minute after its last client and endpoint. With --take-over it also begins where
    another host has one: that one writes nothing to the store any more, and ends as soon as it can
    see the home's files.
    """
    from fxhpc.forwarder.attach import ensure_forwarder

    _tell(ensure_forwarder(output.home().path, take_over=take_over))


@forwarder.command(short_help="Put another forwarder in the place of the home's.")
@output.common_options
def restart() -> None:
    """Put another forwarder in the place of the home's, as the fxhpc that is installed now.

    Nothing is lost: programs that are attached attach again by themselves, and tasks run on.
    """
    from fxhpc.forwarder.restarting import restart_forwarder

    before, found = restart_forwarder(output.home())
    if before is not None and not output.wants_json():
        click.echo(f"the one before, fxhpc {before.version}, pid {before.pid}, has ended")
    _tell(found)


@forwarder.command(short_help="Tell where the home's forwarder runs, since when.")
@output.common_options
def status() -> None:
    """Tell on which host the home's forwarder runs, since when, and where it listens."""
    from fxhpc.forwarder.attach import find_forwarder

    home = output.home()
    before = home.read_owner()
    try:
        found = find_forwarder(home)
    except errors.ForwarderUnreachable as error:
        if not output.wants_json() or before is None:
            raise
        output.document({**_as_json(before), "state": "unknown", "why": str(error)})
        return
    if found is not None:
        _tell(found)
    elif output.wants_json():
        output.document({"home": home.path, "state": "none"})
    else:
        click.echo(f"no forwarder of {home.path} runs; whoever needs it starts it")


def _tell(found: ForwarderAddress) -> None:
    before = output.home().read_owner() or found  # which has its pid, on another host too
    if output.wants_json():
        output.document({**_as_json(before), "state": "running"})
        return
    since = f" for {format_duration(max(0.0, time.time() - before.since))}" if before.since else ""
    where = f"listens for other hosts at {before.hosts}" if before.hosts else "for this host alone"
    click.echo(
        f"the forwarder of {output.home().path} runs on {before.host}, pid {before.pid}{since}, "
        f"as fxhpc {before.version}; {where}"
    )
    if before.version != __version__:
        click.echo(
            f"this command is fxhpc {__version__}; after an upgrade, fxhpc forwarder restart "
            f"takes it up, and loses nothing"
        )


def _as_json(found: ForwarderAddress) -> dict[str, Any]:
    return {
        "home": output.home().path,
        "host": found.host,
        "pid": found.pid,
        "since": found.since,
        "epoch": found.epoch,
        "version": found.version,
        "listens_for_other_hosts": found.hosts.split(),
    }
