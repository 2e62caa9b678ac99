"""What a kill cut off in the log is nothing to tell; what was acknowledged and is missing is."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from fxhpc.errors import ForwarderError
from fxhpc.forwarder.store import acknowledged as store_acknowledged
from fxhpc.forwarder.store.acknowledged import Acknowledged
from fxhpc.forwarder.store.log import commits_in
from fxhpc.forwarder.store.operations import AddStream, AddSubmission, DropSubmissions
from fxhpc.forwarder.store.store import Store
from fxhpc.ids import new_id
from fxhpc.protocol.messages import StreamInfo

STREAM = bytes(12)
START, HEADER, PAGE = 32, 24, 4096  # bytes of a log's start, of a frame's header, of its page

#: The files of a store: database, log, note.
Files = tuple[bytes, bytes, bytes]


def new_store(directory: Path) -> Store:
    store = Store(str(directory / "store.db"))
    store.checkpoint_by_hand()
    store.raise_epoch()
    store.apply([AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))])
    return store


def add(store: Store, row: int, size: int = 40) -> None:
    store.apply([AddSubmission(row, STREAM, row, [bytes([row % 256]) * size])])


def files_of(path: str) -> Files:
    database, log, note = (
        Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal", ".acknowledged")
    )
    return database, log, note


def left_behind(directory: Path, files: Files) -> str:
    """A store as a kill left it; returns its path."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for suffix, content in zip(("", "-wal", ".acknowledged"), files, strict=True):
        if content:
            (directory / f"store.db{suffix}").write_bytes(content)
    return str(directory / "store.db")


def opened(path: str) -> tuple[int, bool]:
    """The last row of a store, and whether it was told that the log is damaged."""
    store = Store(path)
    rows = [row.row for row in store.recover().submissions]
    assert rows == list(range(1, len(rows) + 1))
    told = ["log" in notice and "damaged" in notice for notice in store.notices]
    store.close()
    assert not os.path.exists(f"{path}.acknowledged")
    return len(rows), any(told)


class Reused:
    """Ten rows in a log that holds more of before, behind them."""

    def __init__(self, directory: Path, rows: int) -> None:
        store = new_store(directory)
        for row in range(1, 31):
            add(store, row, 3000)
        store.checkpoint()  # the next commit begins the log anew
        self.states: list[Files] = []
        for row in range(31, 31 + rows):
            self.states.append(files_of(store.path))
            add(store, row)
        self.states.append(files_of(store.path))
        self.rows = 30 + rows
        store.close()

    def frames(self, after: int) -> list[int]:
        """Where the frames that this commit wrote begin."""
        before, log = self.states[after - 1][1], self.states[after][1]
        assert len(before) == len(log), "the log has grown"
        starts = range(START, len(log), HEADER + PAGE)
        return [at for at in starts if before[at : at + HEADER] != log[at : at + HEADER]]


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> Reused:
    return Reused(tmp_path_factory.mktemp("reused"), 10)


