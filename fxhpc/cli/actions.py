"""What commands do with an endpoint, for `fxhpc endpoint` and `fxhpc-endpoint` alike."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.endpoint import lifecycle, places
from fxhpc.endpoint.host_scripts import run_script
from fxhpc.endpoint.leftovers import left_blocks, outdated_blocks
from fxhpc.endpoint.state import EndpointState, look
from fxhpc.forwarder.attach import ensure_forwarder, find_forwarder, module_environment
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory, replace_file
from fxhpc.protocol.provision import InterchangeSpec, StopRequest
from fxhpc.site import SITE_FILE
from fxhpc.site.reading import current
from fxhpc.units import format_duration

if TYPE_CHECKING:
    from fxhpc.endpoint.configuration.config import EndpointConfig

#: What `configure --from` knows beside files and machines.
KINDS = ("local", "slurm", "pbs")

_TICK_S = 5.0


def configure(
    home: Home, name: str, source: str, force: bool, variables: Mapping[str, Any] | None = None
) -> Path:
    """Write an endpoint's configuration: the path of it.

    Args:
        source: a kind of `KINDS`, a machine that there is one for, or a file to copy.
        variables: for a file that is a template.

    Raises:
        EndpointExists: it has one, and `force` is not given.
        ConfigError: the file holds none.
    """
    places.check_name(name)
    existing = home.endpoints / name / "config.yaml"
    if existing.exists() and not force:
        raise errors.EndpointExists(
            name,
            f"endpoint {name!r} is configured already, in {existing}",
            f"edit that file; or write it anew with: fxhpc endpoint configure {name} --force",
        )
    from fxhpc.endpoint.configuration.config import template

    path = Path(source)
    is_name = source in KINDS or (path.name == source and not path.suffix and not path.exists())
    if is_name and variables:
        raise errors.UsageError(
            f"{source!r} is no template that --set could fill in; edit what is written"
        )
    text = template(source) if is_name else _validated(path, variables)
    directory = places.create(home, name)
    with places.explained(name, directory.path):
        replace_file(directory.config, text.encode())
    return directory.config


def _validated(source: Path, variables: Mapping[str, Any] | None) -> str:
    """The text of a configuration; what Globus Compute has in two files becomes one."""
    from fxhpc.endpoint.configuration.config import config_text, load_config

    for warning in load_config(source, variables).warnings:
        output.note(f"warning: {warning}")
    return config_text(source, variables)


def load_spec(directory: EndpointDirectory, name: str, to_end: bool = False) -> InterchangeSpec:
    """What the endpoint's configuration makes of its processes.

    Args:
        to_end: for what is left of it to be ended: what a site file allows is not asked then.

    Raises:
        EndpointUnknown: it has no configuration.
        ConfigError: it cannot be used.
    """
    from fxhpc.endpoint.specs import interchange_spec

    config = _configuration(directory, name, to_end)
    for warning in config.warnings:
        output.note(f"warning: {warning}")
    state = places.state_directory(directory, name, config.state_dir)
    return interchange_spec(config, name, EndpointDirectory(directory.path, state))


def _configuration(directory: EndpointDirectory, name: str, to_end: bool = False) -> EndpointConfig:
    from fxhpc.endpoint.configuration.config import load_config

    if not directory.config.exists():
        raise errors.EndpointUnknown(
            name,
            f"endpoint {name!r} has no configuration: {directory.config} is not there",
            f"write it with: fxhpc endpoint configure {name}",
        )
    return load_config(directory.config, site_file="" if to_end else SITE_FILE)


def _drain_s(directory: EndpointDirectory, name: str) -> float:
    """How long running tasks have when it stops. It must stop whatever its file says by now."""
    try:
        return _configuration(directory, name, to_end=True).settings.stop_timeout
    except errors.FxhpcError:
        return InterchangeSpec().drain_s


def _set_up(directory: EndpointDirectory, name: str) -> None:
    """Run what the configuration wants to be run on this host before the endpoint starts.

    Raises:
        EndpointStartFailed: it failed.
    """
    script = _configuration(directory, name).settings.endpoint_setup
    trouble = run_script("endpoint_setup", script, directory.logs / "setup.log")
    if trouble:
        raise errors.EndpointStartFailed(
            name,
            f"endpoint {name!r} was not started: {trouble}",
            f"mend it in {directory.config}; the script's output is in "
            f"{directory.logs / 'setup.log'}",
        )


def _tear_down(directory: EndpointDirectory, name: str) -> None:
    """Run what it wants to be run after the endpoint has stopped."""
    try:
        script = _configuration(directory, name, to_end=True).settings.endpoint_teardown
    except errors.FxhpcError:
        return  # it cannot be read any more; the endpoint is stopped all the same
    trouble = run_script("endpoint_teardown", script, directory.logs / "setup.log")
    if trouble:
        output.note(f"warning: endpoint {name!r} is stopped, but {trouble}")


def _own(home: Home, name: str) -> EndpointDirectory:
    """The endpoint's directory; if it is a copy of another's, without what is that one's."""
    directory = places.find(home, name)
    original = places.original_of(home, directory)
    if original:
        output.note(f"endpoint {name!r} is a copy of {original!r}: it gets an id of its own")
        directory = places.make_own(directory)
    return directory


