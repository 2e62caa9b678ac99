"""F2: `fxhpc store purge` on a disk that is full to the last byte, and where it can do nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fxhpc.forwarder.home import Home
from tests.faults.figures import record_figure
from tests.process.homes import TestHome
from tests.waiting import eventually

#: Stores arguments and results until an eighth of the disk is free.
SUBMIT = """
import os, sys
from fxhpc import FuncXClient

def f(x):
    return len(x)

if __name__ == "__main__":
    size, local = int(sys.argv[1]), "4b116d3c-1703-4f8f-9f6f-39921e5864df"

    def free():
        found = os.statvfs(os.environ["FXHPC_HOME"])
        return found.f_bavail / found.f_blocks

    with FuncXClient() as fxc:
        function = fxc.register_function(f)
        ids = []
        while free() > 0.125 and len(ids) < 20_000:
            batch = fxc.create_batch()
            for _ in range(400_000 // size):
                batch.add(os.urandom(size), function_id=function, endpoint_id=local)
            ids += fxc.batch_run(batch)
        fxc.wait(ids, timeout=50)
"""


def command(home: TestHome, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fxhpc.cli.main", "store", *arguments],
        env=home.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def usage(home: TestHome) -> dict[str, int]:
    shown: dict[str, int] = json.loads(command(home, "du", "--json").stdout)
    return shown


def fill(home: TestHome) -> Path:
    """Let a file of somebody else take all that is free; returns that file."""
    path = home.path.parent / "of-somebody-else"
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0")
    assert os.statvfs(home.path).f_bavail == 0
    return path


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("size", [2_000, 300_000], ids=["rows", "files"])
def test_f02_a_purge_frees_room_on_a_disk_that_is_full_to_the_last_byte(
    small_home: TestHome, size: int, runs: bool
) -> None:
    """F2: somebody else's file has taken the last byte, whether a forwarder runs or not: a purge
    gives back what the batches took, and says so as `du` does."""
    small_home.environment["FXHPC_FORWARDER_GRACE"] = "30" if runs else "0.1"
    if not small_home.path.parent.is_mount():
        return
    small_home.run("submit.py", SUBMIT, str(size))
    if not runs:
        eventually(lambda: not small_home.processes())
    fill(small_home)
    small_home.environment["FXHPC_FORWARDER_GRACE"] = "30"
    before = usage(small_home)
    done = command(small_home, "purge", "--all", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    after, purged = usage(small_home), json.loads(done.stdout)
    record_figure("F2", "freed by a purge on a full disk of 24 MB", purged["freed_bytes"], "bytes")
    assert purged["freed_bytes"] == before["disk"] - after["disk"]
    assert purged["freed_bytes"] > 12 * 2**20
    assert after["used"] < 2**20
    assert os.statvfs(small_home.path).f_bavail * 4096 >= purged["freed_bytes"]
    os.kill(small_home.forwarder().pid, signal.SIGTERM)


def test_f02_a_purge_that_cannot_free_anything_says_what_it_needs(small_home: TestHome) -> None:
    """F2: the reserve is gone too: the purge fails in words, with the bytes that are missing; with
    these it works."""
    small_home.environment["FXHPC_FORWARDER_GRACE"] = "0.1"
    if not small_home.path.parent.is_mount():
        return
    small_home.run("submit.py", SUBMIT, "100000")
    eventually(lambda: not small_home.processes())
    Path(f"{Home(small_home.path).store}.reserve").unlink()
    filler = fill(small_home)
    small_home.environment["FXHPC_FORWARDER_GRACE"] = "30"
    refused = command(small_home, "purge", "--all", "--yes")
    assert refused.returncode
    for part in ("on a disk that is so full", f"are needed on {small_home.path}", "0 bytes are"):
        assert part in refused.stderr
    os.truncate(filler, filler.stat().st_size - 1_200_000)
    assert command(small_home, "purge", "--all", "--yes").returncode == 0
    found = usage(small_home)
    assert found["used"] < 2**20
    assert found["database"] < 2**20
    os.kill(small_home.forwarder().pid, signal.SIGTERM)
