"""Which homes are taken, and what is said of the others."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fxhpc.errors import HomeError
from fxhpc.forwarder.home import ForwarderAddress, Home

ADDRESS = ForwarderAddress("host", "boot", 1, 2.0, "ipc:///c", "ipc:///m")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def test_a_home_may_be_a_symbolic_link(home: Home, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home.path)
    Home(tmp_path / "link").create()


def test_a_link_does_not_hide_that_others_can_enter(home: Home, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home.path)
    home.path.chmod(0o755)
    with pytest.raises(HomeError, match="chmod 700"):
        Home(tmp_path / "link").create()


def refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_lock_that_another_has_is_no_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(*_: object) -> None:
        raise refuse(errno.EAGAIN)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    assert home.take_lock() is None


def test_a_file_system_without_locks(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(*_: object) -> None:
        raise refuse(errno.ENOLCK)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(HomeError, match="file system with locks"):
        home.take_lock()


def test_a_home_that_is_read_only(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise refuse(errno.EROFS)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(HomeError, match="read-only"):
        home.take_lock()


def test_a_full_disk_is_told_in_words(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise refuse(errno.ENOSPC)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(HomeError, match="free space"):
        home.write_owner(ADDRESS)


def test_a_removed_home_is_noticed(home: Home) -> None:
    lock = home.take_lock()
    assert lock is not None
    assert home.is_locked_by(lock)
    home.lock.unlink()
    assert not home.is_locked_by(lock)
    home.lock.touch()  # a successor's
    assert not home.is_locked_by(lock)
    os.close(lock)


@pytest.mark.parametrize("grace", ["1m", "-1", "inf", "nan"])
def test_a_grace_that_is_no_time_is_told_before_it_is_ready(home: Home, grace: str) -> None:
    read, write = os.pipe()
    with open(read, "rb") as report:
        process = subprocess.Popen(
            [sys.executable, "-m", "fxhpc.forwarder", str(home.path), str(write)],
            env={**os.environ, "FXHPC_FORWARDER_GRACE": grace},
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        text = report.read().decode()
    assert process.wait(30) == 1
    assert "FXHPC_FORWARDER_GRACE" in text
    assert "number of seconds" in text


def test_a_home_that_is_no_directory_or_has_no_name_in_text(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o700)
    with pytest.raises(HomeError, match="is no directory"):
        Home(tmp_path / "file").check()
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(HomeError, match="no UTF-8") as raised:
        Home(odd).create()
    assert str(raised.value).encode()
    assert not odd.exists()


def test_a_directory_of_somebody_else_is_called_no_link(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(HomeError, match="belongs to user"):
        home.check()


@pytest.mark.parametrize("text", ["lab/store\n", "\0\0"])
def test_a_store_is_looked_for_by_an_absolute_path_alone(home: Home, text: str) -> None:
    home.store_place.write_text(text)
    with pytest.raises(HomeError, match="no absolute path"):
        _ = Home(home.path).store


def test_a_store_that_cannot_be_seen_is_not_taken_for_none(home: Home, tmp_path: Path) -> None:
    assert not home.has_store()
    home.store_place.write_text(f"{tmp_path}/not mounted\n")
    with pytest.raises(HomeError, match="does not see"):
        Home(home.path).has_store()
