"""F14: the machine loses its power: what the disk has of the store, and what it gives back."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fxhpc.forwarder.store.store import Store
from tests.faults.faulty_disk import Change, FaultyDisk
from tests.faults.figures import record_figure
from tests.faults.power_loss import rebuild

#: Powers that go, in each test.
CUTS = 60

#: Commits rows, results of some, and drops others; says after each commit that it is acknowledged.
#: The log is emptied as the forwarder's writer does it.
COMMITTER = """
import os, sys
from fxhpc.forwarder.store.operations import AddResults, AddStream, AddSubmission, DropSubmissions
from fxhpc.forwarder.store.store import Store
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome

directory, level = sys.argv[1:]
store = Store(directory + "/store.db", full_sync=level == "full")
if level != "full":
    store.checkpoint_by_hand()
else:
    store._connection.execute("PRAGMA wal_autocheckpoint = 40").fetchall()
store.recover()
store.raise_epoch()
stream = bytes(12)
store.apply([AddStream(StreamInfo(stream, "endpoint", b"f" * 32))])
said = os.open(directory + "/said", os.O_WRONLY | os.O_CREAT, 0o600)
for row in range(1, 161):
    payload = row.to_bytes(4, "big") * (1 + 37 * row % 1500)
    operations = [AddSubmission(row, stream, row, [payload])]
    if row % 3 == 0:
        outcome = Outcome(row - 1, 0, payload)
        operations.append(AddResults(row // 3, stream, [row - 1, 1], [outcome]))
    if row % 10 == 0:
        operations.append(DropSubmissions([row - 5]))
    store.apply(operations)
    os.write(said, b"%4d" % row)
    if level != "full" and row % 12 == 0:
        store.checkpoint()
os.kill(os.getpid(), 9)
"""


def expected(last: int) -> list[int]:
    """The rows that are there when this one was committed last."""
    dropped = {row - 5 for row in range(10, last + 1, 10)}
    return [row for row in range(1, last + 1) if row not in dropped]


def changes_of(tmp_path: Path, level: str) -> list[Change]:
    """What a store writes and synchronises, and what it acknowledges, in their order."""
    directory = tmp_path / "home"
    directory.mkdir()
    disk = FaultyDisk(tmp_path / "faults", directory, logged=True)
    done = subprocess.run(
        [sys.executable, "-c", COMMITTER, str(directory), level],
        env={**os.environ, **disk.environment}, timeout=60, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    return list(disk.logged())


def last_said(changes: list[Change]) -> int:
    """The row that was acknowledged last."""
    return max((int(change.data) for change in changes if change.path == "said"), default=0)


@pytest.mark.parametrize("level", ["full", "normal"])
def test_f14_what_a_loss_of_power_leaves(tmp_path: Path, level: str) -> None:
    """F14: the power goes at any of 60 moments; of what was not synchronised the disk has some
    sectors. The store opens, damaged it is never. With FULL all that was acknowledged is there;
    with NORMAL all but the last moments: what was acknowledged before the log was synchronised."""
    changes = changes_of(tmp_path, level)
    assert last_said(changes) == 160
    source = random.Random(14)
    first = next(at for at, change in enumerate(changes) if change.path == "said")
    missing = []
    for cut in sorted(source.sample(range(first, len(changes)), CUTS)):
        before = changes[: cut + 1]
        directory = tmp_path / "disk"
        rebuild([change for change in before if change.path != "said"], source, directory)
        store = Store(str(directory / "store.db"), full_sync=level == "full")
        recovered = store.recover()
        told = [notice for notice in store.notices if "was damaged (" in notice]
        assert told == [], cut
        rows = [row.row for row in recovered.submissions]
        last = max(rows, default=0)
        assert rows == expected(last), "a gap: something older is missing"
        assert [row.row for row in recovered.results] == list(range(1, last // 3 + 1))
        for row in rows:
            assert store.load_submission(row)[0][0][:4] == row.to_bytes(4, "big")
        said = last_said(before)
        if level == "normal":
            synced = max(
                (at for at, one in enumerate(before) if one.what == "s" and "-wal" in one.path),
                default=0,
            )
            missing.append(max(0, said - last))
            said = last_said(before[:synced])
        assert last >= said, cut
        assert store.raise_epoch() >= 2, "an epoch that endpoints have seen would be lower"
        store.close()
        shutil.rmtree(directory)
    if missing:
        record_figure("F14", "commits that a loss of power costs, NORMAL, most", max(missing))
