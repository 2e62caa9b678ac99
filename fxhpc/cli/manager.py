"""`fxhpc manager`: adds nodes to a running endpoint, from inside any job or on any host."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.client.started.allocation import Allocation, find_allocation
from fxhpc.cores import is_on_node_of_job
from fxhpc.endpoint import lifecycle, places
from fxhpc.endpoint.state import State, look
from fxhpc.interchange.directory import EndpointDirectory, replace_file
from fxhpc.protocol.pool import ManagerSpec

#: Seconds that one address of an interchange may take to answer.
_PROBE_S = 3.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Starts a manager on a node, and has it drain when standard input ends: srun passes that on to all
#: nodes, whereas it kills its step on a signal, and scancel would signal the workers too.
_ON_NODE = """
exec 3<&0 </dev/null
/bin/sh "$1" 3<&- &
manager=$!
(while read -r _; do :; done <&3; kill -USR1 "$manager" 2>/dev/null) &
reader=$!
exec 3<&-
trap 'kill -TERM "$manager" 2>/dev/null' TERM INT HUP
code=129
# A signal ends `wait` too. Of a manager that a signal has killed, the next one knows nothing: 127.
while [ "$code" -gt 128 ]; do wait "$manager"; code=$?; done
kill "$reader" 2>/dev/null
exit "$code"
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def manager() -> None:
    """Join a running endpoint from inside an allocation."""


@manager.command(short_help="Run tasks of an endpoint on this job's nodes.")
@click.option("--endpoint", "name", required=True, metavar="NAME", help="The endpoint to join.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Workers on each node; by default what the endpoint's configuration and the job allow.",
)
@click.option("--this-node", is_flag=True, help="Not on the other nodes of the job.")
@output.common_options
def start(name: str, workers: int | None, this_node: bool) -> int:
    """Run tasks of an endpoint on this job's nodes, until Ctrl-C or SIGTERM.

    In a Slurm job of several nodes, and in a shell of salloc, a manager is started on each, by
    srun. The first Ctrl-C (or SIGTERM) lets running tasks end; the second does not.
    """
    directory = _find(name)
    address = _reachable_address(name, directory)
    spec = _read_spec(name, directory)
    found = None if this_node else find_allocation(os.environ)
    if found is not None and found.starter != "srun":
        output.note(
            f"fxhpc: a manager is started on {platform.node()} alone; to have one on each of the "
            f"job's {found.nodes} nodes: pbsdsh -- fxhpc manager start --endpoint {name} "
            f"--this-node"
        )
        found = None
    if found is None:
        workers = _allowed(workers)
    is_away = found is None and not is_on_node_of_job(os.environ)
    if is_away and (shutil.which("sbatch") or shutil.which("qsub")):
        output.note(
            f"warning: {platform.node()} is a node of no job: tasks run on this host, which others "
            f"may use to log in; Ctrl-C ends it"
        )
    where = platform.node()
    if found:
        where = f"{found.nodes} node{'s' * (found.nodes > 1)} of job {found.job}"
    output.note(
        f"fxhpc: {where}: joining endpoint {name!r} at {address}; Ctrl-C ends it after the tasks "
        f"that run; logs: {directory.manager_logs}"
    )
    with _spec_file(directory, spec, workers) as path:
        run = _Run(directory, path, found)
        return output.OK if run.wait() == 0 else output.FAILED


# --- what is to be joined -------------------------------------------------------------------------


def _allowed(workers: int | None) -> int | None:
    """As many workers as the administrators allow on this host.

    Raises:
        UsageError: none.
    """
    from fxhpc.site.reading import login_limit_here
    from fxhpc.site.rules import login_refusal

    most, site = login_limit_here()
    if site is None or most is None:
        return workers
    if not most:
        raise errors.UsageError(login_refusal(site))
    if workers is not None and workers > most:
        because = site.because("login_nodes.max_workers")
        raise errors.UsageError(f"--workers: {workers} is above {most}, the most here {because}")
    return most if workers is None else workers


