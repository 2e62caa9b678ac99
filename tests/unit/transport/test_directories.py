"""Directories of killed processes: kept for a successor that may come, else removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.transport.directories import KEPT_S, OwnedDirectory


@pytest.fixture
def owner_file(tmp_path: Path) -> Path:
    return tmp_path / "forwarder.json"


@pytest.fixture
def killed(owner_file: Path) -> Iterator[str]:
    """The directory of a process that was killed, and whose owner file still names it."""
    directory = OwnedDirectory(owner_file=str(owner_file))
    owner_file.write_text(f'{{"clients": "ipc://{directory.path}/clients"}}')
    Path(directory.path, "clients").touch()
    assert directory._lock is not None
    os.close(directory._lock)  # as the kernel does
    yield directory.path
    shutil.rmtree(directory.path, ignore_errors=True)


def sweep() -> None:
    OwnedDirectory().remove()


def test_a_directory_waits_for_its_successor(killed: str, owner_file: Path) -> None:
    sweep()
    successor = OwnedDirectory(killed, ("clients",), str(owner_file))
    assert successor.path == killed
    assert not Path(killed, "clients").exists()
    sweep()
    assert Path(killed).is_dir()
    successor.remove()
    assert not Path(killed).exists()


def test_it_goes_when_its_home_is_gone_or_has_another(killed: str, owner_file: Path) -> None:
    owner_file.write_text("{}")
    sweep()
    assert not Path(killed).exists()


def test_it_goes_after_a_day(killed: str) -> None:
    lock = Path(killed, "lock")
    os.utime(lock, (0, lock.stat().st_mtime - KEPT_S - 1))
    sweep()
    assert not Path(killed).exists()


def test_a_successor_makes_it_again_if_it_is_gone(killed: str, owner_file: Path) -> None:
    shutil.rmtree(killed)
    successor = OwnedDirectory(killed, ("clients",), str(owner_file))
    assert successor.path == killed
    assert os.stat(killed).st_mode & 0o777 == 0o700
    successor.remove()


def test_it_is_not_taken_from_a_process_that_lives(owner_file: Path) -> None:
    first = OwnedDirectory(owner_file=str(owner_file))
    second = OwnedDirectory(first.path, ("clients",), str(owner_file))
    assert second.path != first.path
    first.remove()
    second.remove()
