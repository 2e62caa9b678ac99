"""What was acknowledged outlives kill -9; a full disk refuses in words and harms nothing."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.errors import ForwarderError, HomeError, StoreFull
from fxhpc.forwarder.operations import AddResults, AddStream, AddSubmission, DropSubmissions
from fxhpc.forwarder.store import Store
from fxhpc.forwarder.store_errors import explain
from fxhpc.ids import new_id
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome

MB = 1024 * 1024
STREAM = bytes(12)

# Commits row after row, some of them with files, and says which are durable.
COMMITTER = """
import os, sys
from fxhpc.forwarder.operations import AddStream, AddSubmission, DropSubmissions
from fxhpc.forwarder.store import Store
from fxhpc.protocol.messages import StreamInfo

store = Store(sys.argv[1])
stream = bytes(12)
row = store.recover().next_submission
store.apply([AddStream(StreamInfo(stream, "endpoint", b"f" * 32))])
while True:
    payload = row.to_bytes(4, "big") * (300_000 if row % 50 == 0 else 1 + row % 500)
    operations = [AddSubmission(row, stream, row, [payload])]
    if row % 100 == 0:
        operations.append(DropSubmissions([row - 50]))
    store.apply(operations)
    os.write(1, b"%d\\n" % row)
    row += 1
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    source = random.Random(3)
    last = 0
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", COMMITTER, path], stdout=subprocess.PIPE, bufsize=0
        )
        assert child.stdout is not None
        with child.stdout as output:
            told = b""
            enough = last + source.randrange(200, 700)
            while not told or int(told.splitlines()[-1]) < enough:
                told = told[-50:] + output.read(4096)
                assert child.poll() is None
                told = told[: told.rindex(b"\n") + 1]
            child.send_signal(signal.SIGKILL)
            told += output.read()
        child.wait()
        last = int(told[: told.rindex(b"\n")].splitlines()[-1])

        store = Store(path)
        assert store.notices == []
        rows = [row.row for row in store.recover().submissions]
        dropped = set(range(50, max(rows) + 1, 100))
        if max(rows) % 100 == 50:
            dropped.discard(max(rows))
        dropped = {row for row in dropped if row + 50 <= max(rows)}
        assert rows == [row for row in range(1, max(rows) + 1) if row not in dropped]
        assert last <= max(rows) <= last + 1
        for row in source.sample(rows, 100):
            (payload,), _ = store.load_submission(row)
            assert payload[:4] == row.to_bytes(4, "big")
        files = {f"s{row}-0" for row in rows if row % 50 == 0}
        assert set(os.listdir(tmp_path / "payloads")) == files
        last = max(rows)
        store.close()


def fill(store: Store, size: int) -> int:
    """Store submissions until the disk is full; returns how many it took."""
    first = store.recover().next_submission
    for row in range(first, first + 30_000):
        try:
            store.apply([AddSubmission(row, STREAM, row, [os.urandom(size)])])
        except StoreFull as refused:
            text = str(refused)
            break
    for part in (store.path, "no room left", "FXHPC_HOME"):
        assert part in text
    return row - first


# Run in a process of its own, whose files cannot grow above a limit: to SQLite and to the payload
# files this is what a quota is.
LIMITED = """
import os, resource, signal, sys
sys.path.insert(0, sys.argv[3])
from test_store_faults import exercise_a_full_disk

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
exercise_a_full_disk(sys.argv[1], int(sys.argv[2]))
"""


def exercise_a_full_disk(path: str, size: int) -> None:
    """Fill the store, and see that it stays usable and nothing half-written is left."""
    store = Store(path)
    store.apply([AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))])
    stored = fill(store, size)
    rows = [row.row for row in store.recover().submissions]
    assert rows == list(range(1, stored + 1))
    for row in rows:
        assert len(store.load_submission(row)[0][0]) == size
    with pytest.raises(StoreFull):
        store.apply(
            [
                AddSubmission(10_000, STREAM, 10_000, [b"small"]),
                AddSubmission(10_001, STREAM, 10_001, [os.urandom(4 * MB)]),
            ]
        )
    assert [row.row for row in store.recover().submissions] == rows
    directory = os.path.join(os.path.dirname(path), "payloads")
    files = os.listdir(directory) if os.path.isdir(directory) else []
    assert len(files) == (stored if size > MB else 0)
    assert [name for name in os.listdir(os.path.dirname(path)) if "probe" in name] == []
    store.close()
    store = Store(path)
    assert [row.row for row in store.recover().submissions] == rows
    store.close()


