"""Recorded homes: what each version of the store has held, kept for as long as it is migrated.

`python -m tests.compatibility.stores` makes one of the version that this fxhpc writes. What is
recorded is never made anew. The functions are Python's own: they mean the same in each version.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from fxhpc.forwarder.store.schema import MIGRATIONS
from tests.waiting import eventually

#: Arguments of the tasks that have ended well, and of those that have not begun.
DONE, QUEUED = 1500, 700

#: Bytes of results that have a row and a file of their own.
IN_A_ROW, IN_A_FILE = 200_000, 1_500_000

_SCRIPT = f"""
import json, operator, os, signal, sys, time
from fxhpc import FuncXClient

LOCAL = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
client = FuncXClient()
functions = {{
    function.__name__: client.register_function(
        function, description=function.__name__ + " of before"
    )
    for function in (operator.neg, operator.truediv, operator.mul, os.abort, time.sleep)
}}

def run(name, *arguments):
    return client.run(*arguments, endpoint_id=LOCAL, function_id=functions[name])

def batch(count):
    batch = client.create_batch()
    for number in range(count):
        batch.add(number, endpoint_id=LOCAL, function_id=functions["neg"])
    return client.batch_run(batch)

tasks = {{
    "done": batch({DONE}),
    "failed": [run("truediv", 1, 0)],
    "large": [run("mul", b"L", {IN_A_ROW}), run("mul", b"L", {IN_A_FILE})],
    "lost": [run("abort")],
}}
wanted = [task for some in tasks.values() for task in some]
while any(told["pending"] for told in client.get_batch_result(wanted).values()):
    pass
# More than its workers and their look-ahead can begin: the last ones never run.
busy = [run("sleep", 600) for _ in range(8)]
tasks["cancelled"] = busy[-1:]
if not client.cancel(busy[-1]):
    sys.exit("it was not cancelled")
tasks["queued"] = batch({QUEUED})
# Consecutive ones of one stream each: the first and how many tell all.
told = {{name: [str(task) for task in some] for name, some in tasks.items()}}
with open(os.path.join(os.environ["FXHPC_HOME"], "recorded.json"), "w") as file:
    json.dump({{"functions": functions, "tasks": told}}, file)
os.kill(os.getpid(), signal.SIGKILL)
"""

#: What of a home is recorded: not its log, nor what belongs to processes.
_KEPT = ("store.db", "payloads", "spill", "recorded.json")


def path(version: int) -> Path:
    """Where the home with a store of this version lies."""
    return Path(__file__).parent / "recorded" / f"store-{version}.tar.xz"


def unpack(version: int, home: Path) -> None:
    """Put a recorded home in a place of its own."""
    unpack_file(path(version), home)


def unpack_file(archived: Path, home: Path) -> None:
    """Put a home that was packed in a place of its own."""
    home.mkdir(mode=0o700)
    with tarfile.open(archived) as archive:
        if hasattr(tarfile, "data_filter"):  # not in the first releases of 3.10 and 3.11
            archive.extractall(home, filter="data")
        else:
            archive.extractall(home)
    for directory in (home / "payloads", home / "spill"):
        if directory.exists():
            directory.chmod(0o700)


def record(python: str = sys.executable) -> Path:
    """Make a home of today's version and record it.

    Args:
        python: an interpreter that imports the fxhpc which is to write it.
    """
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        home.mkdir(mode=0o700)
        environment = {
            **os.environ,
            "FXHPC_HOME": str(home),
            "FXHPC_FORWARDER_GRACE": "1",
            "FXHPC_WORKERS": "2",
        }
        if socket.gethostname() != "before":
            raise SystemExit(
                "the name of this host would be recorded with the results; in a namespace: "
                "unshare --uts sh -c 'hostname before; python -m tests.compatibility.stores'"
            )
        subprocess.run([python, "-c", _SCRIPT], env=environment, cwd=directory, check=False)
        eventually(lambda: "INFO ended" in (home / "forwarder.log").read_text(), 30)
        version = _version_of(home / "store.db")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:xz") as archive:
            for name in _KEPT:
                if (home / name).exists():
                    archive.add(home / name, name, filter=nobodys)
        path(version).write_bytes(packed.getvalue())
        return path(version)


def _version_of(store: Path) -> int:
    # Of the file's header: nothing else may open a store that a forwarder may have.
    return int.from_bytes(store.read_bytes()[60:64], "big")


def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """What is recorded is no user's: a filter for archives."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    made = record(*sys.argv[1:])
    print(f"{made.name}: {made.stat().st_size} bytes; this version writes {len(MIGRATIONS)}")
