"""The command `fxhpc`: its groups, each imported when it is used."""

from __future__ import annotations

import sys

import click

from fxhpc.cli import output
from fxhpc.cli.running import LazyGroup, run
from fxhpc.version import __version__

_GROUPS = {
    "endpoint": ("fxhpc.cli.endpoint:endpoint", "Configure, start, stop and look at endpoints."),
    "task": ("fxhpc.cli.task:task", "List, explain and cancel tasks."),
    "store": ("fxhpc.cli.store:store", "See what the store holds, make room, set its limits."),
    "access": ("fxhpc.cli.access:access", "Let clients on other hosts use the home."),
    "doctor": ("fxhpc.cli.doctor:doctor", "Find what may keep fxhpc from working here."),
    "forwarder": ("fxhpc.cli.forwarder:forwarder", "See where the forwarder is; take it over."),
    "config": ("fxhpc.cli.config:config", "Check endpoint configurations; their JSON schema."),
    "connect": ("fxhpc.cli.connect:connect", "Serve a client that came by ssh; it runs this."),
    "manager": ("fxhpc.cli.manager:manager", "Join a running endpoint from inside an allocation."),
}


@click.group(cls=LazyGroup, lazy=_GROUPS, context_settings={"help_option_names": ["-h", "--help"]})
@output.common_options
@click.version_option(__version__, "-V", "--version", message="fxhpc %(version)s")
def commands() -> None:
    """Run Python functions on your own supercomputers."""


@commands.command()
@output.common_options
def version() -> None:
    """Tell which fxhpc this is."""
    if output.wants_json():
        output.document({"version": __version__, "python": sys.version.split()[0]})
    else:
        click.echo(f"fxhpc {__version__}")


def main(arguments: list[str] | None = None) -> int:
    """Run `fxhpc` with these arguments, or this process's: its exit code."""
    return run(commands, "fxhpc", arguments)


if __name__ == "__main__":
    sys.exit(main())
