"""What can be seen of a task's future is what can be seen of `concurrent.futures.Future`."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from fake_forwarder import FakeForwarder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fxhpc import Executor
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.serialize import Chunk, pack_exception, pack_result
from tests.waiting import LIMIT, eventually

Future = cf.Future[Any]

#: What may be done to a future, or asked of it, without waiting.
STEPS = {
    "start": None,  # how it goes on is not the user's doing: see `Ours` and `Theirs`
    "return": None,
    "raise": None,
    "cancel": lambda future: future.cancel(),
    "done": lambda future: future.done(),
    "running": lambda future: future.running(),
    "cancelled": lambda future: future.cancelled(),
    "result": lambda future: future.result(0),
    "result in no time": lambda future: future.result(timeout=-1),
    "exception": lambda future: future.exception(timeout=0),
    "wait": lambda future: len(cf.wait([future], 0).done),
    "wait for a failure": lambda future: len(
        cf.wait([future], 0, return_when=cf.FIRST_EXCEPTION).done
    ),
    "as completed": lambda future: len(list(cf.as_completed([future], 0))),
}


class Theirs:
    """The standard library's, as its executors treat it."""

    def __init__(self) -> None:
        self.future: Future = Future()

    def notify(self) -> None:
        """What an executor does when it comes to a task that was cancelled."""
        if self.future.cancelled() and "NOTIFIED" not in self.future._state:
            self.future.set_running_or_notify_cancel()

    def go_on(self, step: str) -> None:
        future = self.future
        if future.done():
            return  # our tasks may end more than once, too
        if not future.running():
            future.set_running_or_notify_cancel()
        if step == "return":
            future.set_result(5)
        elif step == "raise":
            future.set_exception(ValueError("so"))


class Ours:
    """A task's, as its forwarder tells of it."""

    def __init__(self, executor: Executor) -> None:
        self.future: Any = executor.submit(int)
        self.group = self.future._group

    def go_on(self, step: str) -> None:
        index = self.future._index
        if step == "start":
            self.group.take_started([index])
        elif step == "return":
            self.group.end([Outcome(index, OutcomeKind.VALUE, pack_result(5, 100))])
        else:
            data = pack_exception(ValueError("so"), 10_000)
            self.group.end([Outcome(index, OutcomeKind.ERROR, data)])


class InChunk:
    """That of a call in a chunk."""

    def __init__(self, executor: Executor) -> None:
        values: Any = executor.map(int, ["5"], chunksize=2)
        self.chunk = values._entries[0].future
        (self.future,) = values.futures

    def go_on(self, step: str) -> None:
        group, index = self.chunk._group, self.chunk._index
        if step == "start":
            group.take_started([index])
            return
        was_done = self.chunk.done()
        if step == "return":
            chunk = Chunk(1, pack_result([5], 100))
            group.end([Outcome(index, OutcomeKind.VALUE, chunk.pack())])
        else:
            chunk = Chunk(1, failures={0: pack_exception(ValueError("so"), 10_000)})
            group.end([Outcome(index, OutcomeKind.ERROR, chunk.pack())])
        if not was_done:
            eventually(self.future.done)  # it is told in the thread of the callbacks


def seen(step: Callable[[], Any]) -> tuple[str, str]:
    try:
        value = step()
    except (Exception, cf.CancelledError) as error:
        kinds = (cf.CancelledError, cf.TimeoutError, ValueError)
        return "raises", next(kind.__name__ for kind in kinds if isinstance(error, kind))
    return "gives", type(value).__name__ if isinstance(value, Exception) else repr(value)


@settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=8), st.integers(0, 8))
@pytest.mark.parametrize("kind", [Ours, InChunk])
def test_whatever_is_done_is_seen_alike(
    executor: Executor,
    forwarder: FakeForwarder,
    kind: type[Ours | InChunk],
    steps: list[str],
    place: int,
) -> None:
    forwarder.service.hold = True
    theirs, ours = Theirs(), kind(executor)
    called: list[list[Future]] = [[], []]
    for number, step in enumerate(steps):
        if number == place:
            theirs.future.add_done_callback(called[0].append)
            ours.future.add_done_callback(called[1].append)
        look = STEPS[step]
        if look is None:
            theirs.go_on(step)
            ours.go_on(step)
        else:
            expected = seen(lambda look=look: look(theirs.future))  # type: ignore[misc]
            if step == "cancel":
                theirs.notify()
            assert seen(lambda look=look: look(ours.future)) == expected, step  # type: ignore[misc]
    eventually(lambda: len(called[0]) == len(called[1]))
    assert all(future is ours.future for future in called[1])
    ours.future.cancel()


def test_invalid_completions(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    future: Any = executor.submit(int)
    future.set_result(1)
    with pytest.raises(cf.InvalidStateError):
        future.set_result(2)
    with pytest.raises(cf.InvalidStateError):
        future.set_exception(ValueError())
    assert future.result(0) == 1


def test_futures_are_not_packed(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    future = executor.submit(int)
    with pytest.raises(TypeError, match=r"future.*result"):
        pickle.dumps(future)
    with pytest.raises(Exception, match=r"future.*result"):
        executor.submit(int, future)
    element = executor.map(abs, [1, 2], chunksize=2).futures[0]
    with pytest.raises(TypeError, match=r"future.*result"):
        pickle.dumps(element)


def test_futures_that_nobody_holds_go(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.teach(int)
    future = executor.submit(int)
    future.result(LIMIT)
    gone = weakref.ref(future)
    gc.disable()
    try:
        del future
        eventually(lambda: gone() is None)  # the connection's thread may still be at it
    finally:
        gc.enable()


def test_many_futures_go_without_the_collector(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    gc.collect()
    gc.disable()
    try:
        futures = [executor.submit(int) for _ in range(20_000)]
        group: Any = futures[0]
        ends = [Outcome(n, OutcomeKind.VALUE, pack_result(n, 100)) for n in range(20_000)]
        group._group.end(ends)
        last = weakref.ref(futures[-1])
        assert futures[-1].result(LIMIT) == 19_999
        del futures, group
        assert last() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("chunksize", [1, 3])
def test_asyncio_waits_for_calls_of_a_map(
    executor: Executor, forwarder: FakeForwarder, chunksize: int
) -> None:
    forwarder.service.teach(abs)  # type: ignore[arg-type]

    async def main() -> list[int]:
        futures = executor.map(abs, range(-6, 0), chunksize=chunksize).futures
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    assert asyncio.run(main()) == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_what_asyncio_of_python_3_14_reads_at_once(
    executor: Executor, forwarder: FakeForwarder, chunksize: int
) -> None:
    forwarder.service.teach(abs)  # type: ignore[arg-type]
    forwarder.service.hold = True
    given: list[Any] = [-1, "no number", -2]
    value, error, last = futures = executor.map(abs, given, chunksize=chunksize).futures
    read: Any = [future._get_snapshot for future in futures]  # type: ignore[attr-defined]
    assert read[0]() == (False, False, None, None)
    forwarder.do(forwarder.service.run_held)
    cf.wait(futures, LIMIT)
    assert read[0]() == (True, False, value.result(), None)
    assert read[1]() == (True, False, None, error.exception())
    assert read[2]() == (True, False, last.result(), None)
    forwarder.service.hold = True
    gone: Any = executor.submit(abs, -3)
    gone.cancel()
    assert gone._get_snapshot() == (True, True, None, None)


def test_a_callback_that_waits_for_another_task(executor: Executor) -> None:
    """It submits, and waits, in the thread of the callbacks: results come all the same."""
    found: list[Any] = []
    done = threading.Event()

    def then(future: Future) -> None:
        found.append(executor.submit(int, "7").result(LIMIT))
        done.set()

    executor.submit(int, "1").add_done_callback(then)
    assert done.wait(LIMIT)
    assert found == [7]


@pytest.fixture(autouse=True)
def _taught(forwarder: FakeForwarder) -> None:
    forwarder.service.teach(int)
