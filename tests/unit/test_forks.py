"""Forks wait for what other threads are in the middle of, and these for forks: not for ever."""

from __future__ import annotations

import os
import threading

import pytest

from fxhpc import forks


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> forks._None:
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    return forks._None()


def _waits(thread: threading.Thread) -> bool:
    thread.join(0.05)
    return thread.is_alive()


def test_a_fork_waits_until_others_are_done(gate: forks._None) -> None:
    fork = threading.Thread(target=gate.before)
    with gate, gate:
        fork.start()
        assert _waits(fork)
        with gate:  # whoever is inside may go on, or the fork would wait for ever
            pass
    fork.join(10)
    assert not fork.is_alive()


def test_nobody_enters_during_a_fork(gate: forks._None) -> None:
    gate.before()
    entered = threading.Thread(target=lambda: gate.__enter__())
    entered.start()
    assert _waits(entered)
    gate.after()
    entered.join(10)
    assert not entered.is_alive()


def test_who_is_inside_may_fork(gate: forks._None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "LIMIT_S", 1000.0)
    with gate:
        gate.before()
        gate.after()
        gate._forget_all()  # as in the child, which then leaves
    gate.before()
    gate.after()


def test_nobody_waits_for_ever(gate: forks._None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "LIMIT_S", 0.01)
    stuck = threading.Thread(target=gate.__enter__)
    stuck.start()
    stuck.join()
    gate.before()  # its disk hangs: the fork happens all the same
    other = threading.Thread(target=gate.__enter__)
    other.start()
    other.join(10)
    assert not other.is_alive()


def test_a_child_finds_nobody_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "LIMIT_S", 0.01)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with forks.none:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(bool(forks.none._inside) or bool(forks.none._forks))
    leave.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert not forks.none._forks
