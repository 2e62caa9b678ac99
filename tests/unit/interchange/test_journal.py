"""A journal on a full disk: nothing fails, and a restart knows that it does not know all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fxhpc.interchange.events import ManagerKnown, Sent
from fxhpc.interchange.journal import COMPACT_BYTES, Journal, Owner, read_journal
from fxhpc.protocol.messages import TaskRefs
from fxhpc.testing.clock import FakeClock

OWNER = Owner(b"instance", 1, 2.0)
FIRST = Sent("m", [TaskRefs(b"s" * 12, [0, 2], 1, 1)])
SECOND = Sent("m", [TaskRefs(b"s" * 12, [2, 2], 1, 1)])


class Disk:
    """Has room, or not."""

    full = False

    def __init__(self, write: Callable[[int, bytes], int]) -> None:
        self._write = write

    def write(self, descriptor: int, data: bytes) -> int:
        if self.full:
            self._write(descriptor, data[:3])  # what the last free bytes took
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(descriptor, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(os.write)
    monkeypatch.setattr(os, "write", disk.write)
    return disk


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def test_a_full_disk_is_no_error_and_is_told_once(
    path: str, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(path, OWNER)
    journal.write(ManagerKnown("m", True))
    journal.write(FIRST)
    disk.full = True
    journal.write(SECOND)
    journal.write(SECOND)
    journal.retry()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    owner, recovered = read_journal(path)
    assert owner == OWNER
    assert recovered.managers == ["m"]
    assert recovered.sent == [FIRST]
    assert recovered.incomplete
    journal.close()


def test_it_is_whole_again_when_there_is_room(path: str, disk: Disk) -> None:
    journal = Journal(path, OWNER)
    disk.full = True
    journal.write(FIRST)
    disk.full = False
    journal.write(SECOND)  # in its turn, not before the other
    journal.retry()
    _, recovered = read_journal(path)
    assert recovered.sent == [FIRST, SECOND]
    assert not recovered.incomplete
    journal.close()


def test_what_an_earlier_process_could_not_write_stays_unknown(path: str, disk: Disk) -> None:
    journal = Journal(path, OWNER)
    disk.full = True
    journal.write(FIRST)
    journal.close()  # as if it was killed
    disk.full = False
    journal = Journal(path, OWNER)
    journal.write(SECOND)
    journal.retry()
    assert read_journal(path)[1].incomplete
    journal.compact(has_all=True)  # nothing is outstanding
    assert not read_journal(path)[1].incomplete
    assert read_journal(path)[0] == OWNER
    journal.close()


def test_a_doubtful_one_stays_so_until_nothing_may_come_of_what_it_lacks(path: str) -> None:
    """Also if it is begun anew meanwhile, since nothing is outstanding."""
    journal = Journal(path, OWNER)
    journal.doubt()
    for _ in range(COMPACT_BYTES // 20):
        journal.write(FIRST)
    journal.compact(has_all=False)
    _, recovered = read_journal(path)
    assert not recovered.sent
    assert recovered.incomplete
    journal.close()
    journal = Journal(path, OWNER)
    journal.compact(has_all=False)
    assert read_journal(path)[1].incomplete
    journal.compact(has_all=True)
    assert not read_journal(path)[1].incomplete
    journal.close()


def test_it_tells_the_blocks_of_managers_also_when_it_was_begun_anew(path: str) -> None:
    journal = Journal(path, OWNER)
    for record in (
        ManagerKnown("m", True, "7"),
        ManagerKnown("n", True),
        ManagerKnown("gone", True, "8"),
        ManagerKnown("gone", False),
    ):
        journal.write(record)
    for _ in range(COMPACT_BYTES // 20):
        journal.write(FIRST)
    journal.close()
    recovered = read_journal(path)[1]
    assert recovered.blocks == {"m": "7"}
    journal = Journal(path, OWNER, recovered.managers, recovered.blocks)
    journal.compact(has_all=True)
    journal.close()
    recovered = read_journal(path)[1]
    assert not recovered.sent
    assert recovered.managers == ["m", "n"]
    assert recovered.blocks == {"m": "7"}


def test_how_long_managers_are_waited_for_outlives_restarts(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr("fxhpc.interchange.journal.since_boot", clock)

    def restarted(boot: str = "boot") -> tuple[Journal, dict[str, float]]:
        recovered = read_journal(path, boot)[1]
        arguments = (None, recovered.managers, recovered.blocks, boot, recovered.away)
        return Journal(path, *arguments), recovered.away

    journal, away = restarted()
    for manager in ("m", "n"):
        journal.write(ManagerKnown(manager, True))
    journal.close()
    journal, away = restarted()
    assert not away  # both were there until now
    journal.close()
    clock.advance(7.0)
    journal, away = restarted()
    assert away == {"m": 7.0, "n": 7.0}
    journal.write(ManagerKnown("n", True))  # it is back
    journal.close()
    clock.advance(5.0)
    journal, away = restarted()
    assert away == {"m": 12.0}
    for _ in range(COMPACT_BYTES // 20):
        journal.write(FIRST)
    journal.compact(has_all=True)
    journal.close()
    clock.advance(1.0)
    journal, away = restarted()
    assert away == {"m": 13.0, "n": 1.0}
    journal.close()
    _, away = restarted("another boot")
    assert not away  # its clock began anew


def test_a_journal_that_began_on_a_full_disk(path: str, disk: Disk) -> None:
    disk.full = True
    journal = Journal(path, OWNER)
    owner, recovered = read_journal(path)
    assert owner is None
    assert recovered.incomplete
    disk.full = False
    journal.retry()
    owner, recovered = read_journal(path)
    assert owner == OWNER
    assert not recovered.incomplete
    journal.close()


def test_a_journal_that_cannot_be_made_is_made_later(tmp_path: Path) -> None:
    path = tmp_path / "away" / "journal"
    journal = Journal(str(path), OWNER)
    journal.write(FIRST)
    assert journal.incomplete
    path.parent.mkdir()
    journal.retry()
    assert not journal.incomplete
    assert read_journal(str(path))[1].sent == [FIRST]
    journal.close()
