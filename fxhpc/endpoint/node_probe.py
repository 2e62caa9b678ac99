"""Finds out, on a node, what a manager would find there; writes it as JSON beside itself.

`fxhpc endpoint check --on-node` copies this file to where nodes see it, with a `probe.json`. It is
run by whatever Python the node has, without fxhpc if that is missing: standard library only, and
no syntax that is newer than Python 3.6.
"""

import json
import os
import socket
import sys
import time
from typing import Any

_CONNECT_S = 5.0
_MODULES = ("fxhpc", "msgspec", "zmq", "psutil", "setproctitle", "dill")


def main() -> int:
    """Look around, and write the report; exit code 78 if no manager could run here."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "probe.json")) as file:
        spec = json.load(file)
    report = look(spec)
    path = os.path.join(here, f"report-{report['host']}-{os.getpid()}.json")
    with open(path + ".new", "w") as file:
        json.dump(report, file)
    os.rename(path + ".new", path)
    return 78 if report["fatal"] else 0


def look(spec: Any) -> Any:
    """All that is found.

    Args:
        spec: `addresses` of the login node, `key_file`, `state_dir`.
    """
    modules, trouble = _modules()
    fatal = ""
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 10):  # noqa: UP036 - it is run by whatever the node has
        fatal = f"Python {python} is too old: fxhpc needs 3.10"
    elif trouble:
        fatal = trouble
    addresses = {address: _reach(address) for address in spec["addresses"]}
    clocks = [found["skew_s"] for found in addresses.values() if "skew_s" in found]
    return {
        "host": socket.gethostname(),
        "python": python,
        "executable": sys.executable,
        "why": os.environ.get("FXHPC_PYTHON_WHY", ""),
        "modules": modules,
        "fatal": fatal,
        "key": _read(spec["key_file"]),
        "state_dir": _write(spec["state_dir"]),
        "tmp": _write(os.environ.get("TMPDIR", "/tmp")),
        "home": _write(os.path.expanduser("~")),
        "addresses": addresses,
        "skew_s": min(clocks, key=abs) if clocks else None,
        "cpus": os.cpu_count(),
        "room": {} if fatal else _room(spec.get("manager")),
        "job": os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID") or "",
    }


def _modules() -> Any:
    """The versions of what a manager needs, and why it could not be imported."""
    versions = {}
    for name in _MODULES:
        try:
            module = __import__(name)
            versions[name] = str(getattr(module, "__version__", "?"))
        except Exception as error:
            return versions, f"{name} cannot be imported: {error}"
    try:
        __import__("fxhpc.manager.__main__")
    except Exception as error:
        return versions, f"fxhpc.manager cannot be imported: {error}"
    return versions, ""


def _room(manager: Any) -> Any:
    """How many workers a manager would start here, of what it finds; or why it would not."""
    if not manager:
        return {}
    import msgspec

    from fxhpc.manager.resources.node import examine
    from fxhpc.protocol.pool import ManagerSpec

    try:
        node = examine(msgspec.convert(manager, ManagerSpec), os.environ, time.time())
    except Exception as error:
        return {"unfit": str(error)}
    return {
        "workers": node.slots,
        "cores": node.cores,
        "memory": node.memory,
        "accelerators": node.accelerators,
        "notes": node.notes,
    }


def _reach(address: str) -> Any:
    """Whether somebody answers there, how soon, and how far this clock is ahead of his."""
    host, _, port = address.replace("tcp://", "").rpartition(":")
    begun = time.time()
    try:
        with socket.create_connection((host, int(port)), _CONNECT_S) as connection:
            took = time.time() - begun
            found = {"ms": round(took * 1000, 1)}
            connection.settimeout(_CONNECT_S)
            asked = time.time()
            said = connection.recv(64)
            if said.startswith(b"fxhpc "):
                middle = (asked + time.time()) / 2
                found["skew_s"] = round(middle - float(said.split()[1]), 3)
            return found
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return "" if file.read(1) else f"{path} is empty"
    except OSError as error:
        return f"{path}: {error.strerror}"


def _write(path: str) -> str:
    probe = os.path.join(path, f".fxhpc-probe-{socket.gethostname()}-{os.getpid()}")
    try:
        with open(probe, "w") as file:
            file.write("x")
        os.unlink(probe)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
