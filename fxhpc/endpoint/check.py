"""Finds what would keep an endpoint from working, on this host and without starting it."""

from __future__ import annotations

import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from fxhpc.endpoint import launch
from fxhpc.endpoint.child import files_needed
from fxhpc.forwarder.filesystems import network_type
from fxhpc.interchange.addresses import host_addresses, offered
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.provision import BlockRef, InterchangeSpec
from fxhpc.units import format_bytes, format_duration
from fxhpc.version import __version__

OK, WARNING, PROBLEM = "ok", "warning", "problem"

#: Of the provider's keys, as Parsl has them.
_UNITS = {"cmd_timeout": " s", "mem_per_node": " GB", "mem_per_slot": " GB"}

#: Free bytes below which logs, journal and spool may not fit.
_LITTLE_SPACE = 100 * 2**20

#: Which commands a provider of Parsl's calls.
_COMMANDS = {
    "SlurmProvider": ("sbatch", "squeue", "scancel"),
    "PBSProProvider": ("qsub", "qstat", "qdel"),
    "TorqueProvider": ("qsub", "qstat", "qdel"),
    "LSFProvider": ("bsub", "bjobs", "bkill"),
    "GridEngineProvider": ("qsub", "qstat", "qdel"),
    "CondorProvider": ("condor_submit", "condor_q", "condor_rm"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: str  # ok, warning, problem
    what: str
    text: str
    hint: str = ""


def look(directory: EndpointDirectory, spec: InterchangeSpec, runs: bool) -> Iterator[Finding]:
    """Look at everything that shows without starting a process.

    Args:
        runs: the endpoint runs now, so that its port is its own.
    """
    yield _versions()
    yield from _places(directory)
    yield from _commands(spec)
    yield _port(spec, runs)
    yield _addresses(spec)
    yield _open_files(spec)


def settings(spec: InterchangeSpec) -> dict[str, str]:
    """What the configuration comes to, in words."""
    found: dict[str, str] = {}
    if spec.provisioner is not None:
        provider = dict(spec.provisioner.provider)
        launcher = provider.pop("launcher", None)
        found["provider"] = str(provider.pop("type", "?"))
        if isinstance(launcher, dict):
            found["launcher"] = " ".join(str(value) for value in launcher.values() if value)
        found |= {
            key: f"{value}{_UNITS.get(key, '')}"
            for key, value in provider.items()
            if value not in (None, "")
        }
    if (policy := spec.scaling) is not None:
        found["blocks"] = (
            f"{policy.init_blocks} at the start, {policy.min_blocks} at least, {policy.max_blocks} "
            f"at most, of {policy.nodes_per_block} nodes each"
        )
        found["walltime"] = format_duration(policy.walltime_s) if policy.walltime_s else "no limit"
        found["given back"] = f"after {format_duration(policy.max_idle_s)} without work"
    if (manager := spec.manager) is not None:
        found["workers per node"] = (
            str(manager.max_workers) if manager.max_workers else "as many as a node's cores allow"
        )
        found["cores per worker"] = f"{manager.cores_per_worker:g}"
        if manager.memory_per_worker:
            found["memory per worker"] = format_bytes(manager.memory_per_worker)
        if manager.accelerators:
            found["accelerators"] = ", ".join(manager.accelerators)
        if manager.affinity:
            found["cpu_affinity"] = manager.affinity
    if spec.provisioner is not None and (container := spec.provisioner.container) is not None:
        found["workers run in"] = launch.words(container)
    found["files for nodes"] = spec.state_dir or "the endpoint's directory"
    found["listens at"] = spec.bind
    return found


def block_of(directory: EndpointDirectory, name: str, number: int = 1) -> BlockRef:
    """A block as the interchange would name it."""
    record = directory.read_record()
    identity = record.endpoint[:8] if record is not None else "00000000"
    return BlockRef(number, f"fxhpc-{name}-{identity}-{number}")


def _versions() -> Finding:
    found = [f"Python {sys.version.split()[0]} ({sys.executable})", f"fxhpc {__version__}"]
    for package in ("parsl", "pyzmq", "msgspec", "dill"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            return Finding(
                PROBLEM,
                "versions",
                f"{package} is not installed in {sys.executable}",
                "install fxhpc again",
            )
    return Finding(OK, "versions", ", ".join(found))


def _places(directory: EndpointDirectory) -> Iterator[Finding]:
    places = [("directory", directory.path)]
    if directory.state != directory.path:
        places.append(("state_dir", directory.state.parent))  # its own in it is made by a start
    for what, path in places:
        existing = _existing(path)
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
            free = shutil.disk_usage(existing).free
        except OSError as error:
            yield Finding(
                PROBLEM,
                what,
                f"{path} cannot be written: {error.strerror}",
                "make it writable, free space there, or name another one",
            )
            continue
        kind = network_type(str(existing))
        if existing != path:
            missing = path.relative_to(existing).parts[0]
            yield Finding(
                WARNING,
                what,
                f"{path} is not there: {existing / missing} would be made by the start",
                "see that its name is right",
            )
            continue
        text = f"{path} is writable, {format_bytes(free)} free, on "
        text += f"{kind}, which other hosts may see" if kind else "a file system of this host"
        if free < _LITTLE_SPACE:
            yield Finding(WARNING, what, text, "free space there: logs and results need some")
        else:
            yield Finding(OK, what, text)
    mode = directory.path.stat().st_mode & 0o777 if directory.path.is_dir() else 0o700
    if mode & 0o077:
        yield Finding(
            PROBLEM,
            "permissions",
            f"{directory.path} is open to others (mode {mode:o})",
            f"close it with: chmod 700 {directory.path}",
        )


def _existing(path: Path) -> Path:
    """The nearest directory above that is there."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _commands(spec: InterchangeSpec) -> Iterator[Finding]:
    if spec.provisioner is None:
        return
    provider = str(spec.provisioner.provider.get("type", ""))
    names = _COMMANDS.get(provider, ())
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        yield Finding(
            PROBLEM,
            "batch system",
            f"{provider} needs the commands {', '.join(names)}; not on the path of "
            f"{socket.gethostname()}: {', '.join(missing)}",
            "log in to a host of the cluster, or load the module that brings them",
        )
    elif names:
        yield Finding(OK, "batch system", f"{', '.join(names)} are on the path")


def _port(spec: InterchangeSpec, runs: bool) -> Finding:
    host, _, port = spec.bind.removeprefix("tcp://").rpartition(":")
    if port == "*":
        return Finding(OK, "port", "any free one is taken at the start")
    if runs:
        return Finding(OK, "port", f"{port}, in use by the endpoint, which runs")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("" if host in ("0.0.0.0", "*") else host, int(port)))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            return Finding(
                PROBLEM,
                "port",
                f"{spec.bind} cannot be listened at: {why}",
                "name another `worker_port`, or leave it out: then any free one is taken",
            )
    return Finding(OK, "port", f"{port} is free")


def _addresses(spec: InterchangeSpec) -> Finding:
    found = offered(spec.bind.replace(":*", ":0"), spec.addresses)
    hosts = [address.removeprefix("tcp://").rpartition(":")[0] for address in found]
    if trouble := address_trouble(spec.addresses):
        return trouble
    if all(host.startswith("127.") for host in hosts):
        provider = spec.provisioner.provider.get("type") if spec.provisioner is not None else ""
        if provider not in ("LocalProvider", ""):
            return Finding(
                PROBLEM,
                "addresses",
                "nodes would be told a loopback address alone, where they find nothing of this "
                "host",
                "name one that they reach: `address:`",
            )
    return Finding(
        OK, "addresses", f"nodes try {', '.join(hosts)}; the first that answers is taken"
    )


def address_trouble(given: list[str]) -> Finding | None:
    """Why nodes may not find this host at the addresses that were given."""
    own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    hint = f"this host has {', '.join(host_addresses())}; leave `address` out to offer all of them"
    for address in given:
        host = address.removeprefix("tcp://")
        host = host.partition(":")[0] if host.count(":") == 1 else host
        try:
            found = {str(entry[4][0]) for entry in socket.getaddrinfo(host.strip("[]"), None)}
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", "") or str(error)
            return Finding(PROBLEM, "addresses", f"{host!r} has no address: {why}", hint)
        if not found & own:
            text = f"{host!r} is none of this host's: nodes will look elsewhere for the endpoint"
            return Finding(WARNING, "addresses", text, hint)
    return None


def _open_files(spec: InterchangeSpec) -> Finding:
    needed = files_needed(spec)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    text = f"{needed} are needed when all blocks run"
    if hard != resource.RLIM_INFINITY and hard < needed:
        return Finding(
            PROBLEM,
            "open files",
            f"{text}, and no more than {hard} are allowed (`ulimit -Hn`)",
            "have the limit raised on this host, or lower max_blocks",
        )
    return Finding(OK, "open files", text)
