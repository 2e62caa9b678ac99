"""`fxhpc endpoint status` and `list`: what endpoints do, and why nothing runs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import click

from fxhpc import errors, hosts
from fxhpc.cli import output
from fxhpc.endpoint import identity, places
from fxhpc.endpoint.leftovers import left_blocks
from fxhpc.endpoint.state import EndpointState, State, look, read_status
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.waiting_words import waiting_in
from fxhpc.units import format_bytes, format_duration
from fxhpc.version import __version__

#: What `status NAME` ends with, by the state of the endpoint; 0 for all others.
_CODES = {
    State.INITIALIZED: output.NOT_RUNNING,
    State.STOPPED: output.NOT_RUNNING,
    State.FAILED: output.NOT_RUNNING,
    State.LOST: output.NOT_RUNNING,
}


#: Sizes of tasks that are listed.
_SIZES = 10


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@output.common_options
def status(names: Sequence[str]) -> int:
    """Tell what endpoints do: all of the home's, or those named.

    With one NAME the exit code tells too: 0 if it runs, 4 if it does not.
    """
    home = output.home()
    found = [describe(places.find(home, name)) for name in names or places.known_names(home)]
    if output.wants_json():
        output.document(found[0] if len(names) == 1 else found)
    elif not found:
        click.echo(_none(home))
    for number, endpoint in enumerate([] if output.wants_json() else found):
        if number:
            click.echo()
        _show(endpoint)
    return _CODES.get(found[0]["state"], output.OK) if len(names) == 1 else output.OK


@click.command("list")
@output.common_options
def list_endpoints() -> None:
    """List the home's endpoints."""
    home = output.home()
    found = []
    for name in places.known_names(home):
        try:
            found.append(describe(places.find(home, name)))
        except errors.EndpointError as error:  # the others are to be seen all the same
            found.append({"name": name, "state": "unusable", "trouble": str(error)})
    if output.wants_json():
        output.document(found)
        return
    if not found:
        click.echo(_none(home))
        return
    output.table(
        ["Endpoint", "State", "Workers", "Tasks", "Host", "Id"],
        [
            (
                endpoint["name"],
                endpoint["state"],
                _number(endpoint, "workers"),
                _tasks(endpoint),
                endpoint.get("host", ""),
                endpoint.get("endpoint_id", ""),
            )
            for endpoint in found
        ],
    )


def describe(directory: EndpointDirectory) -> dict[str, Any]:
    """All that is known of an endpoint, as plain values."""
    state = look(directory)
    running = state.alive or state.elsewhere
    never = state.state == State.INITIALIZED  # or a copy: what its files tell of is another's
    found: dict[str, Any] = {
        "name": state.name,
        "state": state.state,
        "endpoint_id": state.endpoint,
        "directory": str(directory.path),
        "trouble": state.trouble,
        "restarts": state.restarts,
        # While it runs, its report tells of its blocks.
        "left_blocks": [] if running or never else left_blocks(directory),
    }
    if running:
        found |= {
            "host": state.host,
            "pid": state.pid,
            "interchange_pid": state.interchange,
            "since": state.since,
            "version": state.version,
            "versions": _versions(directory, state),
            "silent_s": round(state.silent_s, 1),
        }
        if report := read_status(directory):
            found["report"] = report
            if isinstance(details := report.get("report"), dict):
                details["waiting"] = waiting_in(details)  # in words
            found["report_age_s"] = round(identity.age_s(directory.status), 1)
    found["sentence"] = _sentence(state)
    return found


def _versions(directory: EndpointDirectory, state: EndpointState) -> dict[str, str]:
    """Which fxhpc each process is, by the words for it; its managers tell in the report."""
    found = {
        "supervisor": state.version if state.pid else "",
        "interchange": state.interchange_version if state.interchange else "",
    }
    forwarder = identity.read_process(Home(directory.path.parents[1]).owner)
    if forwarder is not None and (
        not identity.is_same_host(forwarder.host)
        or hosts.is_alive(forwarder.pid, forwarder.started)
    ):
        found["forwarder"] = forwarder.version
    return {who: version for who, version in found.items() if version}


def _differences(endpoint: dict[str, Any]) -> str:
    """That processes are of other versions than this command, in words; empty: none is."""
    versions = endpoint.get("versions", {})
    others = {who for who, version in versions.items() if version != __version__}
    if not others:
        return ""
    told = ", ".join(f"{who} {version}" for who, version in versions.items())
    commands = []
    if others & {"supervisor", "interchange"}:
        commands.append(f"fxhpc endpoint restart {endpoint['name']}")
    if "forwarder" in others:
        commands.append("fxhpc forwarder restart")
    return (
        f"{told}; this is fxhpc {__version__}. After an upgrade these take it up, and lose "
        f"nothing: {'; '.join(commands)}"
    )


def _sentence(state: EndpointState) -> str:
    if state.alive or state.elsewhere:
        since = format_duration(max(0.0, time.time() - state.since)) if state.since else ""
        return state.sentence() + (f", started {since} ago" if since else "")
    if state.state == State.FAILED:
        return f"failed: {state.trouble}"
    return state.state if state.state == State.STOPPED else f"{state.state}, never started"