@pytest.mark.parametrize("size", [1000, 50_000, 200_000])
def test_a_quota_refuses_in_words(tmp_path: Path, size: int) -> None:
    subprocess.run(
        [
            sys.executable, "-c", LIMITED, str(tmp_path / "store.db"), str(size),
            os.path.dirname(__file__),
        ],
        check=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB where this user may mount one, else a directory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    mounted = os.getuid() == 0 and not subprocess.run(mount, check=False).returncode
    yield disk
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_takes_results_and_can_be_emptied(small_disk: Path) -> None:
    store = Store(str(small_disk / "store.db"))
    try:
        if not small_disk.is_mount():  # to SQLite, a limit of its own is a full disk too
            store._connection.execute("PRAGMA max_page_count = 500")
        store.apply([AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))])
        stored = fill(store, 20_000)
        assert stored > 20
        if small_disk.is_mount():
            # There is a reserve for what has run, but not for anything of any size.
            store.apply([AddResults(1, STREAM, [0, 1], [Outcome(0, 0, bytes(50_000))])])
            with pytest.raises(StoreFull):
                store.apply([AddResults(2, STREAM, [1, 1], [Outcome(1, 0, bytes(16 * MB))])])
            assert os.listdir(small_disk / "payloads") == []
            assert store.load_results(1)[0] == [Outcome(0, 0, bytes(50_000))]
        assert len(store.recover().submissions) == stored
        store.apply([DropSubmissions(list(range(1, stored)))])
        store.apply([AddSubmission(9_000, STREAM, 9_000, [os.urandom(20_000)])])
        assert [row.row for row in store.recover().submissions] == [stored, 9_000]
    finally:
        store.close()
    assert (small_disk / "store.db.reserve").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_emptied_though_nothing_else_can_be_written(small_disk: Path) -> None:
    store = Store(str(small_disk / "store.db"))
    try:
        store.apply([AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))])
        if not small_disk.is_mount():
            store._connection.execute("PRAGMA max_page_count = 500")
        stored = fill(store, 500)
        filler = small_disk / "of-somebody-else"
        if small_disk.is_mount():
            room = os.statvfs(small_disk)
            filler.write_bytes(bytes(room.f_bavail * room.f_frsize))
            assert os.statvfs(small_disk).f_bavail == 0
        store.apply([DropSubmissions(list(range(1, stored + 1)))])
        assert store.recover().submissions == []
    finally:
        store.close()


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EDQUOT, StoreFull, "quota"),
        (errno.EROFS, HomeError, "read-only"),
        (errno.EIO, ForwarderError, "Input/output error"),
    ],
)
def test_what_sqlite_calls_an_io_error_is_told_apart(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[ForwarderError],
    words: str,
) -> None:
    """A probe beside the store says what it is: also a quota that has a little room left."""
    written = 0

    def write(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += len(data)
        if written > MB:
            raise OSError(number, os.strerror(number))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    told = explain(sqlite3.OperationalError("disk I/O error"), str(tmp_path / "store.db"))
    assert type(told) is kind
    assert words in str(told)
    assert os.listdir(tmp_path) == []


def test_a_read_only_directory(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.mkdir()
    with pytest.raises(ForwarderError, match=r"store\.db"):
        Store(str(path))


def test_what_is_stored_can_be_read_after_a_restart_on_a_full_disk(small_disk: Path) -> None:
    path = str(small_disk / "store.db")
    child = subprocess.Popen(
        [sys.executable, "-c", COMMITTER, path], stdout=subprocess.PIPE, bufsize=0
    )
    assert child.stdout is not None
    with child.stdout as output:
        output.read(1)
        child.kill()
    child.wait()
    if small_disk.is_mount():
        room = os.statvfs(small_disk)
        (small_disk / "of-somebody-else").write_bytes(bytes(room.f_bavail * room.f_frsize))
        assert os.statvfs(small_disk).f_bavail == 0
    store = Store(path)
    assert store.raise_epoch() == 1
    assert store.recover().submissions
    if small_disk.is_mount():
        (small_disk / "another").write_bytes(bytes(1000))  # files beside it find room too
    store.close()
