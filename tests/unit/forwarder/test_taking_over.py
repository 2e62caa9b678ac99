"""Who was taken over writes nothing more to the store, whatever it has open, and says nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.errors import ForwarderError, HomeError
from fxhpc.forwarder import taking_over
from fxhpc.forwarder.claim import Claim, Displaced
from fxhpc.forwarder.home import ForwarderAddress, Home
from fxhpc.forwarder.store.operations import AddStream, AddSubmission, Operation
from fxhpc.forwarder.store.store import Store
from fxhpc.forwarder.store.writer import Writer
from fxhpc.ids import new_id, new_stream
from fxhpc.protocol.messages import StreamInfo
from tests.waiting import eventually

STREAM = new_stream()
LARGE = b"x" * 2**19  # in a file of its own


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def opened(home: Home) -> Store:
    return Store(str(home.store))


def stream() -> list[Operation]:
    return [AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))]


def task(row: int, payload: bytes = b"x") -> list[Operation]:
    return [AddSubmission(row, STREAM, row, [payload])]


def rows(store: Store) -> list[int]:
    return [submission.row for submission in store.recover().submissions]


def test_a_claim_holds_until_another_is_made(home: Home) -> None:
    first, second = Claim(home), Claim(home)
    first.make(sync=True)
    first.check()
    second.make(sync=True)
    second.check()
    with pytest.raises(Displaced):
        first.check()
    assert not first.holds()
    assert home.claim.stat().st_mode & 0o777 == 0o600


def test_a_claim_that_cannot_be_read_is_not_lost(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim(home)
    claim.make(sync=False)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("fxhpc.forwarder.claim.os.open", refuse)
        with pytest.raises(ForwarderError, match="nothing was written"):
            claim.check()
        assert claim.holds()
    claim.check()


def test_nothing_is_written_nor_answered_once_it_is_lost(home: Home) -> None:
    store = opened(home)
    store.claim = claim = Claim(home)
    claim.make(sync=False)
    woken = threading.Event()
    writer = Writer(store, woken.set)
    writer.submit(1, stream())
    writer.submit(2, task(1))
    eventually(lambda: writer.completed())
    Claim(home).make(sync=False)
    writer.submit(3, task(2))
    eventually(lambda: writer.is_displaced)
    writer.submit(4, task(3))
    writer.leave()
    assert writer.completed() == []
    store.claim = None
    assert rows(store) == [1]
    store.close()


def test_what_was_committed_while_it_was_lost_is_not_called_stored(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new owner may have looked before."""
    store = opened(home)
    store.claim = claim = Claim(home)
    claim.make(sync=False)
    store.apply(stream())

    def lose_it() -> None:
        Claim(home).make(sync=False)
        Claim.confirm(claim)

    monkeypatch.setattr(claim, "confirm", lose_it)
    with pytest.raises(Displaced):
        store.apply(task(1))
    monkeypatch.undo()
    store.claim = None
    store.close()


def test_a_store_that_was_renewed_gets_nothing_of_who_has_the_old_files_open(home: Home) -> None:
    old = opened(home)
    old.apply(stream())
    old.apply(task(1, LARGE))
    taking_over.renew(home.store)
    new = opened(home)
    assert rows(new) == [1]
    assert new.load_submission(1)[0] == [LARGE]
    old.apply(task(2))  # without a look at its claim: as if it hung in between
    with pytest.raises(ForwarderError):
        old.apply(task(3, LARGE))  # its directory is gone
    old.checkpoint()
    assert rows(new) == [1]
    new.apply(task(2, LARGE))
    new.close()
    with_all = opened(home)
    assert rows(with_all) == [1, 2]
    assert with_all.load_submission(2)[0] == [LARGE]
    with_all.close()
    # `old` is left as it is: its process would end without closing it.
    old._connection.execute("PRAGMA journal_mode = MEMORY")
    old._connection.close()
    assert sorted(path.name for path in (home.path / "payloads").iterdir()) == ["s1-0", "s2-0"]


@pytest.fixture
def locked(home: Home) -> Iterator[subprocess.Popen[str]]:
    """Another process has the lock, and does nothing."""
    code = (
        "import sys; from fxhpc.forwarder.home import Home; "
        "lock = Home(sys.argv[1]).take_lock(); print(lock, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(home.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        yield process
        process.kill()


def test_a_lock_that_nobody_gives_up_is_broken(home: Home, locked: object) -> None:
    old = home.lock.stat().st_ino
    home.write_owner(ForwarderAddress("elsewhere", "boot", 1, 2.0, "", ""))
    store = opened(home)
    store.apply(stream())
    store.close()
    before = home.store.stat().st_ino
    lock = taking_over.take_over(home, Claim(home), patience_s=0.1)
    assert lock is not None
    assert home.lock.stat().st_ino != old
    assert home.is_locked_by(lock)
    assert home.store.stat().st_ino != before


def test_who_has_ended_and_said_so_leaves_the_files_as_they_are(home: Home) -> None:
    store = opened(home)
    store.close()
    before = home.store.stat().st_ino
    assert taking_over.take_over(home, Claim(home), patience_s=0.1) is not None
    assert home.store.stat().st_ino == before


def test_a_store_that_somebody_writes_to_is_not_taken_over(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.store.write_bytes(b"x")
    states = iter(range(100))
    monkeypatch.setattr(taking_over, "_state", lambda _: next(states))
    with pytest.raises(HomeError, match="somebody writes to it all the time"):
        taking_over.renew(home.store)
    assert {path.name for path in home.path.iterdir()} == {"locals", "store.db"}


def test_a_disk_without_room_for_a_copy(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.store.write_bytes(b"x")

    class Full:
        f_bavail, f_frsize = 0, 4096

    monkeypatch.setattr("fxhpc.forwarder.taking_over.os.statvfs", lambda _: Full)
    with pytest.raises(HomeError, match="free beside it"):
        taking_over.renew(home.store)


def test_who_is_killed_while_payload_files_change_places_loses_none(home: Home) -> None:
    store = opened(home)
    store.apply(stream())
    store.apply(task(1, LARGE))
    store.close()
    (home.path / "payloads").rename(home.path / "payloads.old")
    (home.path / "payloads.new").mkdir()
    again = opened(home)
    assert again.load_submission(1)[0] == [LARGE]
    again.close()
    taking_over.renew(home.store)
    assert [path.name for path in home.path.glob("payloads*")] == ["payloads"]