def start(
    home: Home, name: str, *, timeout_s: float, foreground: bool = False, take_over: bool = False
) -> EndpointState:
    """Start an endpoint; returns when it is up. In the foreground it does not return.

    Raises:
        EndpointError, ConfigError: it is not up; the text says why.
    """
    directory = _own(home, name)
    lifecycle.refuse_if_running(look(directory), take_over)
    site = current()
    if site is not None and site.message:
        output.note(f"{platform.node()}: {site.message}")
    spec = load_spec(directory, name)
    if spec.addresses:
        from fxhpc.endpoint.check import address_trouble  # here: seldom needed

        if trouble := address_trouble(spec.addresses):
            output.note(f"warning: address: {trouble.text}; {trouble.hint}")
    directory = lifecycle.prepare(home, name, spec, take_over)
    _set_up(directory, name)
    if foreground:
        _become_supervisor(directory, spec)
    lifecycle.start(directory, name, spec, timeout_s)
    try:
        ensure_forwarder(home.path)  # tasks that were submitted before wait there
    except errors.FxhpcError as error:
        output.note(f"warning: endpoint {name!r} is up, but its home is not served: {error}")
    state = look(directory)
    if not state.alive:
        raise errors.EndpointStartFailed(
            name,
            f"endpoint {name!r} was up, and has ended again: it is {state.state}"
            + (f", {state.trouble}" if state.trouble else ", which another command has done"),
            f"see: fxhpc endpoint logs {name}",
        )
    if count := outdated_blocks(directory, spec):
        go, were, end = "blocks go", "they were", "they end"
        if count == 1:
            go, were, end = "block goes", "it was", "it ends"
        output.note(
            f"note: {count} {go} on with the configuration that {were} started with; {end} when "
            f"idle, or at once by: fxhpc endpoint stop {name}"
        )
    return state


def _become_supervisor(directory: EndpointDirectory, spec: InterchangeSpec) -> NoReturn:
    """Replace this process by the supervisor: who started it sees its pid and its end."""
    data = os.memfd_create("spec")
    os.write(data, msgspec.msgpack.encode(spec))
    os.lseek(data, 0, os.SEEK_SET)
    os.dup2(data, 0)
    report, words = -1, ["foreground"]
    if output.wants_json():
        report = os.dup(1)
        os.set_inheritable(report, True)
        words.append("json")
    command = [*lifecycle.supervisor_command(directory), str(report), *words]
    sys.stdout.flush()
    os.chdir("/")
    os.execve(command[0], command, module_environment())


def stop(home: Home, name: str, request: StopRequest, timeout_s: float | None) -> bool:
    """Stop an endpoint, and see that nothing of it is left: whether anything of it ran.

    Blocks that a killed endpoint has left behind are cancelled too.

    Raises:
        EndpointNotRunning: it does not run, and has left nothing.
        EndpointElsewhere, EndpointStopFailed: it does run, or something is left.
    """
    directory = places.find(home, name)
    if places.original_of(home, directory):
        raise lifecycle.not_running(name)  # what its files tell of is the other's
    state = look(directory)
    here = state.alive or state.elsewhere
    if not here and (request.keep_blocks or not left_blocks(directory)):
        raise lifecycle.not_running(name)
    limit = timeout_s
    if limit is None:
        drain = request.drain_s
        limit = lifecycle.STOP_MARGIN_S
        limit += _drain_s(directory, name) if drain is None else drain
    if here:
        trouble = lifecycle.stop(state, directory, request, limit, _teller(name))
        if trouble:
            output.note(f"warning: {trouble}; the endpoint was stopped as its configuration says")
        _refuse_if_started_again(directory, name)
        _tear_down(directory, name)
    if not state.interchange and not request.keep_blocks and left_blocks(directory):
        # It was killed: nobody has asked the batch system yet.
        output.progress(f"cancelling what endpoint {name!r} has left behind")
        spec = load_spec(directory, name, to_end=True)
        lifecycle.cancel_left_blocks(directory, name, spec, limit)
    if not request.keep_blocks and (left := left_blocks(directory)):
        raise errors.EndpointStopFailed(
            name,
            f"endpoint {name!r} is stopped, but not all of its jobs could be cancelled: "
            f"{'; '.join(left)}",
            "stop it again when the batch system answers, or cancel them by its own commands",
        )
    return state.alive


