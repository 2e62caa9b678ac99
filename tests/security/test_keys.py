"""Secret keys lie in files that their owner alone can read, and are shown nowhere."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import zmq

from fxhpc.errors import HomeError
from fxhpc.transport import keys
from fxhpc.transport.keys import create_keys, load_keys, load_or_create_keys, new_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manager.key"


@pytest.mark.parametrize("umask", [0, 0o022, 0o277])
def test_a_new_file_is_private(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = create_keys(path, "manager")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o177 == 0
    assert os.listdir(path.parent) == ["manager.key"]
    if umask != 0o277:
        assert load_keys(path, "manager") == made


def test_a_file_is_never_replaced(path: Path) -> None:
    made = create_keys(path, "manager")
    with pytest.raises(FileExistsError):
        create_keys(path, "manager")
    assert load_keys(path, "manager") == made
    assert os.listdir(path.parent) == ["manager.key"]


def test_a_link_is_not_written_through(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        create_keys(path, "manager")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    create_keys(path, "manager")
    path.chmod(mode)
    with pytest.raises(HomeError, match=f"chmod 600 {path}"):
        load_keys(path, "manager")


def test_somebody_elses_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_keys(path, "manager")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(HomeError, match=f"belongs to the user with id {owner}"):
        load_keys(path, "manager")


def test_links_directories_and_pipes_are_refused(path: Path, tmp_path: Path) -> None:
    create_keys(path, "manager")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "directory").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "directory", "pipe"):
        with pytest.raises(HomeError, match=name):
            load_keys(tmp_path / name, "manager")


def test_a_key_of_another_role_is_refused(path: Path) -> None:
    create_keys(path, "manager")
    with pytest.raises(HomeError, match="'manager', not 'client'"):
        load_keys(path, "client")


@pytest.mark.parametrize("text", ["", "fxhpc-key 2\n", "\0\xff garbage", "x" * 10_000])
def test_a_file_that_holds_no_key(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(HomeError, match="holds no key"):
        load_keys(path, "manager")


def test_a_public_key_that_does_not_belong_to_the_secret(path: Path) -> None:
    made, other = create_keys(path, "manager"), new_keys("manager")
    path.write_bytes(path.read_bytes().replace(made.public, other.public))
    with pytest.raises(HomeError, match="holds no key"):
        load_keys(path, "manager")


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_keys(path, "manager")


def test_many_at_once_agree_on_one_key(path: Path) -> None:
    found: list[keys.KeyPair] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_or_create_keys(path, "client")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_the_secret_is_shown_nowhere(path: Path) -> None:
    made = create_keys(path, "manager")
    for text in (repr(made), str(made), f"{made}"):
        assert made.secret.decode() not in text


def test_old_libraries_are_told_of_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "pyzmq_version_info", lambda: (26, 4, 0))
    line = keys.slow_curve_warning()
    assert line is not None
    assert "27.3.0" in line
    assert "\n" not in line
    monkeypatch.setattr(zmq, "pyzmq_version_info", lambda: (27, 3, 0))
    assert keys.slow_curve_warning() is None
