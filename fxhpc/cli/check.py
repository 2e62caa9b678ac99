"""`fxhpc endpoint check`: tries an endpoint's configuration without starting the endpoint."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fxhpc import errors
from fxhpc.cli import actions, output
from fxhpc.cli.endpoint import DURATION
from fxhpc.endpoint import check as checks
from fxhpc.endpoint import places
from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.endpoint.state import look
from fxhpc.endpoint.trial_submission import tried
from fxhpc.forwarder.attach import module_environment
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.provision import InterchangeSpec
from fxhpc.version import __version__

#: Seconds that a task may take on a worker of this host, its processes' starts included.
_TRIAL_S = 30.0


@click.command()
@click.argument("name")
@click.option("--on-node", is_flag=True, help="Submit one short job that looks around on a node.")
@click.option(
    "--timeout", type=DURATION, default=600.0, help="How long to wait for that job. [10 min]"
)
@click.option("--script", is_flag=True, help="Print the batch job's script, and no more.")
@output.common_options
def check(name: str, on_node: bool, timeout: float, script: bool) -> int:
    """Try the configuration of endpoint NAME: exit code 0 if it would work, 1 if not, 6 if its
    file has mistakes.

    Shows what the configuration comes to and what the batch system is asked for (with --script the
    whole script of a batch job); looks at versions, places, the batch system's commands, ports,
    addresses and limits; runs a task on a worker of this host.
    """
    directory = places.find(output.home(), name)
    spec = actions.load_spec(directory, name)
    directory = EndpointDirectory(directory.path, spec.state_dir)
    found: list[Finding] = []
    text = ""
    if spec.provisioner is not None:
        try:
            text = _script(directory, name, spec)
            found.append(Finding(OK, "script", "the batch job's script can be made"))
        except RuntimeError as error:
            found.append(
                Finding(PROBLEM, "script", str(error), "see the provider's keys in config.yaml")
            )
    if script:
        if found and found[0].level == PROBLEM:
            raise errors.EndpointError(name, f"endpoint {name!r} has no script: {found[0].text}")
        if output.wants_json():
            output.document({"script": text})
        else:
            click.echo(text)
        return output.OK
    settings = checks.settings(spec)
    if not output.wants_json():
        if asked := _directives(text):
            click.echo(f"Asked of the batch system (the whole script: check {name} --script):\n")
            click.echo("".join(f"    {line}\n" for line in asked))
        output.table(["Setting", "Value"], list(settings.items()))
        click.echo()
    found += checks.look(directory, spec, look(directory).alive)
    if text and spec.provisioner is not None:
        found += tried(spec.provisioner, text)
    found.append(_try_locally())
    reports: list[dict[str, Any]] = []
    if on_node:
        reports, more = _look_on_nodes(directory, name, spec, timeout)
        found += more
    good = all(finding.level != PROBLEM for finding in found)
    if output.wants_json():
        output.document(
            {
                "name": name,
                "ok": good,
                "settings": settings,
                "script": text,
                "findings": [asdict(finding) for finding in found],
                "nodes": reports,
            }
        )
    else:
        _show(name, found, good)
    return output.OK if good else output.FAILED


def _script(directory: EndpointDirectory, name: str, spec: InterchangeSpec) -> str:
    from fxhpc.endpoint.render import rendered

    assert spec.provisioner is not None
    block = checks.block_of(directory, name)
    return rendered(spec.provisioner, block, module_environment())


def _directives(script: str) -> list[str]:
    """The lines of a batch job's script that its batch system reads: `#SBATCH ...`, `#PBS ...`."""
    return [line for line in script.splitlines() if re.match(r"#[A-Z$]+ +\S", line)]


def _try_locally() -> Finding:
    """Run a task on a worker of this host, by an endpoint of its own."""
    from fxhpc.client.client import FuncXClient
    from fxhpc.endpoint.probe import TrialEndpoint

    output.progress("running a task on a worker of this host")
    before = os.environ.get("FXHPC_FORWARDER_GRACE")
    os.environ["FXHPC_FORWARDER_GRACE"] = "0"
    try:
        with tempfile.TemporaryDirectory(prefix="fxhpc-check-") as folder:
            home = Path(folder) / "home"
            with TrialEndpoint(home) as trial, FuncXClient(home=home) as client:
                function = client.register_function(platform.python_version)
                task = client.run(endpoint_id=trial.endpoint_id, function_id=function)
                try:
                    version = client.get_result(task, timeout=_TRIAL_S)
                except errors.TaskPending as error:
                    why = trial.why_no_worker() or error.reason
                    raise RuntimeError(f"it did not run within {_TRIAL_S:.0f} s: {why}") from None
    except (errors.FxhpcError, RuntimeError, OSError) as error:
        return Finding(
            PROBLEM, "a task here", str(error), "see that fxhpc is installed whole: pip check"
        )
    finally:
        if before is None:
            del os.environ["FXHPC_FORWARDER_GRACE"]
        else:
            os.environ["FXHPC_FORWARDER_GRACE"] = before
    return Finding(OK, "a task here", f"ran on a worker of this host, Python {version}")


def _look_on_nodes(
    directory: EndpointDirectory, name: str, spec: InterchangeSpec, timeout_s: float
) -> tuple[list[dict[str, Any]], list[Finding]]:
    from fxhpc.endpoint.on_node import NodeProbe, findings, printed

    if spec.provisioner is None:
        return [], [Finding(WARNING, "nodes", "the endpoint asks nobody for nodes")]
    with places.explained(name, directory.state):
        directory.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    probe = NodeProbe(directory, name, spec, output.progress)
    try:
        reports = probe.run(timeout_s)
    except (RuntimeError, OSError) as error:
        return [], [Finding(PROBLEM, "nodes", str(error), "mend what it says, then check again")]
    found = list(findings(reports, __version__, platform.python_version()))
    if probe.printed:
        found.append(printed(probe.printed))
    if len(reports) < probe.nodes:
        found.append(
            Finding(
                PROBLEM,
                "nodes",
                f"{len(reports)} of {probe.nodes} nodes have reported",
                "see that the launcher reaches all nodes of a block",
            )
        )
    return reports, found


def _show(name: str, found: list[Finding], good: bool) -> None:
    output.table(["", "What", "Found"], list(_rows(found)))
    problems = sum(finding.level == PROBLEM for finding in found)
    warnings = sum(finding.level == WARNING for finding in found)
    but = f" but for {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    click.echo(
        f"endpoint {name!r}: it looks good{but}; start it with: fxhpc endpoint start {name}"
        if good
        else f"endpoint {name!r}: {problems} problem{'s' if problems > 1 else ''}"
    )


def _rows(found: list[Finding]) -> Iterator[tuple[str, str, str]]:
    for finding in found:
        hint = f"; {finding.hint}" if finding.hint else ""
        yield finding.level, finding.what, finding.text + hint
