"""When a manager is told to end by what it belongs to: here, whoever has started its container."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.manager.watch import Watch
from fxhpc.protocol.pool import ManagerSpec


class Manager:
    """As much of a manager as a watch needs."""

    def __init__(self, tie: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.ends: list[tuple[str, bool]] = []
        spec = ManagerSpec(endpoint=b"", workers=1)
        self.watch = Watch(self.selector, spec, lambda *end: self.ends.append(end))
        self.watch.hold(str(tie))

    def turn(self) -> None:
        for key, mask in self.selector.select(0):
            key.data(mask)
        self.watch.look()


@pytest.fixture
def tie(tmp_path: Path) -> Iterator[Path]:
    """The named pipe; signals are as before after the test."""
    path = tmp_path / "it's the tie"
    os.mkfifo(path, 0o600)
    yield path
    signal.set_wakeup_fd(-1)


_GONE = ("what had started its container is gone", True)


def test_it_ends_when_nobody_has_the_other_end(tie: Path) -> None:
    other = os.open(tie, os.O_RDWR)
    manager = Manager(tie)
    assert not tie.exists()  # nothing is left of it, whoever is killed
    manager.turn()
    assert manager.ends == []
    os.close(other)
    manager.turn()
    manager.turn()
    assert manager.ends == [_GONE]


def test_it_ends_at_once_if_nobody_has_it_by_now(tie: Path) -> None:
    manager = Manager(tie)
    manager.turn()
    assert manager.ends == [_GONE]


def test_it_ends_at_once_if_there_is_none(tie: Path) -> None:
    tie.unlink()
    manager = Manager(tie)
    manager.turn()
    assert manager.ends == [_GONE]


def test_signals_come_by_the_pipe(tie: Path) -> None:
    got: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: got.append(number))
        for number in (signal.SIGTERM, signal.SIGUSR1)
    }
    try:
        other = os.open(tie, os.O_RDWR)
        os.write(other, b"D")  # before it was there
        manager = Manager(tie)
        assert got == [signal.SIGUSR1]
        os.write(other, b"?T")
        manager.turn()
        assert got == [signal.SIGUSR1, signal.SIGTERM]
        os.close(other)
        manager.turn()
        assert manager.ends == [_GONE]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
