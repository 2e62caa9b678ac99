"""Ctrl-C anywhere in a cancellation: the future ends all the same, and whoever waits hears of it,
once."""

from __future__ import annotations

import concurrent.futures as cf
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_forwarder import FakeForwarder
from interrupts import Interrupts, until_done

from fxhpc import Executor
from fxhpc.client.futures import callbacks, conditions, elements, futures
from fxhpc.client.futures.callbacks import Callbacks
from fxhpc.client.sending import groups, outbox, submitter
from tests.waiting import eventually

_MODULES = (callbacks, conditions, elements, futures, groups, outbox, submitter)


def _own(value: Any) -> Any:
    return value


class Waiters:
    """Everybody who may wait for a future: each in a thread of its own, and a callback."""

    def __init__(self, future: cf.Future[Any]) -> None:
        self.told: list[str] = []
        future.add_done_callback(lambda _: self.told.append("callback"))
        jobs: dict[str, Callable[[], object]] = {
            "result": lambda: future.exception(10),
            "wait": lambda: cf.wait([future], 10).done,
            "as_completed": lambda: list(cf.as_completed([future], 10)),
        }
        self._threads = [
            threading.Thread(target=self._run, args=item, daemon=True) for item in jobs.items()
        ]
        for thread in self._threads:
            thread.start()
        if isinstance(future, futures.TaskFuture):
            eventually(lambda: future._more().blocked)
        else:
            eventually(lambda: future._condition._waiters)  # type: ignore[attr-defined]
        eventually(lambda: len(future._waiters) == 2)

    def _run(self, name: str, job: Callable[[], object]) -> None:
        try:
            assert job()
        except cf.CancelledError:
            pass
        self.told.append(name)

    def check(self) -> None:
        """Everybody hears of it, once."""
        for thread in self._threads:
            thread.join(10.0)
        eventually(lambda: len(self.told) >= 4)
        assert sorted(self.told) == ["as_completed", "callback", "result", "wait"]


@pytest.fixture
def held(executor: Executor, forwarder: FakeForwarder) -> Iterator[Executor]:
    """An executor whose tasks do not begin."""
    forwarder.service.teach(_own)
    assert executor.submit(_own, 1).result(10) == 1
    forwarder.do(lambda: setattr(forwarder.service, "hold", True))
    yield executor
    forwarder.do(lambda: setattr(forwarder.service, "hold", False))
    forwarder.do(forwarder.service.run_held)
    executor.shutdown()  # which waits for what is counted, and was never ended


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_cancel(held: Executor, is_waited_for: bool) -> None:
    found: list[tuple[cf.Future[int], Waiters | None]] = []

    def prepare() -> None:
        future = held.submit(_own, 1)
        found.append((future, Waiters(future) if is_waited_for else None))

    prepare()
    for _ in until_done(_MODULES, 1, lambda: found[-1][0].cancel()):
        prepare()
    for future, waiters in found:
        assert future.cancel()
        assert future.cancelled()
        if waiters is not None:
            waiters.check()


def test_cancel_of_calls_of_a_chunk(held: Executor) -> None:
    found: list[tuple[list[cf.Future[int]], list[Waiters]]] = []

    def prepare() -> None:
        calls = held.map(_own, range(2), chunksize=2).futures
        assert not calls[0].cancel()
        found.append((calls, [Waiters(call) for call in calls]))

    prepare()
    for _ in until_done(_MODULES, 1, lambda: found[-1][0][1].cancel()):
        prepare()
    for calls, waiting in found:
        assert calls[1].cancel()
        eventually(lambda calls=calls: all(call.cancelled() for call in calls))
        for waiters in waiting:
            waiters.check()


@pytest.mark.parametrize("times", [1, 2])
def test_result(executor: Executor, forwarder: FakeForwarder, times: int) -> None:
    forwarder.service.teach(_own)
    place, interrupted = 0, True
    while interrupted:
        future = executor.submit(_own, place)
        cf.wait([future], 10)
        interrupted = Interrupts(_MODULES, place, times).run(future.result)
        assert future.result(10) == place
        place += 1
    assert place > 5


def test_a_condition_is_left_as_it_was_found() -> None:
    condition = conditions.Condition()

    def job() -> None:
        with condition:
            pass

    place = 0
    while Interrupts((conditions, threading), place).run(job):
        place += 1
        assert not condition._is_owned()  # type: ignore[attr-defined]
    with condition:
        assert not condition.wait(0.001)
        condition.notify_all()


@pytest.mark.parametrize("has_begun", [True, False])
def test_the_thread_of_callbacks_is_started_again(
    monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        if has_begun:
            start(thread)
        raise KeyboardInterrupt

    queue, called = Callbacks(), threading.Event()
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue.call(lambda: None)
    queue.call(called.set)
    assert called.wait(10.0)
    assert queue.wait_until_idle(10.0)
    mine = [one for one in threading.enumerate() if one.name == "fxhpc-callbacks"]
    assert sum(one is queue._thread for one in mine) == 1