@pytest.mark.parametrize("commit", [1, 2, 10])
def test_a_commit_that_a_kill_cut_off_is_nothing_to_tell(
    reused: Reused, tmp_path: Path, commit: int
) -> None:
    """SQLite writes each frame's header, then its page, over what an older log had there."""
    database, before, note = reused.states[commit - 1]
    after = reused.states[commit][1]
    frames = reused.frames(commit)
    cuts = [0, START]
    for at in frames:
        cuts += [at + HEADER, at + HEADER + PAGE // 2, at + HEADER + PAGE]
    assert len(cuts) >= 5
    for cut in cuts:
        path = left_behind(tmp_path / "home", (database, after[:cut] + before[cut:], note))
        last = 30 + commit - (cut < cuts[-1])
        assert opened(path) == (last, False), cut


@pytest.mark.parametrize("damage", ["header", "page", "old page", "cut", "cut to a few frames"])
def test_an_acknowledged_commit_that_is_missing_is_told(
    reused: Reused, tmp_path: Path, damage: str
) -> None:
    database, log, note = reused.states[-1]
    at = reused.frames(10)[-1]
    changed = bytearray(log)
    if damage == "header":
        changed[at + 20] ^= 1
    elif damage == "page":
        changed[at + 1000] ^= 1
    elif damage == "old page":
        changed[at + HEADER : at + HEADER + PAGE] = reused.states[-2][1][at + HEADER :][:PAGE]
    elif damage == "cut":
        del changed[at + HEADER + 100 :]
    else:
        del changed[START + 2 * (HEADER + PAGE) :]
    assert changed != log
    last, told = opened(left_behind(tmp_path / "home", (database, bytes(changed), note)))
    assert last < reused.rows
    assert told
    assert opened(left_behind(tmp_path / "home", reused.states[-1])) == (reused.rows, False)


@pytest.mark.parametrize("note", ["none", "damaged", "damaged count", "short", "of another boot"])
def test_without_a_note_what_may_be_missing_is_told(
    reused: Reused, tmp_path: Path, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither believed nor an alarm by itself."""
    database, log, good = reused.states[-1]
    noted = {
        "none": b"",
        "damaged": good[:11] + bytes([good[11] ^ 1]) + good[12:],
        "damaged count": good[:27] + bytes([good[27] ^ 1]) + good[28:],
        "short": good[:-1],
        "of another boot": good,
    }[note]
    if note == "of another boot":
        monkeypatch.setattr(store_acknowledged, "boot_id", lambda: "another")
    assert opened(left_behind(tmp_path / "home", (database, log, noted))) == (reused.rows, False)
    at = reused.frames(10)[-1]
    torn = log[: at + HEADER] + reused.states[-2][1][at + HEADER :]
    last = opened(left_behind(tmp_path / "home", (database, torn, noted)))
    assert last == (reused.rows - 1, True)


def noted_frame(store: Store) -> int | None:
    return Acknowledged(store.path).frames_of(commits_in(f"{store.path}-wal"))


def frames_in_log(store: Store) -> int:
    """What SQLite itself says; for that it empties the log."""
    store.checkpoint()
    return int(store._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])


@pytest.mark.parametrize("seed", range(4))
def test_the_end_of_the_log_is_known_whatever_was_written(tmp_path: Path, seed: int) -> None:
    """Commits of all sizes, of nothing, undone ones that have reached the log, freed pages, logs
    that are begun anew; a process that ends and another that goes on."""
    source = random.Random(seed)
    store = new_store(tmp_path)
    row = 0
    for _ in range(400):
        what = source.choice(["add"] * 6 + ["large", "nothing", "undone", "drop", "compact", "end"])
        if what in ("add", "large"):
            row += 1
            add(store, row, source.randrange(60_000 if what == "large" else 400))
        elif what == "nothing":
            store.apply([DropSubmissions([row + 5])])
        elif what == "undone":
            store._connection.execute("PRAGMA cache_size = 3")  # pages go to the log at once
            rows = [*range(row + 1, row + source.randrange(3, 30)), row + 1]
            with pytest.raises(ForwarderError):
                store.apply([AddSubmission(n, STREAM, n, [bytes(3000)]) for n in rows])
            add(store, row := row + 1)
        elif what == "drop" and row:
            store.apply([DropSubmissions([row])])
        elif what == "compact" and store.usage()[1]:
            store.compact(2)
        elif what == "end" and source.random() < 0.2:
            files = files_of(store.path)  # as kill -9 leaves it
            store.close()
            store = Store(left_behind(tmp_path / "next", files))
            if source.random() < 0.7:
                store.checkpoint_by_hand()
            assert store.notices == []
            add(store, row := row + 1)
        else:
            continue
        assert files_of(store.path)[2][8:16] == files_of(store.path)[1][16:24], what
        noted = noted_frame(store)
        if source.random() < 0.05:
            assert noted == frames_in_log(store), what
        if source.random() < 0.01:
            assert store.truncate()
            add(store, row := row + 1)
    noted = noted_frame(store)
    assert noted == frames_in_log(store)
    store.close()


def test_what_cannot_be_noted_leaves_no_old_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    note = tmp_path / "store.db.acknowledged"
    assert note.stat().st_mode & 0o777 == 0o600
    assert store.disk() == sum(path.stat().st_size for path in tmp_path.glob("store.db*"))

    def refuse(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", refuse)
        add(store, 1)
    assert not note.exists()
    add(store, 2)
    store.close()
    store = Store(store.path)
    assert len(store.recover().submissions) == 2
    store.close()


def test_the_log_has_no_lock_that_could_be_dropped(tmp_path: Path) -> None:
    """To follow it a descriptor of its own is opened, and closed while the database is open."""
    store = new_store(tmp_path)
    log = os.stat(f"{store.path}-wal").st_ino
    database = os.stat(store.path).st_ino
    locked = [line.split()[5].split(":")[2] for line in open("/proc/locks")]  # noqa: SIM115
    assert str(database) in locked
    assert str(log) not in locked
    assert store._acknowledged is not None
    store._acknowledged.close()
    locked = [line.split()[5].split(":")[2] for line in open("/proc/locks")]  # noqa: SIM115
    assert str(database) in locked
    store.close()
