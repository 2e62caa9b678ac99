"""The command `fxhpc-endpoint`: the verbs of funcX's `funcx-endpoint`, done by `fxhpc endpoint`."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click

from fxhpc.cli import actions, output
from fxhpc.cli.running import LazyGroup, run
from fxhpc.endpoint import lifecycle
from fxhpc.forwarder.home import HOME_VARIABLE
from fxhpc.protocol.provision import StopRequest
from fxhpc.version import __version__

#: What funcX calls an endpoint that nobody has named.
DEFAULT = "default"

_LATER = {"list": ("fxhpc.cli.status:list_endpoints", "List the home's endpoints.")}


def _use_home(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        context.find_root().ensure_object(output.Settings).home = value


def _print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"fxhpc {__version__}")
        context.exit()


_ORDER = ("configure", "start", "stop", "restart", "list", "delete", "version")


@click.group(
    cls=LazyGroup,
    lazy=_LATER,
    order=_ORDER,
    elsewhere={verb: f"fxhpc endpoint {verb} NAME" for verb in ("status", "logs", "check")},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-v", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Tell which fxhpc this is.",
)  # fmt: skip
@click.option("-d", "--debug", is_flag=True, help="Tell more on standard error.")
@click.option(
    "-c", "--config-dir", "--config_dir", metavar="DIRECTORY", expose_value=False,
    callback=_use_home, help=f"The home; {HOME_VARIABLE} or ~/.fxhpc by default.",
)  # fmt: skip
@output.common_options
def commands(debug: bool) -> None:
    """Configure, start and stop endpoints, by funcX's words. `fxhpc endpoint` can do more."""
    if debug:
        logging.basicConfig(level=logging.DEBUG)


def _name(function: Any) -> Any:
    return click.argument("name", default=DEFAULT)(function)


@commands.command()
@_name
@click.option("--endpoint-config", metavar="FILE", help="Copy this configuration.")
@output.common_options
def configure(name: str, endpoint_config: str | None) -> None:
    """Write the configuration of endpoint NAME, to be edited."""
    path = actions.configure(output.home(), name, endpoint_config or "local", force=False)
    output.say(f"endpoint {name!r} is configured in {path}")
    output.say(f"start it with: fxhpc-endpoint start {name}")
    if output.wants_json():
        output.document({"name": name, "config": path})


@commands.command()
@_name
@click.option("--endpoint-uuid", metavar="UUID", help="Not needed: an endpoint keeps its own.")
@click.option("--detach", is_flag=True, hidden=True, help="It always detaches.")
@output.common_options
def start(name: str, endpoint_uuid: str | None, detach: bool) -> None:
    """Start endpoint NAME."""
    if endpoint_uuid:
        output.note(
            "warning: --endpoint-uuid is ignored: an endpoint keeps the id that it was made with"
        )
    found = actions.start(output.home(), name, timeout_s=lifecycle.START_S)
    output.say(f"endpoint {name!r} is up: {found.sentence()}")
    output.say(f"its id is {found.endpoint}")
    if output.wants_json():
        output.document({"name": name, "endpoint_id": found.endpoint, "state": found.state})


@commands.command()
@_name
@click.option("--remote", is_flag=True, hidden=True)
@output.common_options
def stop(name: str, remote: bool) -> None:
    """Stop endpoint NAME, and cancel its batch jobs."""
    actions.stop(output.home(), name, StopRequest(), None)
    output.say(f"endpoint {name!r} is stopped")
    if output.wants_json():
        output.document({"name": name, "state": "stopped"})


@commands.command()
@_name
@click.option("--endpoint-uuid", metavar="UUID", hidden=True)
@output.common_options
def restart(name: str, endpoint_uuid: str | None) -> None:
    """Start endpoint NAME anew, with the batch jobs that it has."""
    found = actions.restart(output.home(), name, timeout_s=lifecycle.START_S)
    output.say(f"endpoint {name!r} is up again: {found.sentence()}")
    if output.wants_json():
        output.document({"name": name, "endpoint_id": found.endpoint, "state": found.state})


@commands.command()
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Stop it first, if it runs.")
@output.common_options
def delete(name: str, yes: bool, force: bool) -> None:
    """Remove endpoint NAME with its configuration, keys and logs."""
    actions.delete(output.home(), name, yes=yes, force=force)
    output.say(f"endpoint {name!r} is deleted")
    if output.wants_json():
        output.document({"name": name, "state": "deleted"})


@commands.command()
@output.common_options
def version() -> None:
    """Tell which fxhpc this is."""
    output.say(f"fxhpc {__version__}")
    if output.wants_json():
        output.document({"version": __version__})


@commands.command()
@output.common_options
def login() -> None:
    """Not needed: there is no account."""
    _nobody()


@commands.command()
@output.common_options
def logout() -> None:
    """Not needed: there is no account."""
    _nobody()


@commands.command()
@output.common_options
def whoami() -> None:
    """Tell whose endpoints these are."""
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    output.say(f"{user}, with the home {output.home().path}; fxhpc has no accounts")
    if output.wants_json():
        output.document({"user": user, "home": output.home().path})


def _nobody() -> None:
    text = "nothing to do: fxhpc has no accounts; the home's files say whose endpoints these are"
    output.say(text)
    if output.wants_json():
        output.document({"note": text})


def main(arguments: list[str] | None = None) -> int:
    """Run `fxhpc-endpoint` with these arguments, or this process's: its exit code."""
    return run(commands, "fxhpc-endpoint", arguments)


if __name__ == "__main__":
    sys.exit(main())