def _refuse_if_started_again(directory: EndpointDirectory, name: str) -> None:
    """Another command may have started the endpoint as soon as it was stopped: what it has now is
    that one's.
    """
    state = look(directory)
    if state.alive:
        raise errors.EndpointStopFailed(
            name,
            f"endpoint {name!r} was stopped, and another command has started it again: it is "
            f"{state.sentence()}",
            f"if it is to stop all the same: fxhpc endpoint stop {name}",
        )


def _teller(name: str) -> Callable[[float], None]:
    """Says now and then that it still waits."""
    told = 0.0

    def tell(spent_s: float) -> None:
        nonlocal told
        if spent_s - told >= _TICK_S:
            told = spent_s
            output.progress(
                f"endpoint {name!r} stops since {format_duration(spent_s)}: running tasks may "
                f"end, jobs are cancelled"
            )

    return tell


def restart(home: Home, name: str, *, timeout_s: float, take_over: bool = False) -> EndpointState:
    """Start an endpoint anew, with the blocks that it has.

    Raises:
        EndpointError, ConfigError: it is not up; the text says why. If its configuration cannot be
            used, it is not stopped either.
    """
    directory = places.find(home, name)
    load_spec(directory, name)
    if look(directory).alive:
        # If this cannot be written the next start cannot be either: then it had better go on.
        with places.explained(name, directory.path):
            replace_file(directory.stop_request, msgspec.json.encode(StopRequest(keep_blocks=True)))
        stop(home, name, StopRequest(keep_blocks=True), timeout_s)
    return start(home, name, timeout_s=timeout_s, take_over=take_over)


def delete(home: Home, name: str, *, yes: bool, force: bool) -> None:
    """Remove an endpoint, its keys and logs; tasks that wait for it stay in the home's store.

    Raises:
        EndpointRunning, EndpointElsewhere: it runs, and `force` is not given.
        Abort: the user does not want it.
    """
    directory = _own(home, name)
    state = look(directory)
    if state.elsewhere:
        lifecycle.refuse_if_running(state, take_over=force)
    elif state.alive and not force:
        raise errors.EndpointRunning(
            name,
            f"endpoint {name!r} runs, {state.place()}",
            f"stop it first: fxhpc endpoint stop {name}; or: fxhpc endpoint delete {name} --force",
        )
    waiting = waiting_tasks(home, state.endpoint)
    if waiting:
        from fxhpc.cli.explaining import many  # here: the client is imported by now

        output.note(
            f"warning: {many(waiting, 'task')} of endpoint {name!r} will never run without it; "
            f"cancel {'them' if waiting > 1 else 'it'} with: "
            f"fxhpc task cancel --endpoint {state.endpoint}"
        )
    if not yes and not _is_sure(name, directory, state, force):
        raise click.Abort
    if state.alive or left_blocks(directory):
        stop(home, name, StopRequest(drain_s=0.0), None)
    lifecycle.delete(directory, name)


def waiting_tasks(home: Home, endpoint: str) -> int:
    """How many tasks of an endpoint the home's forwarder knows to be outstanding, if it runs."""
    try:
        if not endpoint or find_forwarder(home) is None:
            return 0
        from fxhpc.cli.explaining import QuietClient  # here: nothing else needs it

        with QuietClient(home=home.path) as client:
            return int(client.get_endpoint_status(endpoint)["details"]["outstanding_tasks"])
    except (errors.FxhpcError, KeyError, TypeError):
        return 0  # it is told if it is known; it is no reason not to delete


def _is_sure(name: str, directory: EndpointDirectory, state: EndpointState, force: bool) -> bool:
    if not sys.stdin.isatty():
        raise errors.EndpointError(
            name,
            f"endpoint {name!r} was not deleted: nobody is there to be asked",
            f"say that you are sure: fxhpc endpoint delete {name}{' --force' * force} --yes"
            f"{output.home_option()}",
        )
    runs = " It runs, and will be stopped." if state.alive else ""
    return click.confirm(f"Delete endpoint {name!r} with {directory.path}?{runs}", err=True)
