"""Which versions are installed, and which the processes run that are there."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.endpoint.places import known_names
from fxhpc.endpoint.state import look as look_at_endpoint
from fxhpc.forwarder.home import Home
from fxhpc.hosts import is_alive
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.version import __version__

#: Its wheels bring a libsodium that is fast.
_FAST_PYZMQ = (27, 3)
_OLDEST_PYTHON = (3, 10)


def look() -> Iterator[Finding]:
    """Look at what is installed for this interpreter."""
    python = sys.version.split()[0]
    yield Finding(OK, "fxhpc", f"{__version__}, {sys.prefix}")
    if sys.version_info < _OLDEST_PYTHON:
        yield Finding(PROBLEM, "Python", python, "fxhpc needs 3.10 or a newer one")
    else:
        yield Finding(OK, "Python", f"{python}, {sys.executable}, {platform.platform()}")
    for package in ("pyzmq", "msgspec", "dill", "psutil", "parsl"):
        yield installed(package, _version(package))
    import zmq

    if not zmq.has("curve"):
        hint = "install pyzmq from its wheels: pip install --force-reinstall pyzmq"
        yield Finding(PROBLEM, "encryption", "this pyzmq was built without CURVE", hint)


def look_at_processes(home: Home) -> Iterator[Finding]:
    """Look at the forwarder of a home, and at its endpoints' processes."""
    owner = home.read_owner()
    if owner is not None:
        where = f"on host {owner.host}, pid {owner.pid}"
        if owner.host == platform.node() and not is_alive(owner.pid, owner.started):
            text = f"was killed {where}; the next client starts another, which loses nothing"
            yield Finding(OK, "forwarder", text)
        else:
            yield running("forwarder", where, owner.version, "")
    for name in known_names(home):
        found = look_at_endpoint(EndpointDirectory(home.endpoints / name))
        if found.trouble:
            hint = f"see: fxhpc endpoint status {name}; fxhpc endpoint logs {name}"
            yield Finding(WARNING, f"endpoint {name}", f"{found.state}: {found.trouble}", hint)
        elif found.alive or found.elsewhere:
            hint = f"fxhpc endpoint restart {name}"
            yield running(f"endpoint {name}", found.sentence(), found.version, hint)
        else:
            yield Finding(OK, f"endpoint {name}", found.state)


def installed(package: str, version: str) -> Finding:
    """What is to be said of a package of this version; "": it is not there."""
    if not version:
        return Finding(PROBLEM, package, "is not installed", "install fxhpc again")
    if package == "pyzmq" and _numbers(version) < _FAST_PYZMQ:
        hint = "10 to 30 times faster between hosts: pip install --upgrade pyzmq"
        return Finding(WARNING, package, f"{version}, whose encryption is slow", hint)
    return Finding(OK, package, version)


def running(what: str, where: str, version: str, hint: str) -> Finding:
    """What is to be said of a process of this version."""
    if not version or version == __version__:
        return Finding(OK, what, where)
    hint = hint or "it goes on, and the next one is of this version: it ends when nobody needs it"
    return Finding(WARNING, what, f"{where}, of version {version}: this is {__version__}", hint)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    parts = version.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)
