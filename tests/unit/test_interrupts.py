"""Ctrl-C that comes while modules are imported, in a fork's hook, or just before a wait."""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from fxhpc import interrupts
from fxhpc.interrupts import Held, HeldBeyond
from tests.waiting import LIMIT


@pytest.fixture(autouse=True)
def python_handler() -> Iterator[None]:
    """A suite that was started in the background may ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


class _Thing:
    pass


def _interrupted_in_a_callback() -> None:
    thing = _Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None


def test_a_block_ends_and_then_comes_the_interrupt() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), Held():
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert done == [1]


def test_what_the_callback_of_a_weak_reference_would_lose() -> None:
    with pytest.raises(KeyboardInterrupt), Held():
        _interrupted_in_a_callback()


def test_the_users_own_handler_is_called_as_the_signal_came() -> None:
    calls: list[Any] = []

    def handler(*arguments: Any) -> None:
        calls.append(arguments)

    signal.signal(signal.SIGINT, handler)
    try:
        with Held():
            signal.raise_signal(signal.SIGINT)
            assert not calls
        assert [number for number, _ in calls] == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_who_ignores_interrupts_goes_on_to() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Held():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_have_nothing_to_hold() -> None:
    seen = []

    def look() -> None:
        with Held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(LIMIT)
    assert seen == [signal.default_int_handler]


def test_a_hook_ends_without_an_error_and_the_interrupt_comes_after_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        with HeldBeyond():
            signal.raise_signal(signal.SIGINT)
        threading.Event().wait(LIMIT)


class _Lock:
    """Is free after so many attempts."""

    def __init__(self, attempts: int) -> None:
        self.timeouts: list[float] = []
        self._attempts = attempts

    def acquire(self, timeout: float) -> bool:
        self.timeouts.append(timeout)
        return len(self.timeouts) > self._attempts


def test_a_wait_looks_up_again_and_again() -> None:
    lock = _Lock(attempts=3)
    assert interrupts.acquire(lock)
    assert lock.timeouts == [interrupts.LOOK_S] * 4
    lock = _Lock(attempts=3)
    assert interrupts.acquire(lock, 1000.0)
    assert lock.timeouts == [interrupts.LOOK_S] * 4


def test_a_wait_ends_in_time() -> None:
    lock = threading.Lock()
    assert interrupts.acquire(lock, 0.0)
    assert not interrupts.acquire(lock, 0.0)
    assert not interrupts.acquire(lock, -1.0)
    assert not interrupts.acquire(lock, 0.01)
    event = threading.Event()
    assert not interrupts.wait(event, 0.01)
    event.set()
    assert interrupts.wait(event, 0.0)