def _find(name: str) -> EndpointDirectory:
    home = output.home()
    if not home.path.is_dir():
        raise errors.HomeError(
            f"host {platform.node()} sees no home {home.path}: name the one that the endpoint was "
            f"started with, on a file system that this host sees (--home, FXHPC_HOME)"
        )
    directory = places.find(home, name)
    state = look(directory)
    if state.state in (State.INITIALIZED, State.STOPPED, State.FAILED):
        raise lifecycle.not_running(name)
    if not directory.state.is_dir():
        raise errors.EndpointDirectoryInvalid(
            name,
            f"host {platform.node()} does not see {directory.state}, where endpoint {name!r} keeps "
            f"what managers need",
            "set `state_dir` to a directory that nodes see, and restart the endpoint",
        )
    return directory


def _read_spec(name: str, directory: EndpointDirectory) -> ManagerSpec:
    try:
        return msgspec.json.decode(directory.manager_spec.read_bytes(), type=ManagerSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise errors.EndpointDirectoryInvalid(
            name,
            f"{directory.manager_spec}, which says how managers of endpoint {name!r} are to be, "
            f"cannot be read: {error}",
            f"write it anew with: fxhpc endpoint restart {name}",
        ) from error


def _reachable_address(name: str, directory: EndpointDirectory) -> str:
    """The first address of the interchange that answers here.

    Raises:
        EndpointNotRunning: there is none, or none answers.
    """
    try:
        addresses = directory.managers_address.read_text().partition("\n")[0].split()
    except OSError:
        raise lifecycle.not_running(name) from None
    failures = []
    for address in addresses:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), _PROBE_S):
                return address
        except (OSError, ValueError) as error:
            failures.append(f"{address} ({error})")
    if all("127.0.0.1" in address for address in addresses):
        hint = "it listens on its own host alone: set `address:` in its configuration, restart it"
    else:
        hint = (
            f"see that it runs (fxhpc endpoint status {name}), and that this host reaches one of "
            f"its addresses (`address:` in its configuration)"
        )
    raise errors.EndpointNotRunning(
        name,
        f"no address of endpoint {name!r} answers on host {platform.node()}: {', '.join(failures)}",
        hint,
    )


@contextlib.contextmanager
def _spec_file(
    directory: EndpointDirectory, spec: ManagerSpec, workers: int | None
) -> Iterator[Path]:
    """The file that says how managers are to be, where nodes see it."""
    if workers is None:
        yield directory.manager_spec
        return
    path = directory.state / f"manager-{secrets.token_hex(4)}.json"
    spec.workers = workers
    replace_file(path, msgspec.json.format(msgspec.json.encode(spec)))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


# --- running --------------------------------------------------------------------------------------


class _Run:
    """Managers on one node, or on all of a job.

    Args:
        spec: the file that says how they are to be.
        allocation: the job's nodes; None is this one.
    """

    def __init__(
        self, directory: EndpointDirectory, spec: Path, allocation: Allocation | None
    ) -> None:
        command = ["/bin/sh", "-c", _ON_NODE, "fxhpc", str(directory.blocks / "launch.sh")]
        environ = dict(os.environ)
        environ.pop("FXHPC_BLOCK", None)  # these nodes are of no block, whoever started this
        environ["FXHPC_MANAGER_SPEC"] = str(spec)
        if allocation is not None:
            count = str(allocation.nodes)
            command = [
                *("srun", "--overlap", "--nodes", count, "--ntasks", count),
                *("--ntasks-per-node", "1", "--job-name", "fxhpc-manager"),
                *("--kill-on-bad-exit=0", "--input=all", *command),
            ]
            environ.setdefault("SLURM_CPU_BIND", "none")
            if cpus := environ.get("SLURM_CPUS_PER_TASK"):
                environ.setdefault("SRUN_CPUS_PER_TASK", cpus)
        self._asked = 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            cwd=directory.state,
            env=environ,
            start_new_session=True,  # Ctrl-C is for this process, which then says what is to end
        )
        self._before = {number: signal.signal(number, self._end) for number in _SIGNALS}

    def wait(self) -> int:
        """Until the managers have ended: their exit code. Signals end them."""
        try:
            return self._process.wait()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: object) -> None:
        self._asked += 1
        if self._asked == 1:
            assert self._process.stdin is not None
            self._process.stdin.close()
            output.note("fxhpc: running tasks may end; once more ends them too")
        else:
            self._process.terminate()  # srun ends its step then
