"""Whether ports can be opened on this host, and reached by the addresses that nodes are told."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.endpoint.places import known_names
from fxhpc.forwarder.home import Home
from fxhpc.interchange.addresses import host_addresses
from fxhpc.interchange.directory import EndpointDirectory

_CONNECT_S = 1.0

#: The commands of batch systems.
_SYSTEMS = {
    "Slurm": ("sbatch", "squeue", "scancel", "sinfo"),
    "PBS": ("qsub", "qstat", "qdel"),
    "LSF": ("bsub", "bjobs", "bkill"),
    "HTCondor": ("condor_submit", "condor_q", "condor_rm"),
}


def look_at_ports() -> Iterator[Finding]:
    """Open a port and a socket, and connect to them by every address of this host."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as door:
        try:
            door.bind(("0.0.0.0", 0))
            door.listen()
        except OSError as error:
            hint = "endpoints need one: ask the administrators"
            yield Finding(PROBLEM, "ports", f"none can be opened: {error.strerror}", hint)
            return
        port = door.getsockname()[1]
        reached = {address: reach(address, port) for address in host_addresses()}
    yield addresses(reached)
    yield _local_sockets()


def _local_sockets() -> Finding:
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fxhpc-doctor-", dir="/tmp") as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local,
        ):
            local.bind(str(Path(folder, "socket")))
            local.listen()
    except OSError as error:
        hint = "fxhpc needs them: see who may write to /tmp, and how full it is"
        return Finding(PROBLEM, "sockets", f"none can be made in /tmp: {error.strerror}", hint)
    return Finding(OK, "sockets", "can be made in /tmp")


def look_at_endpoints(home: Home) -> Iterator[Finding]:
    """Connect to where the managers of endpoints of this host register."""
    for name in known_names(home):
        found = EndpointDirectory(home.endpoints / name).read_address()
        if found is None or found.host != socket.gethostname():
            continue
        places = [one.removeprefix("tcp://").rpartition(":") for one in found.managers.split()]
        reached = {f"{h}:{port}": reach(h, int(port)) for h, _, port in places if port.isdigit()}
        if reached and not any(not why for why in reached.values()):
            text = "; ".join(f"{place}: {why}" for place, why in reached.items())
            hint = f"see: fxhpc endpoint status {name}"
            yield Finding(WARNING, f"address of {name}", f"nobody answers at {text}", hint)
        elif reached:
            good = ", ".join(place for place, why in reached.items() if not why)
            yield Finding(OK, f"address of {name}", f"answers at {good}, tried from this host")


def look_at_batch_system() -> Iterator[Finding]:
    """Look for the commands of a batch system."""
    yield from batch_systems({name for all_ in _SYSTEMS.values() for name in all_ if _has(name)})


def batch_systems(there: set[str]) -> Iterator[Finding]:
    """What is to be said where these commands are on the path."""
    known = False
    for system, names in _SYSTEMS.items():
        missing = [name for name in names if name not in there]
        if len(missing) == len(names):
            continue
        known = True
        if missing:
            hint = "load the module that brings them, or log in to another host"
            text = f"{system}, but not on the path: {', '.join(missing)}"
            yield Finding(WARNING, "batch system", text, hint)
        else:
            yield Finding(OK, "batch system", f"{system}: {', '.join(names)}")
    if not known:
        text = "none on the path: endpoints here are for processes of this host (type: local)"
        yield Finding(OK, "batch system", text)


def addresses(reached: dict[str, str]) -> Finding:
    """What is to be said of this host's addresses; each with why it cannot be reached, or ""."""
    good = [address for address, why in reached.items() if not why]
    bad = [f"{address} ({why})" for address, why in reached.items() if why]
    if not good:
        hint = "a firewall of this host may forbid it: ask for a range of ports (worker_port_range)"
        return Finding(PROBLEM, "addresses", f"none can be reached: {', '.join(bad)}", hint)
    if all(address.startswith("127.") for address in good):
        text = "this host has a loopback address alone: no node of a cluster can reach it"
        return Finding(WARNING, "addresses", text, "connect it to a network, if nodes are wanted")
    text = f"nodes may try {', '.join(good)}, which this host reaches itself"
    if bad:
        hint = "name a better one in the endpoint's configuration: `address:`"
        return Finding(WARNING, "addresses", f"{text}; not {', '.join(bad)}", hint)
    return Finding(OK, "addresses", text)


def reach(host: str, port: int) -> str:
    """Why nothing can be reached there, or nothing."""
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _has(name: str) -> bool:
    return shutil.which(name) is not None
