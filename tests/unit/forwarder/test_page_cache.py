"""Large files go past the page cache while its pages are dear, and say the same either way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.forwarder.store.page_cache import PageCache

MB = 2**20


class Ticking:
    """A clock of processor time: each write through the cache takes as long as is said here."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step / 2
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR, 0o600)
    yield descriptor
    os.close(descriptor)


def test_dear_pages_are_passed_for_a_while_and_then_looked_at_again(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxhpc.forwarder.store.page_cache._TRUSTED", 6 * MB)
    clock = Ticking()
    cache = PageCache(clock, can_pass=True)
    data = os.urandom(2 * MB)
    for dear, passed in [(0.0002, False), (0.002, True)]:
        clock.step = 2 * 2 * dear
        cache.write(file, data)
        assert cache.is_passed is passed
    clock.step = 0.0
    for left in (True, True, False):
        cache.write(file, data)
        assert cache.read(file) == data
        assert cache.is_passed is left


@pytest.mark.parametrize("can_pass", [True, False])
def test_few_bytes_tell_nothing(file: int, can_pass: bool) -> None:
    clock = Ticking()
    cache = PageCache(clock, can_pass=can_pass)
    clock.step = 1.0
    cache.write(file, bytes(MB // 2))
    assert not cache.is_passed
    cache.write(file, bytes(MB // 2))
    assert cache.is_passed is can_pass


def test_a_system_that_does_not_know_how_is_asked_once(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(*_: object) -> int:
        asked.append(1)
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "pwritev", refuse)
    clock = Ticking()
    cache = PageCache(clock, can_pass=True)
    clock.step = 1.0
    data = os.urandom(MB)
    for _ in range(4):
        cache.write(file, data)
    assert asked == [1]
    assert cache.read(file) == data


def test_a_full_disk_is_told(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ticking()
    cache = PageCache(clock, can_pass=True)
    clock.step = 1.0
    cache.write(file, bytes(MB))

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", refuse)
    with pytest.raises(OSError, match="No space"):
        cache.write(file, bytes(MB))


def test_a_file_that_is_shorter_than_it_was_is_read_as_it_is(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Ticking()
    cache = PageCache(clock, can_pass=True)
    clock.step = 1.0
    cache.write(file, bytes(MB))
    assert cache.is_passed
    answers = [10, 0]
    monkeypatch.setattr(os, "preadv", lambda *_: answers.pop(0))
    assert cache.read(file) == bytes(10)
