"""`fxhpc endpoint`: configure, start, stop and look at endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fxhpc.cli import actions, output
from fxhpc.cli.running import LazyGroup
from fxhpc.durations import parse_duration
from fxhpc.endpoint import lifecycle, places
from fxhpc.protocol.provision import StopRequest

_LATER = {
    "status": ("fxhpc.cli.status:status", "Tell what endpoints do, and why nothing runs."),
    "list": ("fxhpc.cli.status:list_endpoints", "List the home's endpoints."),
    "logs": ("fxhpc.cli.logs:logs", "Show or follow an endpoint's logs."),
    "check": ("fxhpc.cli.check:check", "Try an endpoint's configuration without starting it."),
}


if TYPE_CHECKING:
    FloatType = click.ParamType[float]
else:
    FloatType = click.ParamType  # which older versions of click do not parametrise


class Duration(FloatType):
    """Seconds, as people write them."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds of "90", "60s", "1h30m"."""
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()


_ORDER = ("configure", "check", "start", "status", "list", "logs", "restart", "stop", "delete")


@click.group(cls=LazyGroup, lazy=_LATER, order=_ORDER)
@output.common_options
def endpoint() -> None:
    """Configure, start, stop and look at endpoints."""


@endpoint.command()
@click.argument("name")
@click.option(
    "--from",
    "source",
    default="local",
    metavar="FILE|" + "|".join(actions.KINDS),
    help="What to begin with: a file, or an example for a batch system. `local` by default.",
)
@click.option("--force", is_flag=True, help="Write the configuration anew if there is one.")
@click.option(
    "--set",
    "variables",
    metavar="KEY=VALUE",
    multiple=True,
    help="A value for a variable of FILE, if it is a template; may be given several times.",
)
@output.common_options
def configure(name: str, source: str, force: bool, variables: tuple[str, ...]) -> None:
    """Write the configuration of endpoint NAME, to be edited."""
    from fxhpc.cli.config import assignments  # here: the other commands start without pydantic

    path = actions.configure(output.home(), name, source, force, assignments(variables))
    output.say(f"endpoint {name!r} is configured in {path}")
    output.say(f"edit that file, then: fxhpc endpoint check {name}; fxhpc endpoint start {name}")
    if output.wants_json():
        output.document({"name": name, "config": path})


@endpoint.command()
@click.argument("name")
@click.option("--foreground", is_flag=True, help="Stay, and log to this terminal, until stopped.")
@click.option(
    "--timeout", type=DURATION, default=lifecycle.START_S, help="How long it may take to be up."
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Start it though another host of this home had it, which is surely dead.",
)
@output.common_options
def start(name: str, foreground: bool, timeout: float, take_over: bool) -> None:
    """Start endpoint NAME; returns when it is up, or says why it is not."""
    found = actions.start(
        output.home(), name, timeout_s=timeout, foreground=foreground, take_over=take_over
    )
    output.say(f"endpoint {name!r} is up: {found.sentence()}")
    if output.wants_json():
        output.document(_described(name))


@endpoint.command()
@click.argument("name")
@click.option("--keep-blocks", is_flag=True, help="Leave its batch jobs for the next start.")
@click.option("--drain", type=DURATION, help="How long running tasks may take to end.")
@click.option("--now", is_flag=True, help="Do not wait for running tasks; they run again later.")
@click.option("--timeout", type=DURATION, help="Kill what has not ended after so long.")
@output.common_options
def stop(
    name: str, keep_blocks: bool, drain: float | None, now: bool, timeout: float | None
) -> None:
    """Stop endpoint NAME: running tasks may end, its batch jobs are cancelled."""
    if now and drain is not None:
        raise click.UsageError("--now does not wait, --drain says how long to wait: choose one")
    request = StopRequest(keep_blocks=keep_blocks, drain_s=0.0 if now else drain)
    ran = actions.stop(output.home(), name, request, timeout)
    done = "is stopped" if ran else "was not running"
    jobs = "its jobs go on, for the next start" if keep_blocks else "it has no jobs any more"
    output.say(f"endpoint {name!r} {done}; {jobs}")
    home = output.home()
    record = places.find(home, name).read_record()
    waiting = actions.waiting_tasks(home, record.endpoint) if record is not None else 0
    if waiting:
        from fxhpc.cli.explaining import many  # here: the client is imported by now

        what = many(waiting, "task")
        if keep_blocks:
            output.say(f"{what} of it have not ended: they go on with its jobs, and when it starts")
        else:
            output.say(
                f"{what} of it have not ended: they wait for it to be started again, and what was "
                f"cut off begins anew"
            )
    if output.wants_json():
        said = {"ran": ran, "kept_blocks": keep_blocks, "waiting_tasks": waiting}
        output.document({"name": name, "state": "stopped", **said})


@endpoint.command()
@click.argument("name")
@click.option(
    "--timeout", type=DURATION, default=lifecycle.START_S, help="How long each half may take."
)
@click.option("--take-over", is_flag=True, help="As `start` has it.")
@output.common_options
def restart(name: str, timeout: float, take_over: bool) -> None:
    """Start endpoint NAME anew, with its running and pending batch jobs."""
    found = actions.restart(output.home(), name, timeout_s=timeout, take_over=take_over)
    output.say(f"endpoint {name!r} is up again: {found.sentence()}")
    if output.wants_json():
        output.document(_described(name))


@endpoint.command()
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


def _described(name: str) -> dict[str, Any]:
    from fxhpc.cli.status import describe  # here: tables are not needed to start an endpoint

    return describe(places.find(output.home(), name))
