"""A child that stays stopped is killed, unless it goes on in time."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import psutil
import pytest

from fxhpc.client.connection import standing_still
from tests.waiting import eventually


class Waiting:
    """A thread that waits for a child."""

    def __init__(self) -> None:
        self.child = subprocess.Popen(["sleep", "60"])
        self.leaving = threading.Event()
        self.found: list[int] = []
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        self.found.append(standing_still.wait(self.child, self.leaving))

    def signal(self, number: int) -> None:
        os.kill(self.child.pid, number)

    def status(self) -> str:
        return psutil.Process(self.child.pid).status()

    def end(self) -> int:
        """How the child ended."""
        self._thread.join(10.0)
        assert not self._thread.is_alive()
        assert not psutil.pid_exists(self.child.pid)
        return self.found[0]

    def close(self) -> None:
        self.child.kill()
        self._thread.join(10.0)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    monkeypatch.setattr(standing_still, "_LOOK_S", 0.02)
    waiting = Waiting()
    yield waiting
    waiting.close()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was found, each time that somebody looked whether the child goes on."""
    found: list[bool] = []
    goes_on = standing_still._goes_on

    def look(pid: int) -> bool:
        found.append(goes_on(pid))
        return found[-1]

    monkeypatch.setattr(standing_still, "_goes_on", look)
    return found


def test_an_end_is_told(waiting: Waiting) -> None:
    waiting.signal(signal.SIGTERM)
    assert waiting.end() == -signal.SIGTERM


def test_one_that_stays_stopped_is_killed(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(standing_still, "STILL_S", 0.1)
    waiting.signal(signal.SIGSTOP)
    assert waiting.end() == -signal.SIGKILL
    assert "stood still for 0.1 s (SIGSTOP): it is killed, and another one runs" in caplog.text


def test_one_that_goes_on_lives(
    waiting: Waiting, looks: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    for count in (1, 2):
        waiting.signal(signal.SIGSTOP)
        eventually(lambda: looks[-1:] == [False])
        waiting.signal(signal.SIGCONT)
        eventually(lambda count=count: looks.count(True) == count)
    assert waiting.status() != psutil.STATUS_STOPPED
    assert not waiting.found
    waiting.signal(signal.SIGTERM)
    assert waiting.end() == -signal.SIGTERM
    assert not caplog.records


def test_one_that_is_killed_while_it_stands_still_has_ended(
    waiting: Waiting, looks: list[bool]
) -> None:
    waiting.signal(signal.SIGSTOP)
    eventually(lambda: looks)
    waiting.signal(signal.SIGKILL)
    assert waiting.end() == -signal.SIGKILL


def test_whoever_shall_end_and_stands_still_is_killed_at_once(
    waiting: Waiting, looks: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    waiting.signal(signal.SIGSTOP)
    eventually(lambda: looks)
    waiting.leaving.set()
    assert waiting.end() == -signal.SIGKILL
    assert not caplog.records


def test_a_child_that_somebody_else_has_waited_for_is_over(waiting: Waiting) -> None:
    child = subprocess.Popen(["true"])
    os.waitpid(child.pid, 0)
    assert standing_still.wait(child, threading.Event()) == 0
