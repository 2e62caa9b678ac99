"""Recorded endpoints: what an interchange leaves that was killed while its forwarder was away.

`python -m tests.compatibility.endpoints` makes one of today's protocol: a home whose store knows
nothing of results that lie in the endpoint's spool, and a journal with a task that was being run.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from fxhpc import FuncXClient
from fxhpc.forwarder.home import Home
from fxhpc.protocol.versions import PROTOCOL
from fxhpc.testing.endpoint import RunningEndpoint
from tests.compatibility.stores import nobodys, unpack_file
from tests.waiting import eventually

NAME = "midway"

#: Tasks whose results are in the spool: not more than an interchange is sent ahead of its work.
SPOOLED = 40

#: What of an endpoint is recorded: not its keys, nor what belongs to processes.
_KEPT = ("endpoint.json", "epoch", "journal", "spool", "blocks.journal")


def path(protocol: int) -> Path:
    """Where the home lies that an endpoint of this protocol has left."""
    return Path(__file__).parent / "recorded" / f"endpoint-{protocol}.tar.xz"


def unpack(protocol: int, home: Path) -> None:
    """Put a recorded home in a place of its own."""
    unpack_file(path(protocol), home)
    for directory in (home / "endpoints", home / "endpoints" / NAME):
        directory.chmod(0o700)


def record() -> Path:
    """Make a home of today's version and record it."""
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory) / "home")
        os.environ["FXHPC_HOME"] = str(home.path)
        with RunningEndpoint(home.path, NAME) as endpoint:
            _leave(home, endpoint)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:xz") as archive:
            kept = ["store.db", "store.db-wal", "recorded.json"]
            for name in [*kept, *(f"endpoints/{NAME}/{one}" for one in _KEPT)]:
                if (home.path / name).exists():
                    archive.add(home.path / name, name, filter=nobodys)
        path(PROTOCOL).write_bytes(packed.getvalue())
    return path(PROTOCOL)


def _leave(home: Home, endpoint: RunningEndpoint) -> None:
    with FuncXClient() as client:
        function = client.register_function(subprocess.getoutput)
        batch = client.create_batch()
        for command in ("sleep 3", *(f"echo {number}" for number in range(SPOOLED)), "sleep 600"):
            batch.add(command, function_id=function, endpoint_id=endpoint.endpoint_id)
        gate, *spooled, running = client.batch_run(batch)
        eventually(lambda: client.get_task(gate)["status"] == "running")
        told = {"gate": gate, "spooled": spooled, "running": running}
        (home.path / "recorded.json").write_text(json.dumps(told))
        owner = home.read_owner()
        assert owner is not None
        client.close()
        os.kill(owner.pid, 9)
    directory = endpoint.directory

    def is_left() -> bool:
        # All but the last one have ended, and the forwarder cannot have been told.
        status = json.loads(directory.status.read_text())
        return bool(directory.spool.stat().st_size) and (status["queued"], status["running"]) == (
            0,
            1,
        )

    eventually(is_left, told=directory.status.read_text)
    assert endpoint.interchange is not None
    for process in (endpoint.interchange, *endpoint.managers):
        process.kill()
        process.wait()


if __name__ == "__main__":
    made = record()
    print(f"{made.name}: {made.stat().st_size} bytes")
