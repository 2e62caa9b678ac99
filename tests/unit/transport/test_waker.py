"""A loop is woken from another thread, and no wake-up is lost."""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Iterator

import pytest

from fxhpc.transport.waker import Waker


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def is_readable(waker: Waker) -> bool:
    return bool(select.select([waker], [], [], 0)[0])


def test_a_wake_costs_nothing_while_the_loop_is_awake(waker: Waker) -> None:
    waker.wake()
    assert not is_readable(waker)


def test_an_armed_loop_is_woken_once(waker: Waker) -> None:
    waker.arm()
    waker.wake()
    waker.wake()
    assert is_readable(waker)
    waker.clear()
    assert not is_readable(waker)
    waker.clear()


def test_wake_after_close_does_nothing(waker: Waker) -> None:
    waker.arm()
    waker.close()
    waker.wake()
    waker.close()


def test_no_wake_up_is_lost(waker: Waker) -> None:
    queue: deque[int] = deque()
    total = 20_000

    def produce() -> None:
        for number in range(total):
            queue.append(number)
            waker.wake()

    thread = threading.Thread(target=produce)
    thread.start()
    seen = 0
    while seen < total:
        waker.arm()
        if not queue:
            ready, _, _ = select.select([waker], [], [], 5)
            assert ready or queue, "slept through a wake-up"
        waker.clear()
        while queue:
            queue.popleft()
            seen += 1
    thread.join()