def _show(endpoint: dict[str, Any]) -> None:
    """Print one endpoint: what it is, then what waits by size, its blocks, its managers."""
    report = endpoint.get("report", {})
    details = report.get("report", {})
    lines = [("state", endpoint["sentence"])]
    if endpoint["trouble"] and endpoint["state"] != State.FAILED:
        lines.append(("trouble", endpoint["trouble"]))
    if differences := _differences(endpoint):
        lines.append(("versions", differences))
    if endpoint["restarts"]:
        lines.append(("restarts", f"{endpoint['restarts']} of its interchange"))
    if report:
        idle = report.get("idle_workers", 0)
        lines += [
            ("managers", str(report.get("managers", 0))),
            ("workers", f"{report.get('workers', 0)}, {idle} of them idle"),
            ("tasks", f"{report.get('queued', 0)} waiting, {report.get('running', 0)} running"),
        ]
        if report.get("reason"):
            lines.append(("waits for", report["reason"]))
        if details.get("scheduler"):
            lines.append(("scheduler", details["scheduler"]))
        if details.get("scheduler_trouble"):
            lines.append(("its trouble", details["scheduler_trouble"]))
        lines += [("failed", _failed(block)) for block in details.get("failed_blocks", [])]
        if math.isfinite(age := endpoint["report_age_s"]):
            lines.append(("as of", f"{format_duration(age)} ago"))
    lines += [("set aside", host) for host in details.get("set_aside", [])]
    lines += [("notice", notice) for notice in details.get("notices", [])]
    if endpoint["left_blocks"]:
        lines.append(("its jobs", "; ".join(endpoint["left_blocks"])))
    if hint := _hint(endpoint):
        lines.append(("hint", hint))
    click.echo(f"endpoint {endpoint['name']}  {endpoint['endpoint_id']}")
    for key, value in lines:
        click.echo(f"  {key + ':':<12} {value}")
    if waiting := details.get("waiting"):
        rows = [(one["tasks"], one["needs"], one["reason"]) for one in waiting[:_SIZES]]
        if len(waiting) > _SIZES:
            rest = waiting[_SIZES:]
            rows.append((sum(one["tasks"] for one in rest), f"{len(rest)} other sizes", ""))
        output.table(["Waiting", "Each needs", "Because"], rows)
    if blocks := details.get("blocks"):
        output.table(
            ["Block", "Job", "State", "Batch system", "Managers", "Workers", "Ends in"],
            [_block(block) for block in blocks],
        )
    if managers := details.get("managers"):
        output.table(
            ["Manager", "Host", "Block", "Workers", "Idle", "Cores", "Memory", "Python", "fxhpc"],
            [_manager(manager) for manager in managers],
        )


def _block(block: dict[str, Any]) -> tuple[object, ...]:
    ends = block.get("ends", 0.0)
    return (
        block.get("block", ""),
        block.get("job", ""),
        block.get("state", ""),
        block.get("words", ""),
        block.get("managers", 0),
        block.get("workers", 0),
        format_duration(max(0.0, ends - time.time())) if ends else "",
    )


def _failed(block: dict[str, Any]) -> str:
    when = format_duration(max(0.0, time.time() - block.get("when", 0.0)))
    return f"block {block.get('block', '')}, {when} ago: {block.get('why', '')}"


def _manager(manager: dict[str, Any]) -> tuple[object, ...]:
    memory = manager.get("memory", 0)
    return (
        manager.get("manager", ""),
        manager.get("host", ""),
        manager.get("block", ""),
        manager.get("workers", 0),
        manager.get("idle_workers", 0),
        manager.get("cores", 0),
        format_bytes(memory) if memory else "",
        manager.get("python", ""),
        manager.get("version", ""),
    )


def _hint(endpoint: dict[str, Any]) -> str:
    name = endpoint["name"]
    state = endpoint["state"]
    jobs = ", which adopts its jobs; `stop` cancels them" if endpoint["left_blocks"] else ""
    if state in (State.INITIALIZED, State.STOPPED):
        return f"start it with: fxhpc endpoint start {name}{jobs}"
    if state == State.FAILED:
        return f"see: fxhpc endpoint logs {name}; start it with: fxhpc endpoint start {name}{jobs}"
    if state == State.UNSUPERVISED:
        return f"give it a supervisor with: fxhpc endpoint restart {name}"
    if state == State.LOST:
        return (
            f"if host {endpoint['host']} or its processes are gone for good: fxhpc endpoint start "
            f"{name} --take-over"
        )
    return ""


def _number(endpoint: dict[str, Any], key: str) -> str:
    return str(endpoint["report"].get(key, 0)) if "report" in endpoint else ""


def _tasks(endpoint: dict[str, Any]) -> str:
    report = endpoint.get("report")
    return str(report.get("queued", 0) + report.get("running", 0)) if report else ""


def _none(home: Home) -> str:
    return f"there is no endpoint in {home.endpoints}; make one with: fxhpc endpoint configure NAME"
