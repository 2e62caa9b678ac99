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
from fxhpc.forwarder.store.errors import explain
from fxhpc.forwarder.store.operations import (
    AddResults,
    AddStream,
    AddSubmission,
    DropResults,
    DropSubmissions,
)
from fxhpc.forwarder.store.reserve import Reserve
from fxhpc.forwarder.store.store import Store
from fxhpc.ids import new_id
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome

MB = 1024 * 1024
STREAM = bytes(12)

# Commits row after row, some of them with files, and says which are durable.
COMMITTER = """
import os, sys
from fxhpc.forwarder.store.operations import AddStream, AddSubmission, DropSubmissions
from fxhpc.forwarder.store.store import Store
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


def fill_by_others(disk: Path) -> None:
    """Let a file of somebody else take what is left of a small disk."""
    if not disk.is_mount():
        return
    room = os.statvfs(disk)
    with (disk / "of-somebody-else").open("ab") as file:
        file.write(bytes(room.f_bavail * room.f_frsize))
    assert os.statvfs(disk).f_bavail == 0


@pytest.mark.parametrize("is_opened_again", [False, True])
@pytest.mark.parametrize("size", [500, 20_000])
def test_a_full_disk_is_emptied_though_nothing_else_can_be_written(
    small_disk: Path, size: int, is_opened_again: bool
) -> None:
    """Rows go, and the file system has its room back, however the store was left."""
    store = Store(str(small_disk / "store.db"))
    try:
        store.apply([AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))])
        if not small_disk.is_mount():
            store._connection.execute("PRAGMA max_page_count = 500")
        stored = fill(store, size)
        fill_by_others(small_disk)
        if is_opened_again:
            store.close()
            fill_by_others(small_disk)
            store = Store(store.path)
        taken = store.disk()
        for first in range(1, stored + 1, 200):
            rows = list(range(first, min(first + 200, stored + 1)))
            store.apply([DropSubmissions(rows)])
        while store.compact(500):
            pass
        store.truncate()
        assert store.recover().submissions == []
        assert store._database_size() < 200_000
        assert store.disk() < taken / 2
        assert store.disk() == sum(
            path.stat().st_size for path in small_disk.glob("store.db*") if path.is_file()
        )
        store.apply([AddSubmission(100_000, STREAM, 0, [b"new work is welcome again"])])
    finally:
        store.close()


def test_results_leave_the_last_of_the_reserve_to_what_makes_room(small_disk: Path) -> None:
    if not small_disk.is_mount():
        return
    store = Store(str(small_disk / "store.db"))
    try:
        store.apply([AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))])
        fill(store, 20_000)
        fill_by_others(small_disk)
        with pytest.raises(StoreFull):
            for row in range(1, 1000):
                store.apply(
                    [AddResults(row, STREAM, [row, 1], [Outcome(row, 0, os.urandom(20_000))])]
                )
        assert row > 1
        fill_by_others(small_disk)
        with pytest.raises(StoreFull, match="kept for running work"):
            store.apply([AddSubmission(100_000, STREAM, 0, [b"small"])])
        store.apply([DropResults(list(range(1, row)))])
        assert store.recover().results == []
    finally:
        store.close()


def test_without_a_reserve_it_is_told_what_is_missing(small_disk: Path) -> None:
    """And the files of what is forgotten go, whether their rows can go or not."""
    if not small_disk.is_mount():
        return
    store = Store(str(small_disk / "store.db"))
    try:
        store.apply([AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))])
        store.apply([AddSubmission(1, STREAM, 0, [os.urandom(300_000)])])
        fill(store, 20_000)
        assert store._reserve is not None
        store._reserve.release()
        store.truncate()
        fill_by_others(small_disk)
        store.apply([DropSubmissions([1])])  # its file leaves room enough for that
        assert os.listdir(small_disk / "payloads") == []
        store._reserve.release()
        fill_by_others(small_disk)
        store.truncate()
        fill_by_others(small_disk)
        with pytest.raises(StoreFull, match=r"smaller .* needed on .*disk, 0 bytes are free"):
            store.apply([DropSubmissions([2])])
        assert store.recover().submissions[0].row == 2
    finally:
        store.close()


def test_a_reserve_suits_its_disk_and_grows_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reserve, "room", lambda self: free)
    path = str(tmp_path / "reserve")
    sizes = []
    for mb in (100, 20, 5, 1, 0.4):
        free = int(mb * MB)
        reserve = Reserve(path)
        reserve.begin()
        sizes.append(reserve.size)
        reserve.release()
    assert sizes == [8 * MB, 4 * MB, MB, MB // 2, 0]
    free = 5 * MB
    Reserve(path).begin()
    free = 100 * MB
    reserve = Reserve(path)
    assert reserve.size == MB
    reserve.begin()
    assert reserve.size == os.stat(path).st_size == 8 * MB


def test_what_was_given_up_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 100 * MB
    monkeypatch.setattr(Reserve, "room", lambda self: free)
    reserve = Reserve(str(tmp_path / "reserve"))
    reserve.begin()
    sizes = [reserve.size]
    while reserve.give_half():
        sizes.append(reserve.size)
    assert sizes == [8 * MB, 4 * MB, 2 * MB, MB, MB // 2]
    free = 2 * MB
    assert not reserve.hold()
    assert reserve.size == 2 * MB + MB // 2
    free = 100 * MB
    assert reserve.hold()
    assert reserve.size == 8 * MB


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
